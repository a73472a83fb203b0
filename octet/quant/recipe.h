// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "octet/quant/activation_scales.h"
#include "octet/tensor/scheme.h"

namespace octet {

/// What quantization does to a model, as data: which layers, and how. Read from JSON:
///
///   {
///     "name": "mine",
///     "weights":     {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32,
///     "row"],
///                     "symmetric": true, "range": "mse"},
///     "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"},      null or left out: float
///     "activation_scales": "scales.json",                         of static activations: a file, or its content
///     "embeddings":  8,                                                               null or left out: float
///     "attention":   8,                                                               null or left out: float
///     "include":     ["*"],                                       layer names; * is any run of characters, ? any one
///     "exclude":     ["encoder.layer.0.*"],
///     "overrides":   [{"match": "*.output.dense", "activations": null}]               the last that matches counts
///   }
///
///   bits                  8 (left out: 8) or 4
///   granularity           "per_channel", one scale an output, or "per_group", one for each group_size inputs
///   group_size            32, 64, 128 or 256, "per_group" only
///   group_size_fallback   what to try in turn where group_size does not divide a layer's inputs; "row" is one scale an
///                         output. Left out or exhausted, such a layer is an error.
///   symmetric             false: a zero point beside each scale; 4 bits only
///   minima                true: instead a real minimum beside each scale; 4 bits only. Such weights are quantized
///                         while loading; the compressed-tensors layout has no place for them. Left out: false
///   range                 "absmax", or "mse", a search for the range with the least squared error. Left out: "mse" at
///                         4 bits, "absmax" at 8, where the search gains nothing
///
///   mode                  of activations: "dynamic", a scale for each token ("per_token"), found when it is met; or
///                         "static", one for all ("per_tensor"), which activation_scales has (see ActivationScales);
///                         "symmetric": false there is UINT8 with a zero point
///
/// An unknown key, a value that is not offered, or an impossible combination is a FormatError that names it.
/// Recipes speak of a model's block layers. With "embeddings": 8, the table of input embeddings is stored in 8 bits
/// with one scale an entry, and so is the output head, which reads what "activations" says; else both stay float. With
/// "attention": 8, both products of every attention are in INT8, one scale a token and head, and so are a cache's keys
/// and values.
///
/// A recipe without "weights" and "embeddings" may be applied to a checkpoint that is quantized already: its codes
/// stay, and products with them read what "activations" says, that of a quantized output head included.
class Recipe {
 public:
  /// A built-in recipe by name, or else a JSON file; `settings` are key=value pairs (--set weights.bits=8) applied to
  /// the JSON before it is read. Values are JSON, or plain text where they do not parse. Throws UsageError for a name
  /// that is neither, or a setting that is not key=value.
  static Recipe load(const std::string& name_or_file, std::span<const std::string> settings);
  /// `source` names the text in errors.
  static Recipe parse(std::string_view json, const std::string& source, std::span<const std::string> settings = {});
  /// The built-in recipes for float models, 8 bits first, then 4; or those for models that are quantized already.
  enum class AppliesTo : uint8_t { kFloat, kQuantized };
  static std::vector<std::string> built_in_names(AppliesTo models = AppliesTo::kFloat);

  const std::string& name() const noexcept { return name_; }
  /// The JSON that it was read from, settings applied.
  const std::string& text() const noexcept { return text_; }
  /// The scheme for a layer of `inputs` inputs; none where the recipe leaves it in float. Throws ShapeError, naming the
  /// layer, where neither group_size nor a fallback divides the inputs.
  std::optional<Scheme> scheme_for(std::string_view layer, int64_t inputs) const;
  /// Whether it makes codes of any float weight; the others only say what products with stored codes read.
  bool quantizes_weights() const noexcept;
  /// What the product with a layer's stored codes is to read; none where the recipe does not say.
  std::optional<ActivationMode> activations_for(std::string_view layer) const;
  /// The scale that a static `mode` has for a layer. Throws UsageError, naming the layer, where there is none.
  ActivationScale activation_scale(std::string_view layer, ActivationMode mode) const;
  /// The scheme of input embeddings and output head; none where they stay float.
  std::optional<Scheme> embedding_scheme() const;
  /// How products of attention are computed: kDynamicPerToken is INT8 on both sides.
  ActivationMode attention() const noexcept { return attention_; }
  /// The group size that the recipe would like the layer to have, 0 for whole rows, before any fallback; none where it
  /// leaves the layer in float.
  std::optional<int64_t> asked_group_size(std::string_view layer) const;
  /// Patterns of include, exclude and overrides that match none of `layers`, and names of activation_scales that are
  /// none of them: to be reported, as they are often typing errors.
  std::vector<std::string> unmatched_patterns(std::span<const std::string> layers) const;

 private:
  struct Weights {
    WeightScheme scheme;
    std::vector<int64_t> fallback;  ///< group sizes; 0 is a whole row
  };
  struct Layer {
    Weights weights;
    ActivationMode activations;
  };
  /// A scheme of which either half may be left open: a recipe's own is the base that its overrides change.
  struct Override {
    std::string match;
    std::optional<std::optional<Weights>> weights;  ///< outer: said at all; inner: none is float
    std::optional<ActivationMode> activations;
  };

  static Recipe from_json(const nlohmann::json& json, const std::string& source);
  static std::optional<Weights> read_weights(const nlohmann::json& value, const std::string& where);
  static ActivationScales read_scales(const nlohmann::json& value, const std::string& where);
  bool takes(std::string_view layer) const;
  std::optional<Layer> find(std::string_view layer) const;

  std::string name_, text_;
  std::optional<Weights> weights_;
  ActivationMode activations_ = ActivationMode::kFloat;
  ActivationScales scales_;
  ActivationMode attention_ = ActivationMode::kFloat;
  bool embeddings_ = false;
  std::vector<std::string> include_, exclude_;
  std::vector<Override> overrides_;
};

/// Whether `text` matches `pattern`, in which * stands for any run of characters and ? for any one.
bool glob_match(std::string_view pattern, std::string_view text) noexcept;

}  // namespace octet

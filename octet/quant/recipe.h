// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "octet/quant/activation_scales.h"
#include "octet/quant/outlier_columns.h"
#include "octet/quant/range_estimator.h"
#include "octet/quant/weight_algorithm.h"
#include "octet/tensor/scheme.h"

namespace octet {

/// Factors that move from what layers read into their weights (see FoldPair), so that both quantize well.
struct FoldOptions {
  enum class Method : uint8_t {
    kSmoothQuant,  ///< Xiao et al., 2023
    kAwq,          ///< Lin et al., 2024; its exponent is always searched for
  };

  Method method = Method::kSmoothQuant;
  std::optional<double> alpha = 0.5;  ///< of kSmoothQuant, from 0 to 1; none: searched for
};

/// How much of a text calibration reads.
struct CalibrationOptions {
  int64_t samples = 128;
  int64_t sequence_length = 512;  ///< tokens of a sample at most
  uint64_t seed = 0;              ///< by which samples are chosen

  friend bool operator==(const CalibrationOptions&, const CalibrationOptions&) = default;
};

/// What quantization does to a model, as data: which layers, and how. Read from JSON:
///
///   {
///     "name": "mine",
///     "weights":     {"bits": 4, "granularity": "per_group", "group_size": 128, "group_size_fallback": [64, 32,
///     "row"],
///                     "symmetric": true, "range": "mse", "algorithm": "gptq", "act_order": true},
///     "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"},      null or left out: float
///     "activation_scales": "scales.npz",                              of static activations: a file, or its content
///     "outliers":    {"threshold": 6.0, "max_columns": 64, "max_share": 0.05},        null or left out: none
///     "fold":        {"method": "smoothquant", "alpha": 0.5},                         null or left out: nothing
///     "bias_correction": true,                                                        left out: false
///     "calibration": {"samples": 128, "sequence_length": 512, "seed": 0},
///     "embeddings":  8,                 null or left out: float; or 4, or {"bits": 4, "granularity": "per_channel", …}
///     "attention":   8,                     null or left out: float; or {"bits": 8, "mode": "static", "range": "mse"},
///                                                                  and in place of "bits" "qk_bits" and "v_bits"
///     "include":     ["*"],                                       layer names; * is any run of characters, ? any one
///     "exclude":     ["encoder.layer.0.*"],
///     "overrides":   [{"match": "*.output.dense", "activations": null}]               the last that matches counts;
///                                                                "optional": true in one: it may match no layer;
///                                                                "outliers": null in one: none of its layers' inputs
///   }
///
///   bits                  2 to 8 (left out: 8). Codes of up to 4 bits are stored and multiplied as those of 4, others
///                         as those of 8: fewer bits make a model neither smaller nor faster, they show what it would
///                         do where there are products of them
///   granularity           "per_channel", one scale an output, or "per_group", one for each group_size inputs
///   group_size            32, 64, 128 or 256, "per_group" only
///   group_size_fallback   what to try in turn where group_size does not divide a layer's inputs; "row" is one scale an
///                         output. Left out or exhausted, such a layer is an error.
///   symmetric             false: a zero point beside each scale
///   minima                true: instead a real minimum beside each scale; up to 4 bits. Such weights are quantized
///                         while loading; the compressed-tensors layout has no place for them. Left out: false
///   range                 "absmax"; "mse", a search for the range with the least squared error; or "sawb", the range
///                         that mean magnitude and mean square say (see quantize_weight; not of 6 bits). Left out:
///                         "absmax" at 8 bits, where the search gains nothing, else "mse"
///
///   algorithm             how codes are found (see WeightAlgorithm): "rtn", rounded to nearest, "gptq", "hessian",
///   "hqq".
///                         Left out: "rtn"
///   block_size, percdamp, act_order, static_groups
///                         of "gptq", see WeightAlgorithmOptions. Left out: 128, 0.01, false, false
///   true_sequential       of "gptq" and "hessian": layers of a block one after another, each with what those before it
///                         give when they are quantized; left out: true. Else all of a block are quantized at once
///
///   mode                  of activations: "dynamic", a scale for each token ("per_token"), found when it is met; or
///                         "static", one for all ("per_tensor"), which activation_scales has (see ActivationScales) or
///                         calibration finds; "symmetric": false there is UINT8 with a zero point. "bits" of static
///                         ones may be 2 to 8, those of dynamic ones are 8
///   range                 how calibration finds a static range: "minmax", "moving_average", "percentile", "mse",
///                         "entropy", or "best", the one of these with the least error (see RangeMethod). Left out:
///                         "best"
///   percentile            of "percentile" and "best", from 99 to 99.9999; left out: 99.99
///
///   threshold             of outliers: columns of a layer's input where calibration meets a larger magnitude stay in
///                         float, as those of its weight do in 16 bits, and out of what scales cover (Dettmers et al.,
///                         2022); left out: 6
///   max_columns, max_share
///                         so many of them at most, the largest, and such a share of a layer's inputs; left out: all
///   columns               instead of these: the columns that stay, by layer, a JSON file or its content (see
///                         OutlierColumns)
///   method                of fold: "smoothquant", with an "alpha" from 0 to 1 or "search", left out 0.5; or "awq"
///   bias_correction       what a quantized weight adds to its outputs on average is taken off its bias, where it has
///   one samples, sequence_length, seed
///                         of calibration, see CalibrationOptions
///
/// An unknown key, a value that is not offered, or an impossible combination is a FormatError that names it.
/// Recipes speak of a model's block layers. With "embeddings", the table of input embeddings is quantized, and so is
/// the output head, which reads what "activations" says; else both stay float. It is an object with the keys of
/// "weights" from "bits" to "range", or short for one: 8 is one scale an entry, 4 groups of 32, or one scale an entry
/// where 32 does not divide its width. With "attention": 8, both products of every attention are in INT8, one scale a
/// token and head, and so are a cache's keys and values. With "mode": "static" queries, keys and values of a layer have
/// one scale each, which activation_scales has by the names MODULE.q, .k and .v ("model.layers.0.self_attn.k"), or
/// calibration finds by the "range" (left out: "mse"; all but "best") and the "percentile" that activations have too;
/// their bits may be 2 to 8, those of queries and keys ("qk_bits") other than those of values ("v_bits").
///
/// Some recipes need calibration data (see needs_data): they are for octet quantize, not for quantizing while loading.
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
  /// The built-in recipes for float models, 8 bits first, then 4; those of them that only octet quantize applies;
  /// those for models that are quantized already; or those that octet train trains for.
  enum class AppliesTo : uint8_t { kFloat, kFloatOffline, kQuantized, kTraining };
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
  /// The bits of these codes: 8, or of static ones any.
  int activation_bits(std::string_view layer) const;
  /// The scale that a static `mode`, with codes of so many bits, has for a layer. Throws UsageError, naming the layer,
  /// where there is none; a recipe that is to be calibrated gives the scale 1.
  ActivationScale activation_scale(std::string_view layer, ActivationMode mode, int bits = 8) const;
  /// Whether activation_scales has one.
  bool has_scale(std::string_view layer) const { return scales_.find(layer) != nullptr; }

  /// Columns of a layer's input that stay in float, ascending, where they are given; else how calibration finds them,
  /// where some may.
  std::span<const int32_t> outlier_columns(std::string_view layer) const;
  std::optional<OutlierOptions> outliers(std::string_view layer) const;
  bool keeps_outliers() const noexcept { return finds_outliers() || !outlier_columns_.empty(); }

  /// How the codes of a layer's weight are found, and whether those before it in its block are quantized by then.
  WeightAlgorithmOptions weight_algorithm(std::string_view layer) const;
  bool true_sequential(std::string_view layer) const;
  /// How calibration finds the range of a layer's static activations.
  RangeOptions activation_range(std::string_view layer) const;
  const std::optional<FoldOptions>& fold() const noexcept { return fold_; }
  bool bias_correction() const noexcept { return bias_correction_; }
  const CalibrationOptions& calibration() const noexcept { return calibration_; }
  /// What in it needs calibration data, static scales aside: "GPTQ"; "" if nothing does.
  std::string needs_data() const;
  /// Whether weights are made by more than rounding to nearest, which is not done while loading.
  bool is_offline() const;
  /// The same recipe to load a model by whose scales, folds and weights are found afterwards.
  Recipe to_be_calibrated() const;
  bool is_to_be_calibrated() const noexcept { return to_be_calibrated_; }
  /// Whether input embeddings and output head are quantized.
  bool quantizes_embeddings() const noexcept { return embeddings_.has_value(); }
  /// The scheme of the input embedding or output head `layer` of vectors of `width`; none where they stay float. Throws
  /// as scheme_for does.
  std::optional<Scheme> embedding_scheme(std::string_view layer, int64_t width) const;
  /// How products of attention are computed: in INT8 on both sides, with scales found on the way (kDynamicPerToken) or
  /// fixed (kStaticPerTensor), or in float.
  ActivationMode attention() const noexcept { return attention_; }
  AttentionBits attention_bits() const noexcept { return attention_bits_; }
  /// How calibration finds the ranges of static attention.
  const RangeOptions& attention_range() const noexcept { return attention_range_; }
  /// The scale that activation_scales has for an operand of static attention; else as activation_scale.
  float attention_scale(const std::string& operand) const;
  /// The group size that the recipe would like the layer to have, 0 for whole rows, before any fallback; none where it
  /// leaves the layer in float.
  std::optional<int64_t> asked_group_size(std::string_view layer) const;
  /// Patterns of include, exclude and overrides that match none of `layers`, and names of activation_scales and of
  /// outliers' columns that are none of them, nor of `operands` of attention: to be reported, as they are often typing
  /// errors.
  std::vector<std::string> unmatched_patterns(std::span<const std::string> layers,
                                              std::span<const std::string> operands = {}) const;

 private:
  struct Grid {
    WeightScheme scheme;
    std::vector<int64_t> fallback;  ///< group sizes; 0 is a whole row
  };
  struct Weights : Grid {
    WeightAlgorithmOptions algorithm;
    bool true_sequential = true;
  };
  struct Activations {
    ActivationMode mode = ActivationMode::kFloat;
    RangeOptions range = {.method = RangeMethod::kBest};  ///< and the bits
  };
  struct Layer {
    Weights weights;
    Activations activations;
    std::optional<OutlierOptions> outliers;
  };
  /// A scheme of which either half may be left open: a recipe's own is the base that its overrides change.
  struct Override {
    std::string match;
    std::optional<std::optional<Weights>> weights;  ///< outer: said at all; inner: none is float
    std::optional<Activations> activations;
    std::optional<std::optional<OutlierOptions>> outliers;  ///< likewise
    bool optional = false;                                  ///< may match no layer
  };

  static Recipe from_json(const nlohmann::json& json, const std::string& source);
  static std::optional<Grid> read_embeddings(const nlohmann::json& value, const std::string& where);
  static std::optional<Weights> read_weights(const nlohmann::json& value, const std::string& where);
  static Activations read_activations(const nlohmann::json& value, const std::string& where);
  void read_attention(const nlohmann::json& value, const std::string& where);
  static std::optional<FoldOptions> read_fold(const nlohmann::json& value, const std::string& where);
  static CalibrationOptions read_calibration(const nlohmann::json& value, const std::string& where);
  static ActivationScales read_scales(const nlohmann::json& value, const std::string& where);
  void read_outliers(const nlohmann::json& value, const std::string& where);
  static std::optional<OutlierOptions> read_outlier_search(const nlohmann::json& value, const std::string& where);
  bool finds_outliers() const noexcept;
  bool takes(std::string_view layer) const;
  /// Of everything that the recipe says of weights, anywhere.
  bool any_weights(const std::function<bool(const Weights&)>& holds) const;
  std::optional<Layer> find(std::string_view layer) const;
  /// None where the recipe does not say what the layer reads.
  std::optional<Activations> said_activations(std::string_view layer) const;
  /// The scheme for `inputs` inputs.
  Scheme fit(const Grid& grid, const Activations& activations, std::string_view layer, int64_t inputs) const;

  std::string name_, text_;
  std::optional<Weights> weights_;
  Activations activations_;
  ActivationScales scales_;
  std::optional<OutlierOptions> outliers_;
  OutlierColumns outlier_columns_;
  std::optional<FoldOptions> fold_;
  bool bias_correction_ = false;
  CalibrationOptions calibration_;
  bool to_be_calibrated_ = false;
  ActivationMode attention_ = ActivationMode::kFloat;
  AttentionBits attention_bits_;
  RangeOptions attention_range_ = {.method = RangeMethod::kMse};
  std::optional<Grid> embeddings_;
  std::vector<std::string> include_, exclude_;
  std::vector<Override> overrides_;
};

/// Whether `text` matches `pattern`, in which * stands for any run of characters and ? for any one.
bool glob_match(std::string_view pattern, std::string_view text) noexcept;

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "octet/tensor/scheme.h"

namespace octet {

/// What quantization does to a model, as data: which layers, and how. Read from JSON:
///
///   {
///     "name": "mine",
///     "weights":     {"bits": 8, "granularity": "per_channel", "symmetric": true},
///     "activations": {"bits": 8, "granularity": "per_token", "mode": "dynamic"},      null or left out: float
///     "include":     ["*"],                                       layer names; * is any run of characters, ? any one
///     "exclude":     ["encoder.layer.0.*"],
///     "overrides":   [{"match": "*.output.dense", "activations": null}]               the last that matches counts
///   }
///
/// An unknown key, a value that is not offered, or an impossible combination is a FormatError that names it.
/// Recipes speak of a model's block layers; embeddings and output heads stay float.
class Recipe {
 public:
  /// A built-in recipe by name, or else a JSON file; `settings` are key=value pairs (--set weights.bits=8) applied to
  /// the JSON before it is read. Values are JSON, or plain text where they do not parse. Throws UsageError for a name
  /// that is neither, or a setting that is not key=value.
  static Recipe load(const std::string& name_or_file, std::span<const std::string> settings);
  /// `source` names the text in errors.
  static Recipe parse(std::string_view json, const std::string& source, std::span<const std::string> settings = {});
  static std::vector<std::string> built_in_names();

  const std::string& name() const noexcept { return name_; }
  /// The scheme for a layer; none where the recipe leaves it in float.
  std::optional<Scheme> scheme_for(std::string_view layer) const;
  /// Patterns of include, exclude and overrides that match none of `layers`: to be reported, as they are often typing
  /// errors.
  std::vector<std::string> unmatched_patterns(std::span<const std::string> layers) const;

 private:
  /// A scheme of which either half may be left open: a recipe's own is the base that its overrides change.
  struct Override {
    std::string match;
    std::optional<std::optional<WeightScheme>> weights;  ///< outer: said at all; inner: none is float
    std::optional<ActivationMode> activations;
  };

  static Recipe from_json(const nlohmann::json& json, const std::string& source);

  std::string name_;
  std::optional<WeightScheme> weights_;
  ActivationMode activations_ = ActivationMode::kFloat;
  std::vector<std::string> include_, exclude_;
  std::vector<Override> overrides_;
};

/// Whether `text` matches `pattern`, in which * stands for any run of characters and ? for any one.
bool glob_match(std::string_view pattern, std::string_view text) noexcept;

}  // namespace octet

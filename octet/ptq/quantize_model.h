// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/models/model.h"
#include "octet/quant/recipe.h"

namespace octet {

/// What became of one linear layer.
struct LayerReport {
  std::string name;
  std::optional<Scheme> scheme;  ///< none: kept in float
  int64_t bytes_before = 0, bytes_after = 0;
  double relative_error = 0;  ///< ‖W - Q‖ / ‖W‖
};

/// Layers whose inputs the recipe's group size does not divide, so that a fallback was taken.
struct GroupFallback {
  int64_t asked = 0, inputs = 0;
  int64_t taken = 0;   ///< 0: one scale a row
  int64_t layers = 0;  ///< of so many inputs
};

/// In the order of the forward pass.
std::vector<GroupFallback> group_fallbacks(const Recipe& recipe, const Model& model);
/// "group_size 128 does not divide 576 inputs: 64 taken in 120 layers"
std::string to_string(const GroupFallback& fallback);

struct QuantizeReport {
  std::vector<LayerReport> layers;              ///< in the order of the forward pass
  std::vector<std::string> unmatched_patterns;  ///< of the recipe: they name no layer of this model
  std::vector<GroupFallback> group_fallbacks;
  int64_t bytes_before = 0, bytes_after = 0;  ///< of all tensors
};

/// Quantizes the float model in `checkpoint` by `recipe` and writes a Hugging Face directory: model.safetensors and
/// config.json in the compressed-tensors layout, every other tensor as it was, tokenizer and other files copied. Holds
/// the scales of all layers, but the codes of one. `out` must not exist; it appears whole or not at all. `advance(done,
/// total)` follows the layers.
QuantizeReport quantize_model(const Checkpoint& checkpoint, const Recipe& recipe, const std::filesystem::path& out,
                              const std::function<void(int64_t done, int64_t total)>& advance = {});

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/quant/recipe.h"

namespace octet {

/// What became of one linear layer.
struct LayerReport {
  std::string name;
  std::optional<Scheme> scheme;  ///< none: kept in float
  int64_t bytes_before = 0, bytes_after = 0;
  double relative_error = 0;  ///< ‖W - Q‖ / ‖W‖
};

struct QuantizeReport {
  std::vector<LayerReport> layers;              ///< in the order of the forward pass
  std::vector<std::string> unmatched_patterns;  ///< of the recipe: they name no layer of this model
  int64_t bytes_before = 0, bytes_after = 0;    ///< of all tensors
};

/// Quantizes the float model in `checkpoint` by `recipe` and writes a Hugging Face directory: model.safetensors and
/// config.json in the compressed-tensors layout, every other tensor as it was, tokenizer and other files copied.
/// `out` must not exist; it appears whole or not at all. `advance(done, total)` follows the layers.
QuantizeReport quantize_model(const Checkpoint& checkpoint, const Recipe& recipe, const std::filesystem::path& out,
                              const std::function<void(int64_t done, int64_t total)>& advance = {});

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace octet {

/// What a recipe is to say of one layer: the values of "weights" and "activations", null for float.
struct LayerSetting {
  std::string layer;
  nlohmann::json weights, activations;
};

/// A recipe as data, to be written.
struct RecipeContent {
  std::string name;
  std::vector<LayerSetting> layers;      ///< all that recipes speak of, in the order of the forward pass
  int embedding_bits = 0;                ///< 8 or 4; 0: float
  nlohmann::json head_activations = {};  ///< then: what an output head reads; null: float
  bool attention = false;                ///< in 8 bits
  nlohmann::json calibration = {};       ///< for algorithms that need data; null: nothing is said of it
};

/// Its JSON: what most layers have as the recipe's own scheme, and overrides for the others, of patterns where all
/// layers that match have the same: those of one name in all blocks ("model.layers.*.mlp.down_proj"), those of a block.
std::string write_recipe(const RecipeContent& content);

}  // namespace octet

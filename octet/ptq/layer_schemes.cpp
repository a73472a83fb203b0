// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/layer_schemes.h"

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

using nlohmann::json;

// What a recipe says that is no scheme of a layer; "" where there is nothing.
std::string foreign_key(const Recipe& recipe) {
  const json content = parse_json(recipe.text(), recipe.name());
  for (const auto& [key, value] : content.items()) {
    if (value.is_null() || key == "name" || key == "calibration") continue;
    if (key == "weights") {
      // Blocks learn that, not layers.
      const std::string algorithm = value.value("algorithm", "");
      if (algorithm == "adaround" || algorithm == "signround") return "weights.algorithm=" + algorithm;
    } else if (key == "activations") {
      if (value.value("mode", "dynamic") == "static") return "activations.mode";
    } else {
      return key;
    }
  }
  return "";
}

}  // namespace

bool is_layer_scheme(const Recipe& recipe) { return foreign_key(recipe).empty() && recipe.quantizes_weights(); }

void check_is_layer_scheme(const Recipe& recipe) {
  const std::string key = foreign_key(recipe);
  if (key.empty() && recipe.quantizes_weights()) return;
  fail<UsageError>(
      "recipe '{}' {}. Schemes to try layer by layer have weights, and perhaps dynamic activations, and nothing that "
      "holds for several layers.",
      recipe.name(), key.empty() ? "quantizes no weights" : "says '" + key + "'");
}

std::optional<CalibrationOptions> common_calibration(std::span<const Recipe> schemes) {
  const Recipe* first = nullptr;
  for (const Recipe& recipe : schemes) {
    if (recipe.needs_data().empty()) continue;
    if (first == nullptr) first = &recipe;
    if (recipe.calibration() == first->calibration()) continue;
    fail<UsageError>(
        "recipes '{}' and '{}' say different things of \"calibration\"; layers can choose between schemes that say the "
        "same",
        first->name(), recipe.name());
  }
  return first == nullptr ? std::nullopt : std::optional(first->calibration());
}

std::vector<Recipe> built_in_layer_schemes(Recipe::AppliesTo models) {
  std::vector<Recipe> schemes;
  for (const std::string& name : Recipe::built_in_names(models)) {
    Recipe recipe = Recipe::load(name, {});
    if (is_layer_scheme(recipe)) schemes.push_back(std::move(recipe));
  }
  return schemes;
}

}  // namespace octet

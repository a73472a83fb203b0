// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/layer_schemes.h"

#include <nlohmann/json.hpp>

#include "octet/base/error.h"

namespace octet {
namespace {

using nlohmann::json;

// What a recipe says that is no scheme of a layer, or needs data; "" where there is nothing.
std::string foreign_key(const Recipe& recipe) {
  const json content = json::parse(recipe.text());
  for (const auto& [key, value] : content.items()) {
    if (value.is_null() || key == "name") continue;
    if (key == "weights") {
      if (value.value("algorithm", "rtn") != "rtn") return "weights.algorithm";
    } else if (key == "activations") {
      if (value.value("mode", "dynamic") == "static") return "activations.mode";
    } else {
      return key;
    }
  }
  return "";
}

}  // namespace

void check_is_layer_scheme(const Recipe& recipe) {
  const std::string key = foreign_key(recipe);
  if (key.empty() && recipe.quantizes_weights()) return;
  fail<UsageError>(
      "recipe '{}' {}. Schemes to try layer by layer have weights, and perhaps dynamic activations, and "
      "need no data.",
      recipe.name(), key.empty() ? "quantizes no weights" : "says '" + key + "'");
}

std::vector<Recipe> built_in_layer_schemes() {
  std::vector<Recipe> schemes;
  for (const std::string& name : Recipe::built_in_names()) {
    Recipe recipe = Recipe::load(name, {});
    if (foreign_key(recipe).empty()) schemes.push_back(std::move(recipe));
  }
  return schemes;
}

}  // namespace octet

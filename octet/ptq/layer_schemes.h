// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "octet/quant/recipe.h"

namespace octet {

/// Whether a recipe is a scheme that layers can be given one by one: weights, by any algorithm, and perhaps dynamic
/// activations. One with patterns is none, nor one that has more than that, such as a fold, which couples layers, or
/// static activations.
bool is_layer_scheme(const Recipe& recipe);
/// Throws UsageError, naming the key, for a recipe that is none.
void check_is_layer_scheme(const Recipe& recipe);

/// What those of the schemes calibrate on whose algorithm needs data, which must be one thing, as recipes say it once
/// for all layers; none where no scheme does. Throws UsageError where two differ.
std::optional<CalibrationOptions> common_calibration(std::span<const Recipe> schemes);

/// The built-in recipes that are: those that quantize while loading, or those that only octet quantize applies.
std::vector<Recipe> built_in_layer_schemes(Recipe::AppliesTo models = Recipe::AppliesTo::kFloat);

}  // namespace octet

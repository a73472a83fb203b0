// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "octet/quant/recipe.h"

namespace octet {

/// Throws UsageError for a recipe that is no scheme that layers can be given one by one: one with overrides or other
/// patterns, with more than weights and activations, or in need of data.
void check_is_layer_scheme(const Recipe& recipe);

/// The built-in recipes that are.
std::vector<Recipe> built_in_layer_schemes();

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/layer_schemes.h"

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

TEST(LayerSchemes, RecipesOfMoreThanLayersAreNone) {
  EXPECT_FALSE(built_in_layer_schemes().empty());
  for (const Recipe& recipe : built_in_layer_schemes()) EXPECT_NO_THROW(check_is_layer_scheme(recipe)) << recipe.name();
  const auto check = [](const char* text) { check_is_layer_scheme(Recipe::parse(text, "mine")); };
  EXPECT_THROW(check(R"({"weights": {"bits": 8}, "exclude": ["a.*"]})"), UsageError);
  EXPECT_THROW(check(R"({"weights": {"bits": 8}, "overrides": [{"match": "a", "weights": null}]})"), UsageError);
  EXPECT_THROW(check(R"({"weights": {"bits": 8}, "embeddings": 8})"), UsageError);
  EXPECT_THROW(check(R"({"weights": {"bits": 8}, "activations": {"mode": "static"}})"), UsageError);
  EXPECT_THROW(check(R"({"embeddings": 8})"), UsageError);
}

}  // namespace
}  // namespace octet

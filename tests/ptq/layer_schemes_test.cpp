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
  EXPECT_THROW(check(R"({"weights": {"bits": 8}, "fold": {"method": "smoothquant"}})"), UsageError);
  EXPECT_THROW(check(R"({"weights": {"bits": 8}, "bias_correction": true})"), UsageError);
  EXPECT_THROW(check(R"({"weights": {"bits": 4, "algorithm": "signround"}})"), UsageError);
}

TEST(LayerSchemes, AnyAlgorithmIsOneAndAllCalibrateAlike) {
  std::vector<Recipe> schemes = built_in_layer_schemes(Recipe::AppliesTo::kFloatOffline);
  std::vector<std::string> names;
  for (const Recipe& recipe : schemes) names.push_back(recipe.name());
  EXPECT_EQ(names, (std::vector<std::string>{"w4a16_g128_gptq", "w4a16_g32_gptq", "w4a16_g128_hqq", "w4a8_g128_gptq"}));
  EXPECT_EQ(common_calibration(built_in_layer_schemes()), std::nullopt);
  EXPECT_EQ(common_calibration(schemes), CalibrationOptions());
  const std::vector<std::string> fewer = {"calibration.samples=7"};
  schemes.push_back(Recipe::load("w4a16_g128_hqq", fewer));  // needs none
  EXPECT_EQ(common_calibration(schemes), CalibrationOptions());
  schemes.push_back(Recipe::load("w4a16_g128_gptq", fewer));
  EXPECT_THROW(common_calibration(schemes), UsageError);
}

}  // namespace
}  // namespace octet

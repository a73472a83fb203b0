// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/recipe_writer.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/json.h"
#include "octet/quant/recipe.h"

namespace octet {
namespace {

using nlohmann::json;

const json kDynamic = {{"bits", 8}, {"granularity", "per_token"}, {"mode", "dynamic"}};
const json kEight = {{"bits", 8}, {"granularity", "per_channel"}};
const json kFour = {{"bits", 4}, {"granularity", "per_group"}, {"group_size", 32}};

std::vector<LayerSetting> layers_of(int blocks) {
  std::vector<LayerSetting> layers;
  for (int block = 0; block < blocks; ++block) {
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      layers.push_back({"model.layers." + std::to_string(block) + "." + name, kEight, kDynamic});
  }
  return layers;
}

// What the written recipe does to each layer is what was asked.
void expect_says(const RecipeContent& content) {
  const std::string text = write_recipe(content);
  SCOPED_TRACE(text);
  const Recipe recipe = Recipe::parse(text, "written");
  EXPECT_EQ(recipe.name(), content.name);
  EXPECT_EQ(recipe.quantizes_embeddings(), content.embedding_bits != 0);
  if (content.embedding_bits != 0) {
    EXPECT_EQ(recipe.embedding_scheme("words", 64)->weight.bits, content.embedding_bits);
    EXPECT_EQ(recipe.embedding_scheme("words", 64)->activations,
              content.head_activations.is_null() ? ActivationMode::kFloat : ActivationMode::kDynamicPerToken);
  }
  EXPECT_EQ(recipe.attention() != ActivationMode::kFloat, content.attention);
  std::vector<std::string> names;
  for (const LayerSetting& layer : content.layers) {
    names.push_back(layer.layer);
    const std::optional<Scheme> scheme = recipe.scheme_for(layer.layer, 64);
    ASSERT_EQ(scheme.has_value(), !layer.weights.is_null()) << layer.layer;
    if (!scheme) continue;
    EXPECT_EQ(scheme->weight.bits, layer.weights.at("bits")) << layer.layer;
    EXPECT_EQ(scheme->activations != ActivationMode::kFloat, !layer.activations.is_null()) << layer.layer;
  }
  EXPECT_TRUE(recipe.unmatched_patterns(names).empty());
}

size_t overrides(const RecipeContent& content) {
  const json recipe = parse_json(write_recipe(content), "the test");
  return recipe.contains("overrides") ? recipe["overrides"].size() : 0;
}

TEST(RecipeWriter, LayersThatAreAlikeNeedNoOverrides) {
  RecipeContent content{.name = "alike", .layers = layers_of(12)};
  expect_says(content);
  EXPECT_EQ(overrides(content), 0);
  content.embedding_bits = 4;
  content.attention = true;
  content.head_activations = kDynamic;
  expect_says(content);
  EXPECT_EQ(overrides(content), 0);
  // The head reads floats, the layers codes.
  content.head_activations = nullptr;
  expect_says(content);
  EXPECT_EQ(overrides(content), 1);
}

TEST(RecipeWriter, AlgorithmsAndWhatTheyCalibrateOnAreSaid) {
  RecipeContent content{.name = "searched", .layers = layers_of(3)};
  json four = kFour;
  four["algorithm"] = "gptq";
  for (LayerSetting& layer : content.layers) {
    if (layer.layer.ends_with("up_proj")) layer.weights = four;
  }
  content.calibration = {{"samples", 7}, {"sequence_length", 64}, {"seed", 3}};
  expect_says(content);
  const Recipe recipe = Recipe::parse(write_recipe(content), "written");
  EXPECT_EQ(recipe.calibration(), (CalibrationOptions{.samples = 7, .sequence_length = 64, .seed = 3}));
  EXPECT_EQ(recipe.weight_algorithm("model.layers.1.mlp.up_proj").algorithm, WeightAlgorithm::kGptq);
  EXPECT_EQ(recipe.weight_algorithm("model.layers.1.mlp.gate_proj").algorithm, WeightAlgorithm::kRoundToNearest);
}

TEST(RecipeWriter, LayersOfOneNameAndOfOneBlockAreSaidByAPattern) {
  RecipeContent content{.name = "patterns", .layers = layers_of(12)};
  for (LayerSetting& layer : content.layers) {
    if (layer.layer.ends_with("down_proj")) layer.weights = kFour, layer.activations = nullptr;
    if (layer.layer.starts_with("model.layers.1.")) layer.weights = nullptr, layer.activations = nullptr;
  }
  expect_says(content);
  EXPECT_EQ(overrides(content), 2);
  EXPECT_THAT(write_recipe(content), testing::HasSubstr("\"model.layers.*.mlp.down_proj\""));
  EXPECT_THAT(write_recipe(content), testing::HasSubstr("\"model.layers.1.*\""));
}

TEST(RecipeWriter, AnyMixtureIsSaidAsItIs) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    RecipeContent content{.name = "mixed", .layers = layers_of(static_cast<int>(1 + random() % 13))};
    content.layers.push_back({"project_in", kEight, nullptr});
    for (LayerSetting& layer : content.layers) {
      if (random() % 3 != 0) continue;
      const auto kind = random() % 4;
      layer.weights = kind == 0 ? json() : kind == 1 ? kFour : kEight;
      layer.activations = kind != 0 && random() % 2 == 0 ? kDynamic : json();
    }
    content.layers.front().weights = kEight;  // something must be quantized
    content.embedding_bits = static_cast<int>(random() % 3) * 4;
    content.head_activations = random() % 2 == 0 ? kDynamic : json();
    content.attention = random() % 4 == 0;
    expect_says(content);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/recipe.h"

#include <filesystem>
#include <fstream>

#include "octet/base/json.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const Scheme kWeightOnly{.weight = {.bits = 8}, .activations = ActivationMode::kFloat};
const Scheme kDynamic{.weight = {.bits = 8}, .activations = ActivationMode::kDynamicPerToken};

template <class E = FormatError>
std::string refusal(const std::string& text, const std::vector<std::string>& settings = {}) {
  try {
    Recipe::parse(text, "mine.json", settings);
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted, or another error: " << text;
  return "";
}

TEST(Recipe, BuiltInsSayWhatTheirNamesSay) {
  EXPECT_THAT(Recipe::built_in_names(),
              ElementsAre("w8a16", "w8a8_dynamic", "w4a16_g128", "w4a16_g32", "w4a8_g128_dynamic", "w4a8_g32_dynamic"));
  EXPECT_EQ(Recipe::load("w8a16", {}).scheme_for("any.layer", 384), kWeightOnly);
  EXPECT_EQ(Recipe::load("w8a8_dynamic", {}).scheme_for("any.layer", 384), kDynamic);
  for (const std::string& name : Recipe::built_in_names()) {
    const Recipe recipe = Recipe::load(name, {});
    EXPECT_EQ(recipe.name(), name);
    const Scheme scheme = *recipe.scheme_for("any.layer", 1024);
    EXPECT_EQ(scheme.weight.bits, name[1] - '0') << name;
    EXPECT_EQ(scheme.activations != ActivationMode::kFloat, name.ends_with("_dynamic")) << name;
    EXPECT_EQ(scheme.weight.group_size, name.find("_g128") != name.npos  ? 128
                                        : name.find("_g32") != name.npos ? 32
                                                                         : 0);
    EXPECT_EQ(scheme.weight.mapping, CodeMapping::kSymmetric);
    EXPECT_EQ(scheme.weight.range == RangeEstimator::kMse, scheme.weight.bits == 4) << name;
    EXPECT_FALSE(recipe.quantizes_embeddings());
    EXPECT_EQ(recipe.embedding_scheme("words", 384), std::nullopt);
  }
}

TEST(Recipe, ActivationsAloneAreForCodesThatAreThere) {
  EXPECT_THAT(Recipe::built_in_names(Recipe::AppliesTo::kQuantized), ElementsAre("a8_dynamic"));
  const Recipe built_in = Recipe::load("a8_dynamic", {});
  EXPECT_FALSE(built_in.quantizes_weights());
  EXPECT_TRUE(Recipe::load("w8a16", {}).quantizes_weights());
  EXPECT_TRUE(Recipe::parse(R"({"embeddings": 8})", "r").quantizes_weights());
  EXPECT_EQ(built_in.scheme_for("any.layer", 384), std::nullopt);
  EXPECT_EQ(built_in.activations_for("any.layer"), ActivationMode::kDynamicPerToken);
  const Recipe some = Recipe::parse(R"({"activations": {}, "exclude": ["a"], "overrides": [
      {"match": "b*", "activations": null}, {"match": "bc", "activations": {}}]})",
                                    "r");
  EXPECT_EQ(some.activations_for("a"), std::nullopt);
  EXPECT_EQ(some.activations_for("b"), ActivationMode::kFloat);
  EXPECT_EQ(some.activations_for("bc"), ActivationMode::kDynamicPerToken);
  EXPECT_EQ(Recipe::parse(R"({"attention": 8})", "r").activations_for("a"), std::nullopt);
}

// The group size that a layer of so many inputs gets.
int64_t group_size(const Recipe& recipe, int64_t inputs) { return recipe.scheme_for("a", inputs)->weight.group_size; }

TEST(Recipe, TheFirstGroupSizeThatDividesTheInputsIsTaken) {
  const Recipe g128 = Recipe::load("w4a16_g128", {}), g32 = Recipe::load("w4a8_g32_dynamic", {});
  EXPECT_EQ(group_size(g128, 1536), 128);
  EXPECT_EQ(group_size(g128, 576), 64);
  EXPECT_EQ(group_size(g128, 96), 32);
  EXPECT_EQ(group_size(g128, 172), 0);
  EXPECT_EQ(group_size(g32, 576), 32);
  EXPECT_EQ(group_size(g32, 172), 0);
  EXPECT_EQ(g128.asked_group_size("a"), 128);
  EXPECT_EQ(Recipe::load("w8a16", {}).asked_group_size("a"), 0);
  const std::vector<std::string> settings = {"exclude=[\"a\"]"};
  EXPECT_EQ(Recipe::load("w8a16", settings).asked_group_size("a"), std::nullopt);
  const Recipe order = Recipe::parse(R"({"weights": {"group_size": 256, "group_size_fallback": [32, 64]}})", "m");
  EXPECT_EQ(group_size(order, 512), 256);
  EXPECT_EQ(group_size(order, 64), 32);
}

TEST(Recipe, ALayerThatNoGroupSizeDividesIsNamed) {
  const auto said = [](const char* weights, int64_t inputs) {
    try {
      Recipe::parse(fmt::format(R"({{"name": "mine", "weights": {}}})", weights), "m")
          .scheme_for("blocks.0.up", inputs);
    } catch (const ShapeError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(said(R"({"group_size": 128})", 576),
              AllOf(HasSubstr("recipe 'mine': layer 'blocks.0.up' has 576 inputs, which 128 does not divide."),
                    HasSubstr("\"row\"")));
  EXPECT_THAT(said(R"({"group_size": 128, "group_size_fallback": [64, 32]})", 100), HasSubstr("nor does a fallback"));
  EXPECT_EQ(said(R"({"group_size": 128, "group_size_fallback": ["row"]})", 100), "accepted");
}

TEST(Recipe, WeightsAreAsTheySay) {
  const auto scheme = [](const char* weights) {
    return Recipe::parse(fmt::format(R"({{"weights": {}}})", weights), "m").scheme_for("a", 512)->weight;
  };
  constexpr RangeEstimator kMse = RangeEstimator::kMse;
  EXPECT_EQ(scheme(R"({"bits": 4})"), (WeightScheme{.bits = 4, .range = kMse}));
  EXPECT_EQ(scheme(R"({"bits": 4, "range": "absmax"})"), (WeightScheme{.bits = 4}));
  EXPECT_EQ(scheme(R"({"bits": 8, "range": "mse"})"), (WeightScheme{.bits = 8, .range = kMse}));
  EXPECT_EQ(scheme(R"({"group_size": 256})"), (WeightScheme{.bits = 8, .group_size = 256}));
  EXPECT_EQ(scheme(R"({"bits": 4, "granularity": "per_group", "group_size": 64, "symmetric": false})"),
            (WeightScheme{.bits = 4, .group_size = 64, .mapping = CodeMapping::kZeroPoint, .range = kMse}));
  const WeightScheme minima{.bits = 4, .mapping = CodeMapping::kMinimum, .range = kMse};
  EXPECT_EQ(scheme(R"({"bits": 4, "minima": true})"), minima);
  EXPECT_EQ(scheme(R"({"bits": 4, "minima": true, "symmetric": false})"), minima);
  EXPECT_EQ(scheme(R"({"bits": 4, "minima": false})"), (WeightScheme{.bits = 4, .range = kMse}));
  EXPECT_EQ(scheme(R"({"minima": false})"), WeightScheme{});
}

TEST(Recipe, EmbeddingsAreQuantizedWhereTheRecipeSaysSo) {
  const std::vector<std::string> settings = {"embeddings=8"};
  const auto scheme = [](const Recipe& recipe, int64_t width) { return recipe.embedding_scheme("words", width); };
  EXPECT_EQ(scheme(Recipe::load("w8a16", settings), 384), kWeightOnly);
  EXPECT_EQ(scheme(Recipe::load("w4a16_g32", settings), 384), kWeightOnly);
  EXPECT_EQ(scheme(Recipe::load("w4a8_g32_dynamic", settings), 384), kDynamic);
  EXPECT_EQ(scheme(Recipe::parse(R"({"weights": {}, "embeddings": null})", "m"), 384), std::nullopt);
  const Recipe alone = Recipe::parse(R"({"embeddings": 8, "activations": {}})", "m");
  EXPECT_EQ(scheme(alone, 384), kDynamic);
  EXPECT_TRUE(alone.quantizes_embeddings());
  EXPECT_EQ(alone.scheme_for("a", 384), std::nullopt);
}

TEST(Recipe, EmbeddingsMayHaveFourBitsAndWhatelseWeightsHave) {
  const auto scheme = [](const char* embeddings, int64_t width) {
    return Recipe::parse(fmt::format(R"({{"embeddings": {}}})", embeddings), "m")
        .embedding_scheme("words", width)
        ->weight;
  };
  constexpr RangeEstimator kMse = RangeEstimator::kMse;
  EXPECT_EQ(scheme("4", 384), (WeightScheme{.bits = 4, .group_size = 32, .range = kMse}));
  EXPECT_EQ(scheme("4", 100), (WeightScheme{.bits = 4, .range = kMse}));
  EXPECT_EQ(scheme("{}", 384), WeightScheme{});
  EXPECT_EQ(scheme(R"({"bits": 4, "granularity": "per_channel", "range": "absmax"})", 384), WeightScheme{.bits = 4});
  EXPECT_EQ(scheme(R"({"group_size": 128, "group_size_fallback": [64], "symmetric": false})", 576),
            (WeightScheme{.bits = 8, .group_size = 64, .mapping = CodeMapping::kZeroPoint}));
  const std::vector<std::string> settings = {"embeddings.bits=4", "embeddings.group_size=64"};
  EXPECT_EQ(Recipe::load("w8a8_dynamic", settings).embedding_scheme("words", 576)->weight,
            (WeightScheme{.bits = 4, .group_size = 64, .range = kMse}));
  try {
    scheme(R"({"bits": 4, "group_size": 128})", 576);
    ADD_FAILURE() << "128 divides 576";
  } catch (const ShapeError& error) {
    EXPECT_THAT(error.what(), HasSubstr("layer 'words' has 576 inputs, which 128 does not divide"));
  }
}

TEST(Recipe, DefaultsAreAllLayersAndFloatActivations) {
  const Recipe recipe = Recipe::parse(R"({"weights": {}})", "some/folder/mine.json");
  EXPECT_EQ(recipe.name(), "mine");
  EXPECT_EQ(recipe.scheme_for("a", 384), kWeightOnly);
  EXPECT_EQ(Recipe::parse(R"({"weights": {}, "activations": null})", "m").scheme_for("a", 384), kWeightOnly);
  EXPECT_EQ(Recipe::parse(R"({"weights": {}, "activations": {}})", "m").scheme_for("a", 384), kDynamic);
}

TEST(Recipe, ExcludeCountsMoreThanInclude) {
  const Recipe recipe = Recipe::parse(R"({"weights": {}, "include": ["a.*", "b.x"], "exclude": ["*.x"]})", "m");
  EXPECT_EQ(recipe.scheme_for("a.y", 384), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("a.x", 384), std::nullopt);
  EXPECT_EQ(recipe.scheme_for("b.x", 384), std::nullopt);
  EXPECT_EQ(recipe.scheme_for("b.y", 384), std::nullopt);
}

TEST(Recipe, TheLastOverrideThatMatchesCountsAndChangesOnlyWhatItSays) {
  const Recipe recipe = Recipe::parse(R"({"weights": {"bits": 8}, "activations": {"bits": 8}, "overrides": [
      {"match": "a.*", "activations": null},
      {"match": "a.b", "activations": {"bits": 8}},
      {"match": "a.c", "weights": {"bits": 8}},
      {"match": "f.*", "weights": null}]})",
                                      "m");
  EXPECT_EQ(recipe.scheme_for("z", 384), kDynamic);
  EXPECT_EQ(recipe.scheme_for("a.x", 384), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("a.b", 384), kDynamic);
  EXPECT_EQ(recipe.scheme_for("a.c", 384), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("f.x", 384), std::nullopt);
}

TEST(Recipe, AnOverrideDoesNotBringBackAnExcludedLayer) {
  const Recipe recipe =
      Recipe::parse(R"({"weights": {}, "exclude": ["a"], "overrides": [{"match": "a", "weights": {}}]})", "m");
  EXPECT_EQ(recipe.scheme_for("a", 384), std::nullopt);
}

TEST(Recipe, OverridesAloneCanQuantize) {
  const Recipe recipe = Recipe::parse(R"({"overrides": [{"match": "a", "weights": {}}]})", "m");
  EXPECT_EQ(recipe.scheme_for("a", 384), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("b", 384), std::nullopt);
}

TEST(Recipe, StaticScalesMayLieInANpzFile) {
  const std::string folder = testing::TempDir();
  const auto recipe_of = [](const std::string& file) {
    const nlohmann::json recipe = {{"weights", nlohmann::json::object()},
                                   {"activations", {{"mode", "static"}, {"symmetric", false}}},
                                   {"activation_scales", file}};
    return Recipe::parse(json_text(recipe), "m");
  };
  const std::string arrays = std::string(OCTET_TEST_FILES) + "/../tensor/golden/scales.npz";
  const Recipe recipe = recipe_of(arrays);
  const ActivationMode mode = ActivationMode::kStaticPerTensorZeroPoint;
  EXPECT_EQ(recipe.activation_scale("a.q", mode), (ActivationScale{0.5f, 3}));
  EXPECT_EQ(recipe.activation_scale("a.k", mode), (ActivationScale{0.5f, 3}));
  EXPECT_EQ(recipe.activation_scale("b", mode), (ActivationScale{0.25f, 0}));

  std::ifstream stream(arrays, std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(stream), {});
  const std::string lonely = folder + "/lonely.npz";
  // A zero point whose layer has no scale: the scale's name, in its two places, is another's.
  for (size_t at = 0; (at = bytes.find("a.{q,k}.npy", at)) != bytes.npos; ++at) bytes.replace(at, 1, "c");
  std::ofstream(lonely, std::ios::binary) << bytes;
  try {
    recipe_of(lonely);
    ADD_FAILURE() << "a zero point without a scale was accepted";
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(), HasSubstr("there is no scale 'a.{q,k}' beside it"));
  }
  EXPECT_THROW(recipe_of(folder + "/none.npz"), Error);
}

TEST(Recipe, StaticActivationsTakeTheirScalesFromTheRecipe) {
  constexpr const char* kText = R"({"weights": {}, "activations": {"mode": "static", "symmetric": false},
      "activation_scales": {"a.{q,k}": {"scale": 0.5, "zero_point": 3}, "a.v": 0.25, "b": -1}})";
  const Recipe recipe = Recipe::parse(kText, "m");
  const ActivationMode mode = recipe.scheme_for("a.q", 384)->activations;
  EXPECT_EQ(mode, ActivationMode::kStaticPerTensorZeroPoint);
  EXPECT_EQ(recipe.activation_scale("a.q", mode), (ActivationScale{0.5f, 3}));
  EXPECT_EQ(recipe.activation_scale("a.k", mode), (ActivationScale{0.5f, 3}));
  EXPECT_EQ(recipe.activation_scale("a.v", mode), (ActivationScale{0.25f, 0}));
  EXPECT_THROW(recipe.activation_scale("b", mode), NumericError);
  EXPECT_THROW(recipe.activation_scale("a.q", ActivationMode::kStaticPerTensor), NumericError) << "a zero point";
  try {
    recipe.activation_scale("a.x", mode);
    ADD_FAILURE() << "a layer without a scale was accepted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("layer 'a.x' has static activations and no scale"));
  }
  const std::vector<std::string> layers = {"a.q", "a.k", "a.v"};
  EXPECT_THAT(recipe.unmatched_patterns(layers), ElementsAre("b"));

  const Recipe nibbles = Recipe::parse(kText, "m", std::vector<std::string>{"weights.bits=4"});
  EXPECT_THROW(nibbles.scheme_for("a.q", 384), UsageError);
}

TEST(Recipe, SettingsChangeTheJsonBeforeItIsRead) {
  const std::vector<std::string> settings = {"activations.mode=dynamic", "exclude=[\"a\"]", "name=other"};
  const Recipe recipe = Recipe::load("w8a16", settings);
  EXPECT_EQ(recipe.scheme_for("b", 384), kDynamic);
  EXPECT_EQ(recipe.scheme_for("a", 384), std::nullopt);
  EXPECT_EQ(recipe.name(), "other");
  EXPECT_EQ(Recipe::load("w8a8_dynamic", std::vector<std::string>{"activations=null"}).scheme_for("b", 384),
            kWeightOnly);
  const std::vector<std::string> minima = {"weights.minima=true"};
  for (const std::string& name : Recipe::built_in_names()) {
    if (!name.starts_with("w4")) continue;
    EXPECT_EQ(Recipe::load(name, minima).scheme_for("a", 384)->weight.mapping, CodeMapping::kMinimum) << name;
  }
}

TEST(Recipe, BuiltInsThatSearchSayHow) {
  EXPECT_THAT(Recipe::built_in_names(Recipe::AppliesTo::kFloatOffline),
              ElementsAre("w8a8_static", "w8a8_dynamic_outliers", "w8a8_smoothquant", "w8a8_smoothquant_static",
                          "w4a16_g128_gptq", "w4a16_g32_gptq", "w4a16_g128_awq", "w4a16_g128_hqq", "w4a8_g128_gptq"));
  for (const std::string& name : Recipe::built_in_names(Recipe::AppliesTo::kFloatOffline)) {
    const Recipe recipe = Recipe::load(name, {});
    const Scheme scheme = *recipe.scheme_for("any.layer", 1024);
    EXPECT_EQ(recipe.name(), name);
    EXPECT_EQ(scheme.weight.bits, name[1] - '0') << name;
    EXPECT_EQ(is_static(scheme.activations), name.ends_with("_static")) << name;
    EXPECT_EQ(scheme.activations == ActivationMode::kFloat, name.find("a16") != name.npos) << name;
    const WeightAlgorithm algorithm = recipe.weight_algorithm("any.layer").algorithm;
    EXPECT_EQ(algorithm == WeightAlgorithm::kGptq, name.ends_with("gptq")) << name;
    EXPECT_EQ(algorithm == WeightAlgorithm::kHqq, name.ends_with("hqq")) << name;
    EXPECT_EQ(recipe.fold().has_value(), name.find("smoothquant") != name.npos || name.ends_with("awq")) << name;
    EXPECT_EQ(recipe.needs_data().empty(), name == "w8a8_static" || name.ends_with("hqq")) << name;
    EXPECT_EQ(recipe.is_offline(), name != "w8a8_static") << name;
    EXPECT_EQ(scheme.weight.outliers, name.ends_with("_outliers")) << name;
  }
}

TEST(Recipe, StaticBuiltInsGiveDownProjectionsAScaleAToken) {
  for (const char* name : {"w8a8_static", "w8a8_smoothquant_static"}) {
    const Recipe recipe = Recipe::load(name, {});
    EXPECT_EQ(recipe.scheme_for("model.layers.0.mlp.down_proj", 64)->activations, ActivationMode::kDynamicPerToken);
    EXPECT_EQ(recipe.scheme_for("model.layers.0.mlp.up_proj", 64)->activations,
              ActivationMode::kStaticPerTensorZeroPoint);
    const std::vector<std::string> layers = {"encoder.layer.0.output.dense"};
    EXPECT_THAT(recipe.unmatched_patterns(layers), testing::IsEmpty()) << "an override that may match nothing";
  }
}

TEST(Recipe, AlgorithmsAndCalibrationAreRead) {
  const Recipe recipe = Recipe::parse(R"({
    "weights": {"bits": 4, "group_size": 64, "algorithm": "gptq", "block_size": 64, "percdamp": 0.1, "act_order": true,
                "true_sequential": false},
    "activations": {"mode": "static", "range": "percentile", "percentile": 99.9},
    "fold": {"method": "smoothquant", "alpha": 0.75}, "bias_correction": true,
    "calibration": {"samples": 7, "sequence_length": 9, "seed": 11},
    "overrides": [{"match": "*.down", "weights": {"bits": 8, "algorithm": "hessian"}}]})",
                                      "m");
  const WeightAlgorithmOptions options = recipe.weight_algorithm("a");
  EXPECT_EQ(options.algorithm, WeightAlgorithm::kGptq);
  EXPECT_EQ(options.block_size, 64);
  EXPECT_EQ(options.percdamp, 0.1);
  EXPECT_TRUE(options.act_order);
  EXPECT_FALSE(options.static_groups);
  EXPECT_FALSE(recipe.true_sequential("a"));
  EXPECT_EQ(recipe.weight_algorithm("x.down").algorithm, WeightAlgorithm::kHessianScales);
  EXPECT_TRUE(recipe.true_sequential("x.down"));
  EXPECT_EQ(recipe.activation_range("a").method, RangeMethod::kPercentile);
  EXPECT_EQ(recipe.activation_range("a").percentile, 99.9);
  EXPECT_EQ(recipe.fold()->method, FoldOptions::Method::kSmoothQuant);
  EXPECT_EQ(recipe.fold()->alpha, 0.75);
  EXPECT_TRUE(recipe.bias_correction());
  EXPECT_EQ(recipe.calibration(), (CalibrationOptions{.samples = 7, .sequence_length = 9, .seed = 11}));
  EXPECT_EQ(Recipe::load("w8a8_static", {}).activation_range("a").method, RangeMethod::kBest);
  const std::vector<std::string> search = {"fold.alpha=search"};
  EXPECT_EQ(Recipe::load("w8a8_smoothquant", search).fold()->alpha, std::nullopt);
  EXPECT_EQ(Recipe::load("w8a16", {}).weight_algorithm("a").algorithm, WeightAlgorithm::kRoundToNearest);
  EXPECT_FALSE(Recipe::load("w8a16", {}).is_offline());
}

TEST(Recipe, WhatAnAlgorithmDoesNotHaveIsRefused) {
  EXPECT_THAT(refusal(R"({"weights": {"bits": 4, "act_order": true}})"), HasSubstr("'act_order' belongs to"));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "hqq", "true_sequential": true}})"),
              HasSubstr("'true_sequential' belongs to"));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "gptq", "percdamp": 2}})"), HasSubstr("a number from 0 to 1"));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "gptq", "block_size": 0}})"), HasSubstr("a whole number from 1"));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "gptq", "iterations": 9}})"),
              HasSubstr("'iterations' belongs to \"algorithm\": \"adaround\" or \"signround\""));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "adaround", "batch_size": 0}})"),
              HasSubstr("a whole number from 1"));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "adaround", "percdamp": 0.1}})"),
              HasSubstr("'percdamp' belongs to"));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "signround", "round_weight": 1}})"),
              HasSubstr("'round_weight' belongs to"));
  EXPECT_THAT(refusal(R"({"weights": {"algorithm": "magic"}})"), HasSubstr("'algorithm' is \"magic\""));
  EXPECT_THAT(refusal(R"({"weights": {}, "fold": {}})"), HasSubstr("has no 'method'"));
  EXPECT_THAT(refusal(R"({"weights": {}, "fold": {"method": "awq", "alpha": 0.5}})"), HasSubstr("leave it out"));
  EXPECT_THAT(refusal(R"({"weights": {}, "fold": {"method": "smoothquant", "alpha": 1.5}})"), HasSubstr("from 0 to 1"));
  EXPECT_THAT(refusal(R"({"weights": {}, "fold": {"method": "smoothquant", "alpha": "best"}})"),
              HasSubstr("\"search\""));
  EXPECT_THAT(refusal(R"({"attention": 8, "bias_correction": true})"), HasSubstr("changes weights"));
  EXPECT_THAT(refusal(R"({"weights": {}, "activations": {"mode": "dynamic", "range": "mse"}})"),
              HasSubstr("dynamic scales need none"));
  EXPECT_THAT(refusal(R"({"weights": {}, "activations": {"mode": "static", "range": "mse", "percentile": 99.9}})"),
              HasSubstr("a 'percentile' belongs to"));
  EXPECT_THAT(refusal(R"({"weights": {}, "activations": {"mode": "static", "percentile": 50}})"), HasSubstr("from 99"));
  EXPECT_THAT(refusal(R"({"weights": {}, "calibration": {"samples": 0}})"), HasSubstr("a whole number from 1"));
  EXPECT_THAT(refusal(R"({"weights": {}, "calibration": {"sample": 1}})"), HasSubstr("Did you mean 'samples'?"));
}

TEST(Recipe, ARecipeToBeCalibratedHasAScaleForNow) {
  const Recipe recipe = Recipe::load("w8a8_static", {});
  EXPECT_THROW(recipe.activation_scale("a", ActivationMode::kStaticPerTensor), UsageError);
  EXPECT_EQ(recipe.to_be_calibrated().activation_scale("a", ActivationMode::kStaticPerTensor), ActivationScale());
  EXPECT_FALSE(recipe.has_scale("a"));
}

TEST(Recipe, ALaterSettingCountsMore) {
  const std::vector<std::string> settings = {"exclude=[\"a\"]", "exclude=[\"b\"]"};
  EXPECT_EQ(Recipe::load("w8a16", settings).scheme_for("a", 384), kWeightOnly);
}

TEST(Recipe, SettingsThatCannotBeHonouredAreErrors) {
  EXPECT_THAT(refusal<UsageError>("{}", {"weights"}), HasSubstr("--set 'weights': write key=value"));
  EXPECT_THAT(refusal<UsageError>("{}", {"=8"}), HasSubstr("write key=value"));
  EXPECT_THAT(refusal<UsageError>(R"({"name": "x"})", {"name.deeper=8"}), HasSubstr("is not an object"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights.bit=8"}), HasSubstr("unknown key 'bit'. Did you mean 'bits'?"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights.bits=eight"}), HasSubstr("'bits' is \"eight\""));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights..bits=8"}), HasSubstr("unknown key ''"));
}

TEST(Recipe, SettingsOfAnyDepthOrFormAreSafe) {
  std::string deep = "weights.bits";
  for (int i = 0; i < 100'000; ++i) deep += ".a";
  EXPECT_THAT(refusal<UsageError>(R"({"weights": {}})", {deep + "=1"}), HasSubstr("nothing nests so deeply"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights=" + std::string(4000, '[')}), HasSubstr("weights"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"x\xff=1"}), HasSubstr("unknown key"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"name=[\"\xff\"]", "weights.bits=\xff"}), HasSubstr("bits"));
}

TEST(Recipe, UnknownKeysAreNamedWithTheNearestKnownOne) {
  EXPECT_THAT(refusal(R"({"weight": {}})"),
              AllOf(HasSubstr("recipe 'mine.json'"), HasSubstr("unknown key 'weight'"), HasSubstr("'weights'")));
  EXPECT_THAT(refusal(R"({"weights": {"granulrity": "per_channel"}})"),
              AllOf(HasSubstr("weights: unknown key 'granulrity'"), HasSubstr("'granularity'")));
  EXPECT_THAT(refusal(R"({"weights": {}, "overrides": [{"match": "a", "activation": null}]})"),
              AllOf(HasSubstr("override 1"), HasSubstr("'activations'")));
}

TEST(Recipe, ValuesNotOfferedAreNamed) {
  struct Case {
    const char* text;
    const char* said;
  };
  const std::vector<Case> cases = {
      {R"({"weights": {"bits": 1}})", "'bits' is 1; a whole number from 2 to 8 is needed"},
      {R"({"weights": {"bits": 9}})", "'bits' is 9; a whole number from 2 to 8 is needed"},
      {R"({"weights": {"bits": 6, "range": "sawb"}})", "SAWB has no coefficients for 6 bits; take \"mse\""},
      {R"({"weights": {"bits": 5, "minima": true}})", "\"minima\": true needs \"bits\": 4 or fewer"},
      {R"({"weights": {}, "activations": {"bits": 1, "mode": "static"}})", "'bits' is 1; a whole number from 2 to 8"},
      {R"({"weights": {}, "activations": {"bits": 9, "mode": "static"}})", "'bits' is 9; a whole number from 2 to 8"},
      {R"({"weights": {"bits": 8.5}})", "'bits' is 8.5"},
      {R"({"weights": {"bits": "8"}})", "'bits' is \"8\""},
      {R"({"weights": {"granularity": "per_tensor"}})", "'granularity' is \"per_tensor\""},
      {R"({"weights": {"symmetric": null}})", "'symmetric' is null; true or false"},
      {R"({"weights": {"minima": true}})", "weights: \"minima\": true needs \"bits\": 4 or fewer; 8-bit weights"},
      {R"({"weights": {"bits": 4, "minima": 1}})", "'minima' is 1; false or true"},
      {R"({"weights": {"bits": 4, "minima": true, "symmetric": true}})", "contradicts \"symmetric\": true"},
      {R"({"weights": {"bits": 4, "minimum": true}})", "Did you mean 'minima'?"},
      {R"({"weights": {"granularity": "per_group"}})", "'per_group' needs a 'group_size'"},
      {R"({"weights": {"granularity": "per_channel", "group_size": 32}})", "needs \"granularity\": \"per_group\""},
      {R"({"weights": {"group_size": 48}})", "'group_size' is 48; 32 or 64 or 128 or 256 is"},
      {R"({"weights": {"group_size": "row"}})", "'group_size' is \"row\""},
      {R"({"weights": {"group_size": 64, "group_size_fallback": 32}})", "'group_size_fallback' must be a list"},
      {R"({"weights": {"group_size": 64, "group_size_fallback": [33]}})", "'group_size_fallback' is 33"},
      {R"({"weights": {"group_size": 64, "group_size_fallback": ["row", 32]}})", "nothing is tried after \"row\""},
      {R"({"weights": {"group_size_fallback": [32]}})", "needs a 'group_size'"},
      {R"({"weights": {"range": "minmax"}})", "'range' is \"minmax\"; \"absmax\" or \"mse\" or \"sawb\" is"},
      {R"({"weights": {"groupsize": 32}})", "unknown key 'groupsize'. Did you mean 'group_size'?"},
      {R"({"weights": {}, "embeddings": 3})", "embeddings is 3; null, 8, 4 or an object"},
      {R"({"weights": {}, "embeddings": {"bits": 4, "algorithm": "gptq"}})", "embeddings: unknown key 'algorithm'"},
      {R"({"weights": {}, "attention": 4})", "'attention' is 4; null or 8 is"},
      {R"({"weights": {}, "attention": "8"})", "'attention' is \"8\"; null or 8 is"},
      {R"({"weights": {}, "atention": 8})", "Did you mean 'attention'?"},
      {R"({"attention": null})", "quantizes nothing"},
      {R"({"weights": {}, "embedding": 8})", "Did you mean 'embeddings'?"},
      {R"({"weights": 8})", "an object {…} is needed, not number"},
      {R"({"weights": {}, "activations": {"mode": "learned"}})", "'mode' is \"learned\""},
      {R"({"weights": {}, "activations": {"granularity": "per_tensor"}})", "'granularity' is \"per_tensor\""},
      {R"({"weights": {}, "activations": {"mode": "static", "granularity": "per_token"}})", "\"per_tensor\" is what"},
      {R"({"weights": {}, "activations": {"symmetric": false}})", "'symmetric' is false"},
      {R"({"weights": {}, "activation_scales": 3})", "an object of layer names and scales is needed"},
      {R"({"weights": {}, "activation_scales": {"a": "b"}})", "the scale must be a number"},
      {R"({"weights": {}, "activation_scales": {"a": {"zero_point": 3}}})", "'a': has no 'scale'"},
      {R"({"weights": {}, "activation_scales": {"a": {"scale": 1, "zero_point": 256}}})", "'zero_point' is 256"},
      {R"({"weights": {}, "activation_scales": {"a": {"scale": 1, "zero_point": 0.5}}})", "'zero_point' is 0.5"},
      {R"({"weights": {}, "activation_scales": {"a": {"scale": 1, "zero": 1}}})", "unknown key 'zero'"},
      {R"({"weights": {}, "activation_scales": {"a.{b,c}": 1, "a.c": 2}})", "two scales for the layer 'a.c'"},
      {R"({"weights": {}, "activations": {"bits": 4}})",
       "'bits' is 4; dynamic ones have 8 bits, fewer need \"mode\": \"static\""},
      {R"({"weights": {}, "include": "a"})", "'include' must be a list"},
      {R"({"weights": {}, "exclude": [1]})", "'exclude' must be a list"},
      {R"({"weights": {}, "name": 1})", "'name' must be text"},
      {R"({"weights": {}, "overrides": {}})", "'overrides' must be a list"},
      {R"({"weights": {}, "overrides": [1]})", "override 1: an object {…} is needed"},
      {R"({"weights": {}, "overrides": [{}]})", "override 1: says no 'match'"},
      {"[]", "an object {…} is needed, not array"},
      {"{", "not valid JSON"},
  };
  for (const Case& c : cases) EXPECT_THAT(refusal(c.text), HasSubstr(c.said)) << c.text;
}

TEST(Recipe, ImpossibleCombinationsAreRefused) {
  EXPECT_THAT(refusal(R"({"activations": null})"), HasSubstr("quantizes nothing"));
  EXPECT_THAT(refusal("{}"), HasSubstr("quantizes nothing"));
  EXPECT_THAT(refusal(R"({"overrides": [{"match": "a", "weights": null}]})"), HasSubstr("quantizes nothing"));
}

TEST(Recipe, ADepthBombIsRefused) {
  EXPECT_THAT(refusal(std::string(1'000'000, '[')), HasSubstr("nested more than 16"));
  EXPECT_THAT(refusal("{\"weights\":" + std::string(20, '[') + std::string(20, ']') + "}"),
              HasSubstr("nested more than 16"));
}

TEST(Recipe, ANameThatIsNeitherBuiltInNorAFileSuggestsOne) {
  try {
    Recipe::load("w8a8_dynamik", {});
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("Did you mean 'w8a8_dynamic'?"));
  }
}

TEST(Recipe, AttentionIsFloatUnlessItSaysEight) {
  constexpr ActivationMode kInt8 = ActivationMode::kDynamicPerToken;
  for (const std::string& name : Recipe::built_in_names()) {
    const std::vector<std::string> settings = {"attention=8"};
    EXPECT_EQ(Recipe::load(name, {}).attention(), ActivationMode::kFloat) << name;
    EXPECT_EQ(Recipe::load(name, settings).attention(), kInt8) << name;
  }
  EXPECT_EQ(Recipe::parse(R"({"weights": {}, "attention": null})", "m").attention(), ActivationMode::kFloat);
  const Recipe alone = Recipe::parse(R"({"attention": 8})", "m");
  EXPECT_EQ(alone.attention(), kInt8);
  EXPECT_EQ(alone.scheme_for("a", 384), std::nullopt);
}

TEST(Recipe, FewerBitsAreHeldInTheNextWiderCodes) {
  for (int bits = 2; bits <= 8; ++bits) {
    const std::string text = fmt::format(
        R"({{"weights": {{"bits": {0}}}, "activations": {{"bits": {0}, "mode": "static", "symmetric": {1}}},
             "activation_scales": {{"a": {{"scale": 0.5, "zero_point": {2}}}}},
             "overrides": [{{"match": "b", "weights": {{"bits": 8}}, "activations": null}}]}})",
        bits, bits <= 4, bits <= 4 ? 0 : (1 << bits) - 1);
    const Recipe recipe = Recipe::parse(text, "m");
    const int stored = bits <= 4 ? 4 : 8;
    const Scheme scheme = recipe.scheme_for("a", 96).value();
    EXPECT_EQ(scheme.weight.bits, stored);
    EXPECT_EQ(scheme.weight.used_bits(), bits);
    EXPECT_EQ(scheme.weight.range, bits == 8 ? RangeEstimator::kAbsmax : RangeEstimator::kMse);
    EXPECT_EQ(scheme.activation_bits, bits);
    EXPECT_EQ(recipe.activation_bits("a"), bits);
    EXPECT_EQ(recipe.activation_range("a").bits, bits);
    EXPECT_EQ(recipe.activation_scale("a", scheme.activations, bits).bits, bits);
    EXPECT_EQ(recipe.to_be_calibrated().activation_scale("c", scheme.activations, bits).bits, bits);
    EXPECT_EQ(recipe.scheme_for("b", 96), kWeightOnly);
    if (bits > 4) {
      EXPECT_THROW(recipe.activation_scale("a", scheme.activations, bits - 1), NumericError) << "the zero point";
    }
  }
  const Recipe few =
      Recipe::parse(R"({"weights": {"bits": 3}, "activations": {"mode": "static", "symmetric": false}})", "m");
  EXPECT_THAT(message_of<UsageError>([&] { few.scheme_for("a", 96); }),
              AllOf(HasSubstr("'a' has 3-bit weights"), HasSubstr("need 8-bit ones, which hold 5 to 8 bits")));
}

TEST(Recipe, AttentionMayHaveBitsOfItsOwn) {
  const auto bits = [](const std::string& says) {
    return Recipe::parse(R"({"weights": {}, "attention": {"mode": "static")" + says + "}}", "m").attention_bits();
  };
  EXPECT_EQ(bits(""), (AttentionBits{8, 8}));
  EXPECT_EQ(bits(R"(, "bits": 4)"), (AttentionBits{4, 4}));
  EXPECT_EQ(bits(R"(, "bits": 4, "v_bits": 2)"), (AttentionBits{4, 2}));
  EXPECT_EQ(bits(R"(, "qk_bits": 3)"), (AttentionBits{3, 8}));
  EXPECT_THAT(refusal(R"({"attention": {"v_bits": 4}})"),
              AllOf(HasSubstr("'v_bits' is 4"), HasSubstr("\"mode\": \"static\"")));
  EXPECT_THAT(refusal(R"({"attention": {"mode": "static", "qk_bits": 1}})"), HasSubstr("'qk_bits' is 1; a whole"));
  EXPECT_THAT(refusal(R"({"attention": {"mode": "static", "bits": 9}})"), HasSubstr("'bits' is 9; a whole"));
}

TEST(Recipe, AttentionMayBeStatic) {
  const Recipe dynamic = Recipe::parse(R"({"attention": {"bits": 8}})", "m");
  EXPECT_EQ(dynamic.attention(), ActivationMode::kDynamicPerToken);
  const Recipe plain = Recipe::parse(R"({"weights": {}, "attention": {"bits": 8, "mode": "static"}})", "m");
  EXPECT_EQ(plain.attention(), ActivationMode::kStaticPerTensor);
  EXPECT_EQ(plain.attention_range().method, RangeMethod::kMse);
  EXPECT_THAT(message_of<UsageError>([&] { plain.attention_scale("h.0.attn.k"); }),
              AllOf(HasSubstr("static attention has no scale for 'h.0.attn.k'"), HasSubstr("--data TEXT")));
  EXPECT_EQ(plain.to_be_calibrated().attention_scale("h.0.attn.k"), 1);

  const Recipe given = Recipe::parse(
      R"({"attention": {"mode": "static", "range": "percentile", "percentile": 99.9},
          "activation_scales": {"h.0.attn.{q,k}": 0.25, "h.0.attn.v": -1, "h.9.attn.k": 1}})",
      "m");
  EXPECT_EQ(given.attention_range().method, RangeMethod::kPercentile);
  EXPECT_EQ(given.attention_range().percentile, 99.9);
  EXPECT_EQ(given.attention_scale("h.0.attn.k"), 0.25f);
  EXPECT_THAT(message_of<NumericError>([&] { given.attention_scale("h.0.attn.v"); }), HasSubstr("'h.0.attn.v'"));
  const std::vector<std::string> layers = {"h.0.attn.c_attn"}, operands = {"h.0.attn.q", "h.0.attn.k", "h.0.attn.v"};
  EXPECT_THAT(given.unmatched_patterns(layers, operands), testing::ElementsAre("h.9.attn.k"));

  EXPECT_THAT(refusal(R"({"attention": {"bits": 4}})"), HasSubstr("'bits' is 4"));
  EXPECT_THAT(refusal(R"({"attention": {"mode": "fixed"}})"), HasSubstr("'mode' is \"fixed\""));
  EXPECT_THAT(refusal(R"({"attention": {"range": "mse"}})"), HasSubstr("\"mode\": \"static\""));
  EXPECT_THAT(refusal(R"({"attention": {"mode": "static", "range": "best"}})"), HasSubstr("'range' is \"best\""));
  EXPECT_THAT(refusal(R"({"attention": {"mode": "static", "percentile": 99.9}})"), HasSubstr("'percentile' belongs"));
  EXPECT_THAT(refusal(R"({"attention": {"symetric": true}})"), HasSubstr("attention: unknown key 'symetric'"));
}

TEST(Recipe, AFileIsRead) {
  const auto path = std::filesystem::path(testing::TempDir()) / "octet_recipe_test.json";
  std::ofstream(path) << R"({"weights": {"bits": 8}, "exclude": ["a"]})";
  const Recipe recipe = Recipe::load(path.string(), {});
  std::filesystem::remove(path);
  EXPECT_EQ(recipe.name(), "octet_recipe_test");
  EXPECT_EQ(recipe.scheme_for("a", 384), std::nullopt);
}

TEST(Recipe, PatternsThatMatchNothingAreListed) {
  const Recipe recipe = Recipe::parse(
      R"({"weights": {}, "include": ["a.*", "q"], "exclude": ["a.x"], "overrides": [{"match": "*z", "weights": null}]})",
      "m");
  const std::vector<std::string> layers = {"a.x", "a.y"};
  EXPECT_THAT(recipe.unmatched_patterns(layers), ElementsAre("q", "*z"));
}

TEST(GlobMatch, StarAndQuestionMark) {
  struct Case {
    const char* pattern;
    const char* text;
    bool matches;
  };
  const std::vector<Case> cases = {
      {"", "", true},
      {"", "a", false},
      {"*", "", true},
      {"*", "a.b.c", true},
      {"?", "", false},
      {"?", "a", true},
      {"a*", "abc", true},
      {"a*", "ba", false},
      {"*c", "abc", true},
      {"*c", "abcd", false},
      {"a*c", "ac", true},
      {"a?c", "ac", false},
      {"a?c", "abc", true},
      {"*b*d", "abcd", true},
      {"*b*d", "abdc", false},
      {"**", "x", true},
      {"a*b*c", "aXbXbXc", true},
      {"*.output.dense", "encoder.layer.0.attention.output.dense", true},
      {"[a]", "a", false},
      {"a.b", "aXb", false},
  };
  for (const Case& c : cases) EXPECT_EQ(glob_match(c.pattern, c.text), c.matches) << c.pattern << " on " << c.text;
}

TEST(GlobMatch, ManyStarsTakeNoTime) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "a*";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(5000, 'a')));
}

TEST(Recipe, OutliersAreSearchedForOrGiven) {
  const Recipe searched = Recipe::parse(R"({"weights": {}, "outliers": {"threshold": 4.5, "max_columns": 7},
      "exclude": ["c"], "overrides": [{"match": "b", "outliers": null},
                                      {"match": "d", "outliers": {"max_share": 0.25}}]})",
                                        "r");
  EXPECT_EQ(searched.outliers("a"), (OutlierOptions{.threshold = 4.5f, .max_columns = 7}));
  EXPECT_EQ(searched.outliers("b"), std::nullopt);
  EXPECT_EQ(searched.outliers("c"), std::nullopt);
  EXPECT_EQ(searched.outliers("d"), (OutlierOptions{.max_share = 0.25}));
  EXPECT_TRUE(searched.scheme_for("a", 8)->weight.outliers && !searched.scheme_for("b", 8)->weight.outliers);
  EXPECT_TRUE(searched.keeps_outliers() && searched.is_offline());
  EXPECT_EQ(searched.needs_data(), "a search of outlier columns");

  const Recipe given =
      Recipe::parse(R"({"weights": {}, "outliers": {"columns": {"a.{x,y}": [9, 2], "b": [], "z": [1]}}})", "given");
  EXPECT_THAT(given.outlier_columns("a.y"), ElementsAre(2, 9));
  EXPECT_TRUE(given.scheme_for("a.x", 10)->weight.outliers && !given.scheme_for("b", 10)->weight.outliers);
  EXPECT_THROW(given.scheme_for("a.x", 9), ShapeError);
  EXPECT_EQ(given.needs_data(), "");
  EXPECT_TRUE(given.keeps_outliers() && !given.is_offline());
  const std::vector<std::string> layers = {"a.x", "a.y", "b"};
  EXPECT_THAT(given.unmatched_patterns(layers), ElementsAre("z"));

  for (const auto& [outliers, words] : {
           std::pair{R"({"treshold": 6})", "unknown key 'treshold'"},
           std::pair{R"({"threshold": -1})", "'threshold' is -1"},
           std::pair{R"({"max_columns": 0})", "'max_columns' is 0"},
           std::pair{R"({"max_share": 1.5})", "'max_share' is 1.5"},
           std::pair{R"({"columns": {"a": [1]}, "threshold": 6})", "which are given here"},
           std::pair{R"({"columns": {"a": [1, 1]}})", "the column 1 is there twice"},
           std::pair{R"({"columns": {"a": [-1]}})", "whole numbers from 0 on"},
           std::pair{R"({"columns": {"a": 1}})", "a list of columns"},
           std::pair{R"({"columns": [1]})", "an object of layer names"},
           std::pair{R"({"columns": {"a.{b}": [1], "a.b": [2]}})", "two lists of columns for the layer 'a.b'"},
       }) {
    EXPECT_THAT(refusal(fmt::format(R"({{"weights": {{}}, "outliers": {}}})", outliers)), HasSubstr(words)) << outliers;
  }
  EXPECT_THAT(refusal(R"({"activations": {}, "outliers": {}})"), HasSubstr("leaves all weights as they are"));
}

TEST(Recipe, TheLargestColumnsBeyondTheThresholdAreOutliers) {
  const std::vector<float> absmax = {1, 7, 6, 9, 7, 100, 6.5f, 0};
  const auto found = [&](const OutlierOptions& options) { return find_outlier_columns(absmax, options); };
  EXPECT_THAT(found({}), ElementsAre(1, 3, 4, 5, 6));
  EXPECT_THAT(found({.max_columns = 3}), ElementsAre(1, 3, 5));
  EXPECT_THAT(found({.max_share = 0.25}), ElementsAre(3, 5));
  EXPECT_THAT(found({.max_share = 0.1}), testing::IsEmpty());
  EXPECT_THAT(found({.threshold = 100}), testing::IsEmpty());
  EXPECT_THAT(found({.threshold = 0}), testing::SizeIs(7));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/sensitivity.h"

#include <cmath>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/scratch_directory.h"
#include "octet/eval/benchmark.h"
#include "octet/eval/compare_decoders.h"
#include "octet/eval/metrics.h"
#include "octet/ptq/quantize_model.h"

namespace octet {
namespace {

using testing::HasSubstr;

std::filesystem::path golden(const std::string& name) { return std::filesystem::path(OCTET_GOLDEN) / name; }

std::vector<Recipe> recipes(const std::vector<std::string>& names) {
  std::vector<Recipe> all;
  for (const std::string& name : names) all.push_back(Recipe::load(name, {}));
  return all;
}

TextSample random_sample(const ModelInfo& info) {
  TextSample sample;
  for (const auto& [sequences, tokens] : {std::pair{3, 7}, std::pair{1, 11}}) {
    sample.batches.push_back(random_batch(info, sequences, tokens));
    sample.tokens += sample.batches.back().tokens();
    sample.sequences += sequences;
  }
  return sample;
}

struct Comparing {
  explicit Comparing(const std::filesystem::path& model)
      : checkpoint(Checkpoint::open(model)),
        comparison(model, load_model(checkpoint, nullptr)->info(),
                   random_sample(load_model(checkpoint, nullptr)->info()), 1) {}
  Checkpoint checkpoint;
  OutputComparison comparison;
};

// The model with nothing but these layers quantized, loaded as any model is.
double divergence_of(const Comparing& comparing, const Recipe& scheme, const std::vector<std::string>& layers) {
  nlohmann::json recipe = parse_json(scheme.text(), "the test");
  recipe["include"] = layers;
  Session session(comparing.checkpoint.folder(), {.recipe = Recipe::parse(json_text(recipe), "alone")});
  return comparing.comparison.compare(session, "alone").value;
}

TEST(Sensitivity, ALayerTriedAloneGivesTheBitsOfAModelThatIsLoadedSo) {
  const std::vector<Recipe> schemes = recipes({"w8a8_dynamic", "w4a16_g32"});
  for (const char* name : {"llama_base", "llama_tied", "gpt2", "gptj", "gpt_neox", "phi", "opt_projected", "opt_model",
                           "bert_masked_lm", "bert_sequence_classification", "bert_question_answering",
                           "sentence_mean_normalized", "electra_pretraining", "distilbert"}) {
    SCOPED_TRACE(name);
    for (const SensitivityUnit per : {SensitivityUnit::kLayer, SensitivityUnit::kSite, SensitivityUnit::kBlock}) {
      Comparing comparing(golden(name));
      const SensitivityReport report =
          measure_sensitivity(comparing.checkpoint, schemes, comparing.comparison, {.per = per, .exact = true});
      ASSERT_FALSE(report.entries.empty());
      std::map<std::string, int> seen;
      for (const Sensitivity& entry : report.entries) {
        SCOPED_TRACE(entry.unit + " in " + entry.scheme);
        for (const std::string& layer : entry.layers) ++seen[layer];
        const Recipe& scheme = entry.scheme == schemes[0].name() ? schemes[0] : schemes[1];
        EXPECT_EQ(entry.divergence.value, divergence_of(comparing, scheme, entry.layers));
        EXPECT_GT(entry.weight_error, 0);
        EXPECT_LT(entry.weight_error, 0.5);
        EXPECT_FALSE(entry.estimated);
        if (std::isnan(entry.output_error)) {
          EXPECT_EQ(entry.divergence.value, 0);
        } else {
          EXPECT_GT(entry.output_error, 0);
        }
      }
      // Every layer that the recipes quantize, once in each.
      const std::unique_ptr<Model> quantized = load_model(comparing.checkpoint, &schemes[0]);
      size_t layers = 0;
      for (const Linear::Part* part : quantized->linear_parts()) {
        if (!part->weight.scheme) continue;
        ++layers;
        EXPECT_EQ(seen[part->weight.layer], 2) << part->weight.layer;
      }
      EXPECT_EQ(seen.size(), layers);
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(Sensitivity, ALayerThatIsSearchedForAloneGivesTheBitsOfAModelThatIsWrittenSo) {
  const std::vector<Recipe> schemes = recipes({"w4a16_g32_gptq", "w4a16_g128_hqq"});
  for (const char* name : {"llama_base", "gpt2", "bert_sequence_classification"}) {
    Comparing comparing(golden(name));
    const ModelInfo info = load_model(comparing.checkpoint, nullptr)->info();
    const CalibrationData data{.samples = random_batch(info, 20, 9), .options = {}, .sha256 = ""};
    const SensitivityReport report = measure_sensitivity(comparing.checkpoint, schemes, comparing.comparison,
                                                         {.exact = true, .calibration = &data.samples});
    std::map<std::string, int> seen;
    for (const Sensitivity& entry : report.entries) {
      SCOPED_TRACE(fmt::format("{}: {} in {}", name, entry.unit, entry.scheme));
      if (std::isnan(entry.output_error) || ++seen[entry.scheme] > 6) continue;
      nlohmann::json alone =
          parse_json((entry.scheme == schemes[0].name() ? schemes[0] : schemes[1]).text(), "the test");
      alone["include"] = entry.layers;
      const ScratchDirectory scratch(testing::TempDir());
      quantize_model(comparing.checkpoint, Recipe::parse(json_text(alone), "alone"), scratch.path() / "model",
                     {.data = &data});
      Session session(scratch.path() / "model");
      EXPECT_EQ(entry.divergence.value, comparing.comparison.compare(session, "alone").value);
    }
    EXPECT_EQ(seen.size(), 2) << name;
  }
}

TEST(Sensitivity, OutputErrorsAreThoseOfTheProducts) {
  // The second product of a whole block in a scheme reads what the first made: its own error is that on float inputs.
  Comparing comparing(golden("bert_base"));
  const SensitivityReport by_layer =
      measure_sensitivity(comparing.checkpoint, recipes({"w8a16"}), comparing.comparison, {.exact = true});
  const SensitivityReport by_site = measure_sensitivity(comparing.checkpoint, recipes({"w8a16"}), comparing.comparison,
                                                        {.per = SensitivityUnit::kSite, .exact = true});
  std::map<std::string, double> errors;
  for (const Sensitivity& entry : by_layer.entries) errors[entry.unit] = entry.output_error;
  int several = 0;
  for (const Sensitivity& entry : by_site.entries) {
    if (entry.layers.size() == 1) {
      EXPECT_EQ(entry.output_error, errors.at(entry.layers[0]));
      continue;
    }
    ++several;
    double least = INFINITY, most = 0;
    for (const std::string& layer : entry.layers) {
      least = std::min(least, errors.at(layer));
      most = std::max(most, errors.at(layer));
    }
    EXPECT_GE(entry.output_error, least);
    EXPECT_LE(entry.output_error, most);
  }
  EXPECT_GT(several, 0);
}

// On a trained model, whose layers differ.
TEST(Sensitivity, SharesOfABlocksDivergenceAgreeWithWhatIsMeasured) {
  const std::filesystem::path model = OCTET_DEMO_DECODER;
  const Checkpoint checkpoint = Checkpoint::open(model);
  const ModelInfo info = load_model(checkpoint, nullptr)->info();
  const TextSample sample = read_sample(model / "README.md", Tokenizer::load(model), info, 160, 80);
  OutputComparison comparison(model, info, sample);
  const std::vector<Recipe> schemes = recipes({"w8a8_dynamic", "w4a16_g32", "w4a8_g128_dynamic"});
  const SensitivityReport exact = measure_sensitivity(checkpoint, schemes, comparison, {.exact = true});
  const SensitivityReport estimated = measure_sensitivity(checkpoint, schemes, comparison);
  ASSERT_EQ(exact.entries.size(), estimated.entries.size());
  ASSERT_EQ(exact.entries.size(), 3 * 4 * 7);
  std::vector<double> measured, guessed;
  double logarithms = 0;
  for (size_t i = 0; i < exact.entries.size(); ++i) {
    ASSERT_EQ(exact.entries[i].unit, estimated.entries[i].unit);
    EXPECT_EQ(exact.entries[i].output_error, estimated.entries[i].output_error);
    EXPECT_TRUE(estimated.entries[i].estimated);
    measured.push_back(std::log(exact.entries[i].divergence.value));
    guessed.push_back(std::log(estimated.entries[i].divergence.value));
    logarithms += std::abs(measured.back() - guessed.back());
  }
  EXPECT_GT(spearman(measured, guessed), 0.95);
  // Within a factor of 1.6 in the mean of their logarithms.
  EXPECT_LT(logarithms / static_cast<double>(measured.size()), std::log(1.6));
}

TEST(Sensitivity, TheDivergenceOfDecodersIsThatOfCompare) {
  const std::filesystem::path model = OCTET_DEMO_DECODER;
  Session reference(model), other(model, {.recipe = Recipe::load("w4a16_g32", {})});
  const ModelInfo& info = reference.model().info();
  const Tokenizer tokenizer = Tokenizer::load(model);
  const TextWindows text = read_windows(model / "README.md", tokenizer, {.window = 64, .limit = 3}, info.max_positions);
  TextSample sample;
  sample.batches.push_back(text.batch(0, text.windows.size()));
  sample.tokens = sample.batches[0].tokens();
  OutputComparison comparison(model, info, sample);
  comparison.set_reference(reference);
  EXPECT_EQ(comparison.compare(reference, "itself").value, 0);
  const Divergence all = comparison.compare(other, "other");
  const DecoderComparison scored = compare_decoders(reference, other, text, 0);
  // Which does not look at the last token of a window.
  EXPECT_NEAR(all.value / scored.kl_mean.value, 1, 0.1);
  EXPECT_NEAR(all.standard_error / scored.kl_mean.standard_error, 1, 0.2);
  EXPECT_EQ(comparison.rows(), sample.tokens);
}

TEST(Sensitivity, WhatCannotBeTriedIsRefused) {
  Comparing comparing(golden("llama_base"));
  const auto refusal = [&](const Recipe& recipe) -> std::string {
    try {
      measure_sensitivity(comparing.checkpoint, std::span(&recipe, 1), comparing.comparison);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "taken";
  };
  const std::vector<std::string> embeddings = {"embeddings=8"}, attention = {"attention=8"},
                                 nothing = {"include=[\"other.*\"]"};
  EXPECT_THAT(refusal(Recipe::load("w8a16", embeddings)), HasSubstr("says 'embeddings'"));
  EXPECT_THAT(refusal(Recipe::load("w8a16", attention)), HasSubstr("says 'attention'"));
  EXPECT_THAT(refusal(Recipe::load("w8a16", nothing)), HasSubstr("says 'include'"));
  EXPECT_THAT(refusal(Recipe::load("w8a8_smoothquant", {})), HasSubstr("says 'fold'"));
  EXPECT_THAT(refusal(Recipe::load("w4a16_g32_gptq", {})), HasSubstr("GPTQ needs calibration data"));
}

}  // namespace
}  // namespace octet

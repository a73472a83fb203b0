// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/base/scratch_directory.h"
#include "octet/ptq/quantize_model.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::filesystem::path kDemo = OCTET_DEMO_DECODER;

class Autoquant : public testing::Test {
 protected:
  Autoquant()
      : checkpoint_(Checkpoint::open(kDemo)),
        info_(load_model(checkpoint_, nullptr)->info()),
        comparison_(kDemo, info_, read_sample(kDemo / "README.md", Tokenizer::load(kDemo), info_, 128, 64), 1) {}

  AutoquantReport run(const std::string& budget, std::optional<BudgetTerm> objective = {}) {
    return run(budget, recipes({"w8a16", "w8a8_dynamic", "w4a16_g32"}), objective);
  }
  AutoquantReport run(const std::string& budget, std::vector<Recipe> recipes,
                      std::optional<BudgetTerm> objective = {}) {
    const ScratchDirectory scratch(testing::TempDir());
    AutoquantOptions options{.budget = parse_budget(budget), .objective = objective, .cpu = {.threads = 1}};
    options.recipes = std::move(recipes);
    options.load = {.batch = 1, .prompt = 16, .decode_tokens = 4};
    options.scratch = scratch.path();
    if (calibrates_) options.calibration = [&](const CalibrationOptions& asked) { return samples(asked); };
    AutoquantReport report = autoquant(checkpoint_, comparison_, options);
    EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
    return report;
  }
  static std::vector<Recipe> recipes(const std::vector<std::string>& names) {
    std::vector<Recipe> all;
    for (const std::string& name : names) all.push_back(Recipe::load(name, {}));
    return all;
  }
  CalibrationData samples(const CalibrationOptions& asked) const {
    return read_calibration_data(kDemo / "README.md", Tokenizer::load(kDemo), info_, asked);
  }
  std::string refusal(const std::string& budget) {
    return refusal(budget, recipes({"w8a16", "w8a8_dynamic", "w4a16_g32"}));
  }
  std::string refusal(const std::string& budget, std::vector<Recipe> recipes) {
    try {
      run(budget, std::move(recipes));
    } catch (const UsageError& error) {
      return error.what();
    }
    return "taken";
  }

  Checkpoint checkpoint_;
  ModelInfo info_;
  OutputComparison comparison_;
  bool calibrates_ = true;  ///< there is a text for that
};

TEST_F(Autoquant, TheWinnerIsWithinTheBudgetAndWhatWasPredicted) {
  const AutoquantReport report = run("bytes<42%");
  EXPECT_EQ(report.objective, BudgetTerm::kKl);
  ASSERT_FALSE(report.tried.empty());
  const AutoquantPoint& first = report.tried.front();
  EXPECT_EQ(first.predicted->bytes, first.measured->bytes);
  EXPECT_LT(std::abs(std::log(first.predicted->divergence / first.measured->divergence)), std::log(2));
  const double floats = report.in_float.measured->bytes;
  EXPECT_EQ(floats, static_cast<double>(checkpoint_.bytes()));
  EXPECT_TRUE(report.winner.within_budget);
  EXPECT_LE(report.winner.measured->bytes, 0.42 * floats);
  // A mixture: none of the schemes alone is as good within the budget.
  for (const AutoquantPoint& given : report.given) {
    if (given.within_budget) {
      EXPECT_LT(report.winner.measured->divergence, given.measured->divergence) << given.name;
    }
  }
  // An ordinary recipe that does what was measured.
  const Recipe recipe = Recipe::parse(report.winner.recipe, "winner");
  EXPECT_EQ(static_cast<double>(stored_bytes(checkpoint_, *load_model(checkpoint_, &recipe))),
            report.winner.measured->bytes);
  Session session(kDemo, {.recipe = recipe});
  EXPECT_EQ(comparison_.compare(session, "winner").value, report.winner.measured->divergence);
}

TEST_F(Autoquant, WhatIsPredictedOfAWholeSchemeIsWhatWasMeasured) {
  const AutoquantReport report = run("kl<0.5", BudgetTerm::kBytes);
  EXPECT_EQ(report.winner.within_budget, true);
  // The front ends in the fewest bytes and begins there.
  ASSERT_GE(report.front.size(), 3);
  EXPECT_LT(report.front.front().predicted->bytes, report.front.back().predicted->bytes);
  for (const AutoquantPoint& given : report.given) {
    EXPECT_EQ(given.schemes.size(), 1);
    EXPECT_EQ(given.schemes.front().second, 4 * 4) << given.name;
  }
}

TEST_F(Autoquant, SitesChooseAlgorithmsThatOnlyQuantizeModelApplies) {
  const AutoquantReport report = run("bytes<45%", recipes({"w8a16", "w4a16_g128", "w4a16_g128_gptq"}));
  ASSERT_FALSE(report.tried.empty());
  const AutoquantPoint& found = report.tried.front();
  EXPECT_EQ(found.predicted->bytes, found.measured->bytes);
  EXPECT_LT(std::abs(std::log(found.predicted->divergence / found.measured->divergence)), std::log(2.5));
  EXPECT_EQ(report.winner.name, "found");
  EXPECT_FALSE(report.winner.while_loading);
  EXPECT_TRUE(report.winner.needs_data);
  EXPECT_THAT(report.winner.recipe, AllOf(HasSubstr("\"gptq\""), HasSubstr("\"calibration\"")));
  for (const AutoquantPoint& given : report.given)
    EXPECT_EQ(given.while_loading, given.name != "w4a16_g128_gptq") << given.name;

  // Whoever applies the recipe gets the model that was measured.
  const ScratchDirectory scratch(testing::TempDir());
  const Recipe recipe = Recipe::parse(report.winner.recipe, "winner");
  const CalibrationData data = samples(recipe.calibration());
  quantize_model(checkpoint_, recipe, scratch.path() / "model", {.data = &data});
  Session session(scratch.path() / "model");
  EXPECT_EQ(comparison_.compare(session, "winner").value, report.winner.measured->divergence);
  EXPECT_EQ(static_cast<double>(session.checkpoint().bytes()), report.winner.measured->bytes);
}

TEST_F(Autoquant, ARecipeThatFoldsWinsWhereItIsBetterThanAnyChoiceOfSites) {
  std::vector<Recipe> all = recipes({"w4a16_g32"});
  all.push_back(Recipe::parse(
      R"({"name": "folded", "weights": {"bits": 8}, "embeddings": 8, "fold": {"method": "smoothquant"}})", "folded"));
  const AutoquantReport report = run("bytes<55%", std::move(all));
  ASSERT_EQ(report.given.size(), 2);
  ASSERT_FALSE(report.tried.empty());
  EXPECT_EQ(report.winner.name, "folded");
  EXPECT_LT(report.winner.measured->divergence, report.tried.back().measured->divergence);
  EXPECT_TRUE(report.winner.needs_data);
  EXPECT_EQ(report.winner.schemes,
            (std::vector<std::pair<std::string, int64_t>>{{"folded", 4 * 4}, {"embeddings=8", 1}}));
}

TEST_F(Autoquant, WhatCannotBeAppliedIsLeftOutOrRefused) {
  const auto with = [&](const char* text, const std::vector<std::string>& names) {
    std::vector<Recipe> all = recipes(names);
    all.push_back(Recipe::parse(text, "mine"));
    return all;
  };
  const char* minima = R"({"weights": {"bits": 4, "group_size": 32, "minima": true}})";
  EXPECT_THAT(refusal("kl<0.5", with(minima, {"w4a16_g128_hqq"})), HasSubstr("leave one of them out"));
  const AutoquantReport report =
      run("kl<0.5",
          with(R"({"weights": {"bits": 4, "group_size": 32, "minima": true}, "fold": {"method": "awq"}})", {"w8a16"}),
          BudgetTerm::kBytes);
  EXPECT_EQ(report.given.size(), 1);
  EXPECT_THAT(report.notes, testing::Contains(HasSubstr("recipe 'mine' is left out: ")));
  EXPECT_THAT(refusal("kl<0.5", recipes({"w8a8_smoothquant"})), HasSubstr("no scheme for sites to choose from"));
  EXPECT_THAT(refusal("kl<0.5", recipes({"w8a16", "w8a16"})), HasSubstr("two recipes are called 'w8a16'"));
  calibrates_ = false;
  EXPECT_THAT(refusal("kl<0.5", recipes({"w8a16", "w8a8_static"})), HasSubstr("'w8a8_static' needs calibration data"));
}

TEST_F(Autoquant, ABudgetThatCannotBeMetSaysWhatCanBeHad) {
  EXPECT_THAT(
      refusal("bytes<5%,kl<1e-7"),
      AllOf(HasSubstr("nothing is within this budget"), HasSubstr("\n  bytes<5%: "),
            HasSubstr("% of float without them (predicted)"), HasSubstr("\n  kl<1e-7: "), HasSubstr("measured")));
  EXPECT_THAT(refusal("bytes<100%"), HasSubstr("the float model itself is within this budget"));
  EXPECT_THAT(refusal("error<0.1"), HasSubstr("write kl in place of error"));
}

}  // namespace
}  // namespace octet

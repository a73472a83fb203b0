// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

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
    AutoquantOptions options{.budget = parse_budget(budget), .objective = objective, .cpu = {.threads = 1}};
    for (const char* name : {"w8a16", "w8a8_dynamic", "w4a16_g32"}) options.recipes.push_back(Recipe::load(name, {}));
    options.load = {.batch = 1, .prompt = 16, .decode_tokens = 4};
    return autoquant(checkpoint_, comparison_, options);
  }
  std::string refusal(const std::string& budget) {
    try {
      run(budget);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "taken";
  }

  Checkpoint checkpoint_;
  ModelInfo info_;
  OutputComparison comparison_;
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

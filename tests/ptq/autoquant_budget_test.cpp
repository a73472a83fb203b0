// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    parse_budget(text);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "taken";
}

TEST(Budget, TermsAreReadWithTheirUnits) {
  const Budget budget = parse_budget(" bytes<60% , kl <= 0.02,ms≤1.5s,tps>120");
  ASSERT_TRUE(budget.of(BudgetTerm::kBytes));
  EXPECT_TRUE(budget.of(BudgetTerm::kBytes)->of_float);
  EXPECT_DOUBLE_EQ(budget.of(BudgetTerm::kBytes)->value, 0.6);
  EXPECT_EQ(budget.of(BudgetTerm::kBytes)->text, "bytes<60%");
  EXPECT_DOUBLE_EQ(budget.of(BudgetTerm::kKl)->value, 0.02);
  EXPECT_DOUBLE_EQ(budget.of(BudgetTerm::kMs)->value, 1500);
  EXPECT_DOUBLE_EQ(budget.of(BudgetTerm::kTokensPerSecond)->value, 120);
  EXPECT_FALSE(budget.of(BudgetTerm::kError));

  EXPECT_DOUBLE_EQ(parse_budget("bytes<80MB").of(BudgetTerm::kBytes)->value, 80e6);
  EXPECT_DOUBLE_EQ(parse_budget("bytes < 1.5 GiB").of(BudgetTerm::kBytes)->value, 1.5 * (1 << 30));
  EXPECT_DOUBLE_EQ(parse_budget("bytes<1000").of(BudgetTerm::kBytes)->value, 1000);
  EXPECT_DOUBLE_EQ(parse_budget("tokens_per_second≥1e2").of(BudgetTerm::kTokensPerSecond)->value, 100);
  EXPECT_TRUE(parse_budget("tps>=150%").of(BudgetTerm::kTokensPerSecond)->of_float);
  EXPECT_TRUE(parse_budget("ms<50%").of(BudgetTerm::kMs)->of_float);
  EXPECT_DOUBLE_EQ(parse_budget("error<0.03").of(BudgetTerm::kError)->value, 0.03);
}

TEST(Budget, WhatIsWrongIsSaidOfItsTerm) {
  EXPECT_THAT(refusal(""), HasSubstr("term 1 '': is empty"));
  EXPECT_THAT(refusal("bytes<60%,"), HasSubstr("term 2 '': is empty"));
  EXPECT_THAT(refusal("bytes<60%,kl"), HasSubstr("term 2 'kl': no limit"));
  EXPECT_THAT(refusal("kl=0.02"), HasSubstr("term 1 'kl=0.02': no limit"));
  EXPECT_THAT(refusal("kl<<0.02"), HasSubstr("no limit"));
  EXPECT_THAT(refusal("byte<60%"), AllOf(HasSubstr("term 1 'byte<60%'"), HasSubstr("Did you mean 'bytes'?")));
  EXPECT_THAT(refusal("bytes>60%"), HasSubstr("from above only; write < in place of >"));
  EXPECT_THAT(refusal("tps<100"), HasSubstr("from below only; write > in place of <"));
  EXPECT_THAT(refusal("kl<2%"), HasSubstr("write a number"));
  EXPECT_THAT(refusal("kl<0.02nats"), HasSubstr("'nats' is no unit of kl"));
  EXPECT_THAT(refusal("bytes<60MBs"), HasSubstr("'MBs' is no unit of bytes"));
  EXPECT_THAT(refusal("bytes<"), HasSubstr("'' is no number"));
  EXPECT_THAT(refusal("bytes<x"), HasSubstr("'x' is no number"));
  EXPECT_THAT(refusal("bytes<0"), HasSubstr("must be above 0"));
  EXPECT_THAT(refusal("kl<-1"), HasSubstr("must be above 0"));
  EXPECT_THAT(refusal("kl<nan"), HasSubstr("is no number"));
  EXPECT_THAT(refusal("kl<inf"), HasSubstr("is no number"));
  EXPECT_THAT(refusal("kl<1e999"), HasSubstr("is no number"));
  EXPECT_THAT(refusal("kl<0.1,kl<0.2"), HasSubstr("term 2 'kl<0.2': kl has a limit already, 'kl<0.1'"));
}

}  // namespace
}  // namespace octet

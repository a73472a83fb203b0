// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/perplexity.h"

#include <cmath>
#include <numbers>
#include <random>

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/eval/compare_decoders.h"

namespace octet {
namespace {

std::vector<float> random_logits(size_t count, uint32_t seed, float spread = 5) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float& x : logits) x = normal(generator);
  return logits;
}

std::vector<double> softmax(const std::vector<float>& logits) {
  std::vector<double> p;
  double sum = 0;
  for (const float x : logits) sum += p.emplace_back(std::exp(double{x}));
  for (double& x : p) x /= sum;
  return p;
}

TEST(LogSumExp, IsThatOfThePlainSum) {
  for (const size_t count : {1, 7, 8, 9, 31, 1000}) {
    const std::vector<float> logits = random_logits(count, static_cast<uint32_t>(count));
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x});
    EXPECT_NEAR(log_sum_exp(logits), std::log(sum), 1e-13 * std::abs(std::log(sum)) + 1e-14);
  }
  EXPECT_NEAR(log_sum_exp(std::vector<float>{1e5F, 1e5F}), 1e5 + std::numbers::ln2, 1e-10) << "no overflow";
  EXPECT_EQ(log_sum_exp(std::vector<float>{3, -INFINITY}), 3);
  for (const size_t at : {0, 3, 9}) {
    std::vector<float> logits(10);
    logits[at] = NAN;
    EXPECT_TRUE(std::isnan(log_sum_exp(logits)));
  }
}

TEST(NllSums, GivesPerplexitiesAndTheirStandardErrors) {
  const std::vector<double> nll = {1.5, 0.25, 3, 0.75, 2};
  NllSums sums;
  for (const double x : nll) sums.add(x);
  sums.add_text(12, 4);
  const double mean = 7.5 / 5;
  double squares = 0;
  for (const double x : nll) squares += (x - mean) * (x - mean);
  const double deviation = std::sqrt(squares / 4);
  EXPECT_DOUBLE_EQ(sums.per_token().value, std::exp(mean));
  EXPECT_DOUBLE_EQ(sums.per_token().standard_error, std::exp(mean) * deviation / std::sqrt(5));
  EXPECT_DOUBLE_EQ(sums.per_word().value, std::exp(7.5 / 4));
  EXPECT_DOUBLE_EQ(sums.per_word().standard_error, std::exp(7.5 / 4) * deviation * std::sqrt(5) / 4);
  EXPECT_DOUBLE_EQ(sums.per_byte().value, std::exp(7.5 / 12));
  EXPECT_DOUBLE_EQ(sums.bits_per_byte().value, 7.5 / 12 / std::numbers::ln2);
  EXPECT_DOUBLE_EQ(sums.bits_per_byte().standard_error, deviation * std::sqrt(5) / 12 / std::numbers::ln2);
  EXPECT_TRUE(std::isnan(NllSums().per_word().value));
}

TEST(ScoredRows, AreThoseBeforeTheirTargets) {
  TextWindows text;
  text.documents = {{.ids = {10, 11, 12, 13, 14}, .bytes = {2, 3, 5, 8, 9}, .words = {1, 1, 2, 2, 3}}};
  text.windows = {{.document = 0, .begin = 0, .end = 3, .first_scored = 1},
                  {.document = 0, .begin = 2, .end = 5, .first_scored = 4}};
  const std::vector<ScoredRow> rows = scored_rows(text, 0, 2);
  ASSERT_EQ(rows.size(), 3);
  EXPECT_EQ(rows[0].row, 0);
  EXPECT_EQ(rows[0].target, 11);
  EXPECT_EQ(rows[1].row, 1);
  EXPECT_EQ(rows[1].target, 12);
  EXPECT_EQ(rows[2].row, 3 + 1);
  EXPECT_EQ(rows[2].target, 14);
  NllSums sums;
  for (const TextWindows::Window& window : text.windows) add_text_of(text, window, sums);
  EXPECT_EQ(sums.bytes(), (5 - 2) + (9 - 8));
  EXPECT_EQ(sums.words(), (2 - 1) + (3 - 2));
}

TEST(LogitRows, StayWithinTheirMemory) {
  for (const int64_t vocabulary : {2, 512, 49'152, 262'144, 100'000'000}) {
    const int64_t rows = logit_rows_at_once(vocabulary);
    EXPECT_GE(rows, 1);
    EXPECT_TRUE(rows == 1 || rows * vocabulary * 4 <= int64_t{16} << 20) << vocabulary;
  }
}

TEST(KlDivergence, IsThatOfThePlainSum) {
  for (const uint32_t seed : {1, 2, 3}) {
    const std::vector<float> a = random_logits(100, seed), b = random_logits(100, seed + 10);
    const std::vector<double> p = softmax(a), q = softmax(b);
    double expected = 0;
    for (size_t i = 0; i < p.size(); ++i) expected += p[i] * std::log(p[i] / q[i]);
    EXPECT_NEAR(compare_softmax(a, b).kl, expected, 1e-12 * expected);
    EXPECT_EQ(compare_softmax(a, a).kl, 0);
  }
  // A constant added to all logits changes no distribution.
  const std::vector<float> a = {1, 2, 3}, shifted = {5, 6, 7};
  EXPECT_LT(compare_softmax(a, shifted).kl, 1e-15);
  EXPECT_TRUE(std::isnan(compare_softmax(a, std::vector<float>{1, NAN, 3}).kl));
}

TEST(Percentile, InterpolatesLikeNumpy) {
  const std::vector<double> values = {1, 2, 4, 8};
  EXPECT_DOUBLE_EQ(percentile(values, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(values, 0.5), 3);
  EXPECT_DOUBLE_EQ(percentile(values, 0.9), 6.8);
  EXPECT_DOUBLE_EQ(percentile(values, 1), 8);
  EXPECT_DOUBLE_EQ(percentile(std::vector<double>{7}, 0.99), 7);
  EXPECT_THROW(percentile({}, 0.5), Error);
}

}  // namespace
}  // namespace octet

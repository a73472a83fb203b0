// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"

namespace octet {
namespace {

// How often each token is drawn at positions 0 … draws - 1.
std::map<int32_t, int> draws(const SamplingOptions& options, const std::vector<float>& logits, int count) {
  Sampler sampler(options);
  std::map<int32_t, int> drawn;
  std::vector<int32_t> before;
  for (int i = 0; i < count; ++i) {
    ++drawn[sampler.sample(logits, before)];
    before.push_back(0);
  }
  return drawn;
}

std::vector<int32_t> possible(const SamplingOptions& options, const std::vector<float>& logits) {
  std::vector<int32_t> ids;
  for (const auto& [id, count] : draws(options, logits, 20'000)) ids.push_back(id);
  return ids;
}

TEST(Sampler, TemperatureZeroTakesTheMostLikelyTokenAndOfEqualsTheLowestId) {
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2}, {}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, 2, 2, 2}, {}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-INFINITY, -5, -INFINITY}, {}), 1);
}

TEST(Sampler, DrawsInProportionToTheSoftmaxAtItsTemperature) {
  const std::vector<float> logits = {0.5F, -1, 2, 0};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    constexpr int kDraws = 50'000;
    const std::map<int32_t, int> drawn = draws({.temperature = temperature, .seed = 3}, logits, kDraws);
    double total = 0;
    for (const float logit : logits) total += std::exp(logit / temperature);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double p = std::exp(logits[i] / temperature) / total;
      EXPECT_NEAR(static_cast<double>(drawn.at(static_cast<int32_t>(i))) / kDraws, p,
                  5 * std::sqrt(p * (1 - p) / kDraws))
          << "token " << i << " at temperature " << temperature;
    }
  }
}

TEST(Sampler, TopKKeepsTheMostLikelyAndThoseTiedWithTheLastOfThem) {
  const std::vector<float> logits = {1, 4, 3, 2, 3};
  EXPECT_THAT(possible({.temperature = 1, .top_k = 1}, logits), testing::ElementsAre(1));
  EXPECT_THAT(possible({.temperature = 1, .top_k = 2}, logits), testing::ElementsAre(1, 2, 4));
  EXPECT_THAT(possible({.temperature = 1, .top_k = 3}, logits), testing::ElementsAre(1, 2, 4));
  EXPECT_THAT(possible({.temperature = 1, .top_k = 99}, logits), testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST(Sampler, TopPKeepsTheFewestTokensThatReachP) {
  const std::vector<float> logits = {std::log(0.2F), std::log(0.5F), std::log(0.25F), std::log(0.05F)};
  EXPECT_THAT(possible({.temperature = 1, .top_p = 0.4}, logits), testing::ElementsAre(1));
  EXPECT_THAT(possible({.temperature = 1, .top_p = 0.6}, logits), testing::ElementsAre(1, 2));
  EXPECT_THAT(possible({.temperature = 1, .top_p = 0.8}, logits), testing::ElementsAre(0, 1, 2));
  // Of what top-k leaves: 0.5 and 0.25 of 0.75.
  EXPECT_THAT(possible({.temperature = 1, .top_k = 2, .top_p = 0.6}, logits), testing::ElementsAre(1));
  // A tie at the edge: the lower id stays.
  EXPECT_THAT(possible({.temperature = 1, .top_p = 0.5}, {0, 0, 0, 0}), testing::ElementsAre(0, 1));
}

TEST(Sampler, RepetitionPenaltyMakesWhatWasThereLessLikely) {
  const std::vector<int32_t> before = {0, 0, 2};
  Sampler sampler({.repetition_penalty = 1.5});
  EXPECT_EQ(sampler.sample(std::vector<float>{3, 2.1F, 1}, before), 1) << "3 / 1.5 = 2, once although it came twice";
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, -1.4F, -9}, before), 1) << "-1 · 1.5 = -1.5";
  EXPECT_EQ(sampler.sample(std::vector<float>{3, 1.9F, 1}, before), 0);
}

// transformers' processors on the same logits: which tokens are left, and their probabilities.
TEST(Sampler, LeavesTheTokensThatTransformersLeaves) {
  std::ifstream file(OCTET_TEST_FILES "/sampler_cases.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_GT(cases.size(), 10);
  for (const nlohmann::json& example : cases) {
    const std::vector<float> logits = example["logits"];
    const std::vector<int32_t> before = example["before"];
    const std::vector<double> probabilities = example["probabilities"];
    SamplingOptions options{.temperature = example["temperature"],
                            .top_k = example["top_k"],
                            .top_p = example["top_p"],
                            .repetition_penalty = example["repetition_penalty"]};
    constexpr int kDraws = 4000;
    std::vector<int> drawn(logits.size());
    for (int seed = 0; seed < kDraws; ++seed) {
      options.seed = static_cast<uint64_t>(seed);
      ++drawn[static_cast<size_t>(Sampler(options).sample(logits, before))];
    }
    for (size_t i = 0; i < logits.size(); ++i) {
      const double p = probabilities[i];
      EXPECT_NEAR(drawn[i], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)) + 1e-9) << example.dump() << " token " << i;
    }
  }
}

TEST(Sampler, TheSameSeedAndPositionDrawTheSameToken) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7919 % 1000) / 500;
  const SamplingOptions options{.temperature = 1, .seed = 11};
  Sampler a(options), b(options), c({.temperature = 1, .seed = 12});
  std::vector<int32_t> before;
  int different_seed = 0, different_position = 0;
  int32_t last = -1;
  for (int i = 0; i < 50; ++i) {
    const int32_t id = a.sample(logits, before);
    EXPECT_EQ(id, b.sample(logits, before));
    different_seed += id != c.sample(logits, before) ? 1 : 0;
    different_position += id != last ? 1 : 0;
    last = id;
    before.push_back(id);
  }
  EXPECT_GT(different_seed, 40);
  EXPECT_GT(different_position, 40);
  // Written down so that a change of the draw is seen: the text of a seed is a promise.
  EXPECT_EQ(a.sample(logits, {}), 894);
  EXPECT_EQ(a.sample(logits, std::vector<int32_t>(100)), 925);
}

TEST(Sampler, LogitsThatAreNoNumbersAreAnError) {
  for (const SamplingOptions& options : {SamplingOptions{}, SamplingOptions{.temperature = 1}}) {
    Sampler sampler(options);
    EXPECT_THROW(sampler.sample(std::vector<float>{1, NAN, 2}, {}), NumericError);
    EXPECT_THROW(sampler.sample(std::vector<float>{NAN, 1, 2}, {}), NumericError);
    EXPECT_THROW(sampler.sample(std::vector<float>{1, INFINITY, 2}, {}), NumericError);
    EXPECT_THROW(sampler.sample(std::vector<float>{-INFINITY, -INFINITY}, {}), NumericError);
    EXPECT_THROW(sampler.sample({}, {}), NumericError);
  }
}

TEST(Sampler, OptionsOutOfRangeAreRefused) {
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = -1}, SamplingOptions{.temperature = NAN}, SamplingOptions{.top_k = -1},
        SamplingOptions{.top_p = 0}, SamplingOptions{.top_p = 1.1}, SamplingOptions{.repetition_penalty = 0}}) {
    EXPECT_THROW(Sampler{options}, UsageError);
  }
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "tests/json_file.h"

namespace octet {
namespace {

// How often each token is drawn at positions 0 … draws - 1.
std::map<int32_t, int> draws(const SamplingOptions& options, const std::vector<float>& logits, int count) {
  Sampler sampler(options);
  std::map<int32_t, int> drawn;
  std::vector<int32_t> before;
  for (int i = 0; i < count; ++i) {
    ++drawn[sampler.sample(logits, before, 0)];
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
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2}, {}, 0), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, 2, 2, 2}, {}, 0), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-INFINITY, -5, -INFINITY}, {}, 0), 1);
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
  EXPECT_EQ(sampler.sample(std::vector<float>{3, 2.1F, 1}, before, 1), 1) << "3 / 1.5 = 2, once although it came twice";
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, -1.4F, -9}, before, 1), 1) << "-1 · 1.5 = -1.5";
  EXPECT_EQ(sampler.sample(std::vector<float>{3, 1.9F, 1}, before, 1), 0);
}

SamplingOptions options_of(const nlohmann::json& json) {
  SamplingOptions options{.repetition_penalty = json.value("repetition_penalty", 1.0),
                          .no_repeat_ngram_size = json.value("no_repeat_ngram_size", 0),
                          .min_tokens = json.value("min_tokens", 0),
                          .temperature = json.value("temperature", 1.0),
                          .top_k = json.value("top_k", 0),
                          .top_p = json.value("top_p", 1.0),
                          .min_p = json.value("min_p", 0.0),
                          .typical_p = json.value("typical_p", 1.0)};
  const nlohmann::json biases = json.value("logit_bias", nlohmann::json::object());
  for (const auto& [id, bias] : biases.items())
    options.logit_bias.emplace_back(std::stoi(id), bias == "-inf" ? -INFINITY : bias.get<double>());
  return options;
}

// transformers' processors on the same logits: which tokens are left, and their probabilities.
TEST(Sampler, LeavesTheTokensThatTransformersLeaves) {
  const nlohmann::json cases = read_json(OCTET_TEST_FILES "/sampler_cases.json");
  ASSERT_GT(cases.size(), 25);
  for (const nlohmann::json& example : cases) {
    const std::vector<float> logits = example["logits"];
    const std::vector<int32_t> before = example["before"];
    const std::vector<double> probabilities = example["probabilities"];
    const std::vector<int32_t> stop_ids = example["options"].value("stop_ids", std::vector<int32_t>());
    SamplingOptions options = options_of(example["options"]);
    constexpr int kDraws = 4000;
    std::vector<int> drawn(logits.size());
    for (int seed = 0; seed < kDraws; ++seed) {
      options.seed = static_cast<uint64_t>(seed);
      ++drawn[static_cast<size_t>(Sampler(options, stop_ids).sample(logits, before, example["prompt_tokens"]))];
    }
    for (size_t i = 0; i < logits.size(); ++i) {
      const double p = probabilities[i];
      EXPECT_NEAR(drawn[i], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)) + 1e-9)
          << json_text(example) << " token " << i;
    }
  }
}

TEST(Sampler, FrequencyAndPresencePenaltiesCountTheTextAndNotThePrompt) {
  // Token 0 stands once in the prompt, token 1 twice in the text, token 2 once, token 3 in both.
  const std::vector<int32_t> before = {0, 3, 1, 2, 1, 3};
  const auto chosen = [&](const SamplingOptions& options, const std::vector<float>& logits) {
    return Sampler(options).sample(logits, before, 2);
  };
  // 2 · 0.5 of token 1, 0.5 of tokens 2 and 3.
  EXPECT_EQ(chosen({.frequency_penalty = 0.5}, {1.9F, 2.95F, 2.3F, 2.3F}), 1);
  EXPECT_EQ(chosen({.frequency_penalty = 0.5}, {1.99F, 2.95F, 2.3F, 2.3F}), 0);
  EXPECT_EQ(chosen({.frequency_penalty = 0.5}, {1.9F, 2.3F, 2.3F, 2.46F}), 3) << "once, not twice";
  EXPECT_EQ(chosen({.presence_penalty = 0.5}, {1.9F, 2.45F, 2.3F, 2.3F}), 1) << "once, although it came twice";
  EXPECT_EQ(chosen({.presence_penalty = 0.5}, {1.96F, 2.45F, 2.3F, 2.3F}), 0);
  EXPECT_EQ(chosen({.frequency_penalty = -1}, {1.9F, 0, 0.9F, 0.9F}), 1) << "below 0: more likely";
  // The repetition penalty goes first: 3 / 1.5 - 2 · 0.25 - 0.25 = 1.25.
  const SamplingOptions all{.repetition_penalty = 1.5, .frequency_penalty = 0.25, .presence_penalty = 0.25};
  EXPECT_EQ(chosen(all, {1.86F, 3, 0, 0}), 1) << "1.86 / 1.5 = 1.24";
  EXPECT_EQ(chosen(all, {1.89F, 3, 0, 0}), 0) << "1.89 / 1.5 = 1.26";
}

TEST(Sampler, WhatExcludesTokensHoldsForTheMostLikelyToo) {
  const std::vector<float> logits = {3, 5, 4, 1};
  EXPECT_EQ(Sampler({.logit_bias = {{1, -INFINITY}}}).sample(logits, {}, 0), 2);
  EXPECT_EQ(Sampler({.logit_bias = {{3, 4.5}}}).sample(logits, {}, 0), 3);
  const std::vector<int32_t> before = {2, 1, 2};
  EXPECT_EQ(Sampler({.no_repeat_ngram_size = 2}).sample(logits, before, 1), 2) << "1 followed 2 in prompt and text";
  EXPECT_EQ(Sampler({.no_repeat_ngram_size = 3}).sample(logits, before, 1), 1);
  EXPECT_EQ(Sampler({.no_repeat_ngram_size = int64_t{1} << 62}).sample(logits, before, 1), 1);
  const std::vector<int32_t> stop = {1, 2, 99, -1};
  EXPECT_EQ(Sampler({.min_tokens = 3}, stop).sample(logits, before, 1), 0) << "two tokens of text";
  EXPECT_EQ(Sampler({.min_tokens = 2}, stop).sample(logits, before, 1), 1);
  EXPECT_THROW(Sampler({.no_repeat_ngram_size = 1}).sample(std::vector<float>{1, 2}, std::vector<int32_t>{0, 1}, 0),
               NumericError);
  EXPECT_THROW(Sampler({.logit_bias = {{4, 1}}}).sample(logits, {}, 0), UsageError) << "there is no token 4";
}

TEST(Sampler, TokensBeforeThatHaveNoLogitChangeNothing) {
  const std::vector<float> logits = {1, 2, 3};
  const std::vector<int32_t> before = {7, -1, 1 << 30, 7};
  const SamplingOptions options{
      .repetition_penalty = 2, .frequency_penalty = 1, .presence_penalty = 1, .no_repeat_ngram_size = 1};
  EXPECT_EQ(Sampler(options).sample(logits, before, 1), 2);
}

// The plainest reading of each definition, on logits of which many are equal or excluded.
TEST(Sampler, ManyTokensAreTreatedAsFewAre) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = i % 11 == 3 ? -INFINITY : static_cast<float>(i * 7919 % 613) / 40;
  for (const double temperature : {0.3, 1.0, 4.0}) {
    std::vector<double> p(logits.size());
    double total = 0;
    for (size_t i = 0; i < p.size(); ++i) total += p[i] = std::exp(logits[i] / temperature);
    double entropy = 0;
    for (double& value : p) {
      value /= total;
      if (value > 0) entropy -= value * std::log(value);
    }
    const double largest = *std::ranges::max_element(p);
    std::vector<size_t> order;
    for (size_t i = 0; i < p.size(); ++i) order.push_back(i);
    const auto distance = [&](size_t i) { return std::abs(-std::log(p[i]) - entropy); };
    std::ranges::stable_sort(order, [&](size_t a, size_t b) { return distance(a) < distance(b); });
    double sum = 0, farthest = 0;
    for (size_t i = 0; sum < 0.4; ++i) sum += p[order[i]], farthest = distance(order[i]);

    for (const auto& [id, count] : draws({.temperature = temperature, .typical_p = 0.4}, logits, 300))
      EXPECT_LE(distance(static_cast<size_t>(id)), farthest + 1e-9) << id << " at " << temperature;
    for (const auto& [id, count] : draws({.temperature = temperature, .min_p = 0.3}, logits, 300))
      EXPECT_GE(p[static_cast<size_t>(id)], 0.3 * largest * (1 - 1e-12)) << id << " at " << temperature;
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
    const int32_t id = a.sample(logits, before, 0);
    EXPECT_EQ(id, b.sample(logits, before, 0));
    different_seed += id != c.sample(logits, before, 0) ? 1 : 0;
    different_position += id != last ? 1 : 0;
    last = id;
    before.push_back(id);
  }
  EXPECT_GT(different_seed, 40);
  EXPECT_GT(different_position, 40);
  // Written down so that a change of the draw is seen: the text of a seed is a promise.
  EXPECT_EQ(a.sample(logits, {}, 0), 894);
  EXPECT_EQ(a.sample(logits, std::vector<int32_t>(100), 0), 925);
}

TEST(Sampler, LogitsThatAreNoNumbersAreAnError) {
  for (const SamplingOptions& options : {SamplingOptions{}, SamplingOptions{.temperature = 1}}) {
    Sampler sampler(options);
    EXPECT_THROW(sampler.sample(std::vector<float>{1, NAN, 2}, {}, 0), NumericError);
    EXPECT_THROW(sampler.sample(std::vector<float>{NAN, 1, 2}, {}, 0), NumericError);
    EXPECT_THROW(sampler.sample(std::vector<float>{1, INFINITY, 2}, {}, 0), NumericError);
    EXPECT_THROW(sampler.sample(std::vector<float>{-INFINITY, -INFINITY}, {}, 0), NumericError);
    EXPECT_THROW(sampler.sample({}, {}, 0), NumericError);
  }
}

TEST(Sampler, OptionsOutOfRangeAreRefused) {
  const std::pair<SamplingOptions, const char*> refused[] = {
      {{.logit_bias = {{-1, 1}}}, "logit_bias"},
      {{.logit_bias = {{1, NAN}}}, "logit bias of token 1"},
      {{.logit_bias = {{1, INFINITY}}}, "logit bias of token 1"},
      {{.repetition_penalty = 0}, "repetition penalty"},
      {{.repetition_penalty = INFINITY}, "repetition penalty"},
      {{.frequency_penalty = NAN}, "frequency penalty"},
      {{.presence_penalty = -INFINITY}, "presence penalty"},
      {{.no_repeat_ngram_size = -1}, "no_repeat_ngram_size"},
      {{.min_tokens = -1}, "min_tokens"},
      {{.temperature = -1}, "temperature"},
      {{.temperature = NAN}, "temperature"},
      {{.top_k = -1}, "top_k"},
      {{.top_p = 0}, "top_p"},
      {{.top_p = 1.1}, "top_p"},
      {{.min_p = -0.1}, "min_p"},
      {{.min_p = 1.1}, "min_p"},
      {{.min_p = NAN}, "min_p"},
      {{.typical_p = 0}, "typical_p"},
      {{.typical_p = NAN}, "typical_p"},
  };
  for (const auto& [options, named] : refused) {
    try {
      Sampler sampler(options);
      ADD_FAILURE() << named << " was taken";
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(named));
    }
  }
  EXPECT_THROW(check_sampling({.logit_bias = {{97, 1}}}, 97), UsageError);
  EXPECT_NO_THROW(check_sampling({.logit_bias = {{96, 1}}}, 97));
}

}  // namespace
}  // namespace octet

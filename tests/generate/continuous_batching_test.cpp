// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <random>

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/generate/generator.h"

namespace octet {
namespace {

using Ids = std::vector<int32_t>;

// Texts of the demo's decoder, whose context of 512 tokens holds eight blocks of a cache.
class ContinuousBatching : public testing::Test {
 protected:
  static Ids prompt_of(size_t length, int32_t first = 3) {
    Ids ids;
    for (size_t i = 0; i < length; ++i) ids.push_back((first + static_cast<int32_t>(i) * 17) % 2048);
    return ids;
  }
  static SamplingOptions sampling(int64_t i) {
    return i % 2 == 0 ? SamplingOptions{}
                      : SamplingOptions{.temperature = 0.9, .top_k = 50, .seed = static_cast<uint64_t>(i)};
  }
  Ids alone(const Ids& prompt, int64_t max_tokens, const SamplingOptions& options = {}) {
    return generate(session_, std::vector<Ids>{prompt}, {.sampling = options, .max_tokens = max_tokens})[0].ids;
  }
  static void run(Generator& generator) {
    while (!generator.idle()) generator.step();
  }

  Session session_{OCTET_DEMO_DECODER};
};

TEST_F(ContinuousBatching, ATextThatJoinsAndLeavesAtAnyStepIsThatOfItsPromptAlone) {
  std::mt19937 random(3);
  const auto below = [&](size_t n) { return static_cast<int64_t>(random() % n); };
  struct Expected {
    Ids ids;
    bool cancelled;
  };
  for (const int64_t batch : {2, 5}) {
    Generator generator(session_, {.batch = batch, .prefill_tokens = 40});
    std::map<int64_t, Expected> expected;
    std::map<int64_t, Generation> got;
    for (int64_t i = 0; i < 12; ++i) {
      // Half of the prompts begin with the same 130 tokens, and some are the same altogether.
      Ids prompt = i % 2 == 0 ? prompt_of(130) : Ids();
      const Ids more = prompt_of(static_cast<size_t>(1 + below(100)), static_cast<int32_t>(below(3)));
      prompt.insert(prompt.end(), more.begin(), more.end());
      const int64_t max_tokens = 1 + below(20);
      const bool cancelled = below(4) == 0;
      const auto number = static_cast<int64_t>(expected.size());
      const int64_t submitted =
          generator.submit({.prompt = prompt,
                            .sampling = sampling(i),
                            .max_tokens = max_tokens,
                            .on_finish = [&got, number](const Generation& g) { got[number] = g; }});
      ASSERT_EQ(submitted, number);
      expected[number] = {.ids = alone(prompt, max_tokens, sampling(i)), .cancelled = cancelled};
      for (int64_t steps = below(6); steps > 0; --steps) generator.step();
      if (cancelled) generator.cancel(number);
    }
    run(generator);
    ASSERT_EQ(got.size(), expected.size());
    for (const auto& [number, text] : expected) {
      const Generation& generation = got[number];
      if (generation.finish_reason == FinishReason::kCancelled) {
        EXPECT_TRUE(text.cancelled);
        ASSERT_LE(generation.ids.size(), text.ids.size());
        EXPECT_TRUE(std::equal(generation.ids.begin(), generation.ids.end(), text.ids.begin())) << number;
      } else {
        EXPECT_EQ(generation.ids, text.ids) << "request " << number << ", batch " << batch;
      }
    }
  }
}

TEST_F(ContinuousBatching, PromptsThatBeginAlikeRunTheirBeginningOnce) {
  std::vector<Ids> prompts(4, prompt_of(150));
  for (size_t i = 0; i < prompts.size(); ++i) prompts[i].push_back(static_cast<int32_t>(i) + 7);
  const std::vector<Generation> texts = generate(session_, prompts, {.max_tokens = 5, .batch = 4});
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(texts[i].cached_tokens, i == 0 ? 0 : 128);
    EXPECT_EQ(texts[i].ids, alone(prompts[i], 5));
  }
}

TEST_F(ContinuousBatching, ACancelledRequestEndsAtOnceOrBeforeTheNextStep) {
  Generator generator(session_, {.batch = 1});
  std::vector<std::pair<int64_t, Generation>> ended;
  for (int64_t i = 0; i < 2; ++i) {
    generator.submit({.prompt = prompt_of(5), .max_tokens = 50, .on_finish = [&, i](const Generation& g) {
                        ended.emplace_back(i, g);
                      }});
  }
  for (int i = 0; i < 3; ++i) generator.step();
  generator.cancel(1);
  ASSERT_EQ(ended.size(), 1);
  EXPECT_EQ(ended[0].first, 1);
  EXPECT_TRUE(ended[0].second.ids.empty());
  generator.cancel(0);
  run(generator);
  ASSERT_EQ(ended.size(), 2);
  EXPECT_EQ(to_string(ended[1].second.finish_reason), "cancelled");
  EXPECT_EQ(ended[1].second.ids.size(), 3);
  generator.cancel(0);
  generator.cancel(17);
  EXPECT_EQ(ended.size(), 2);
}

TEST_F(ContinuousBatching, AFunctionOfARequestMayEndItsTextAndSubmitOthers) {
  Generator generator(session_, {});
  const Ids expected = alone(prompt_of(9), 10);
  Generation first, second;
  int tokens = 0;
  generator.submit({.prompt = prompt_of(9),
                    .on_token = [&](int32_t) { return ++tokens == 4 ? OnToken::kStop : OnToken::kContinue; },
                    .on_finish =
                        [&](const Generation& g) {
                          first = g;
                          generator.submit({.prompt = prompt_of(9),
                                            .max_tokens = 10,
                                            .on_finish = [&](const Generation& other) { second = other; }});
                        }});
  run(generator);
  EXPECT_THAT(first.ids, testing::ElementsAreArray(expected.begin(), expected.begin() + 4));
  EXPECT_EQ(to_string(first.finish_reason), "stop");
  EXPECT_EQ(second.ids, expected);
}

TEST_F(ContinuousBatching, AStepThatFailsCanBeTakenAgain) {
  Generator generator(session_, {});
  Generation text;
  bool thrown = false;
  generator.submit({.prompt = prompt_of(9),
                    .max_tokens = 8,
                    .on_token =
                        [&](int32_t) {
                          if (!thrown) {
                            thrown = true;
                            throw Error("the reader is gone");
                          }
                          return OnToken::kContinue;
                        },
                    .on_finish = [&](const Generation& g) { text = g; }});
  EXPECT_THROW(run(generator), Error);
  run(generator);
  EXPECT_EQ(text.ids, alone(prompt_of(9), 8));
}

TEST_F(ContinuousBatching, ImpossibleRequestsAreRefusedAndNothingElse) {
  Generator generator(session_, {});
  EXPECT_THROW(generator.submit({.prompt = {}}), Error);
  EXPECT_THROW(generator.submit({.prompt = prompt_of(513)}), Error);
  EXPECT_THROW(generator.submit({.prompt = {1}, .max_tokens = 0}), UsageError);
  EXPECT_THROW(generator.submit({.prompt = {1}, .sampling = {.temperature = -1}}), UsageError);
  EXPECT_TRUE(generator.idle());
  EXPECT_THROW(Generator(session_, {.batch = 0}), UsageError);
}

}  // namespace
}  // namespace octet

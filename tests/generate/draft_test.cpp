// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/draft.h"

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/generate/generator.h"

namespace octet {
namespace {

using Ids = std::vector<int32_t>;
using testing::ElementsAre;

const std::string kGolden = OCTET_GOLDEN;

Ids prompt_of(int length, int first) {
  Ids ids;
  for (int i = 0; i < length; ++i) ids.push_back((first + i * 17) % 97);
  return ids;
}

// Guesses the text's true continuation, but for some places.
class Oracle final : public Draft {
 public:
  Oracle(std::vector<Ids> texts, int64_t wrong_every) : texts_(std::move(texts)), wrong_every_(wrong_every) {}

  std::vector<Ids> guess(std::span<const DraftText> texts) override {
    std::vector<Ids> guesses;
    for (const DraftText& text : texts) {
      const Ids& truth = texts_[static_cast<size_t>(text.request)];
      Ids& some = guesses.emplace_back();
      for (size_t i = text.ids.size(); i < truth.size() && std::ssize(some) < text.most; ++i)
        some.push_back(++count_ % wrong_every_ == 0 ? (truth[i] + 1) % 97 : truth[i]);
    }
    return guesses;
  }
  void forget(int64_t request) override { forgotten.push_back(request); }

  std::vector<int64_t> forgotten;

 private:
  std::vector<Ids> texts_;
  int64_t wrong_every_, count_ = 0;
};

class Speculation : public testing::TestWithParam<const char*> {
 protected:
  std::vector<Generation> run(const SamplingOptions& sampling, Draft* draft, int64_t draft_tokens = 8) {
    return generate(session_, prompts_,
                    {.sampling = sampling,
                     .max_tokens = 20,
                     .batch = 3,
                     .prefill_tokens = 7,
                     .draft = draft,
                     .draft_tokens = draft_tokens});
  }
  void expect_same_texts(const SamplingOptions& sampling, Draft& draft) {
    const std::vector<Generation> plain = run(sampling, nullptr);
    for (const int64_t draft_tokens : {1, 3, 16}) {
      const std::vector<Generation> guessed = run(sampling, &draft, draft_tokens);
      for (size_t i = 0; i < plain.size(); ++i) {
        EXPECT_EQ(guessed[i].ids, plain[i].ids) << "prompt " << i << ", " << draft_tokens << " guesses";
        EXPECT_EQ(guessed[i].finish_reason, plain[i].finish_reason);
        EXPECT_LE(guessed[i].kept_guesses, guessed[i].guessed_tokens);
      }
    }
  }

  Session session_{kGolden + "/" + GetParam()};
  // The third fills the context of 48 tokens.
  std::vector<Ids> prompts_ = {prompt_of(3, 5), prompt_of(12, 8), prompt_of(40, 1), prompt_of(1, 9)};
  const std::vector<SamplingOptions> samplings_ = {
      {}, {.temperature = 1.0, .top_k = 20, .seed = 4}, {.repetition_penalty = 1.3, .temperature = 0.7, .seed = 5}};
};

TEST_P(Speculation, GuessesRightAndWrongChangeNoText) {
  for (const SamplingOptions& sampling : samplings_) {
    std::vector<Ids> truth = prompts_;
    const std::vector<Generation> plain = run(sampling, nullptr);
    for (size_t i = 0; i < truth.size(); ++i) truth[i].insert(truth[i].end(), plain[i].ids.begin(), plain[i].ids.end());
    for (const int64_t wrong_every : {1, 2, 5, 1000}) {
      Oracle oracle(truth, wrong_every);
      expect_same_texts(sampling, oracle);
    }
  }
}

TEST_P(Speculation, ADraftModelChangesNoText) {
  for (const char* name : {"llama_base", "gpt2"}) {
    Session small(kGolden + "/" + name);
    for (const SamplingOptions& sampling : samplings_) {
      DraftModel draft(small);
      expect_same_texts(sampling, draft);
    }
  }
}

TEST_P(Speculation, AModelThatGuessesAtItselfIsAlwaysRight) {
  Session twin(kGolden + "/" + GetParam());
  DraftModel draft(twin);
  for (const SamplingOptions& sampling : samplings_) {
    for (const Generation& text : run(sampling, &draft)) EXPECT_EQ(text.kept_guesses, text.guessed_tokens);
  }
  EXPECT_GT(run({}, &draft)[0].guessed_tokens, 10);
}

TEST_P(Speculation, PromptLookupChangesNoText) {
  PromptLookup draft;
  for (const SamplingOptions& sampling : samplings_) expect_same_texts(sampling, draft);
}

TEST_P(Speculation, DraftsHearOfTheEnd) {
  Oracle oracle(std::vector<Ids>(prompts_.size()), 1);
  run({}, &oracle);
  EXPECT_THAT(oracle.forgotten, testing::UnorderedElementsAre(0, 1, 2, 3));
}

TEST_P(Speculation, AStopTokenAmongTheGuessesEndsTheText) {
  const Ids text = run({}, nullptr)[0].ids;
  const int32_t stop = text[9];
  const auto first = std::find(text.begin(), text.end(), stop);
  Ids truth = prompts_[0];
  truth.insert(truth.end(), text.begin(), text.end());
  Oracle oracle({truth}, 1000);
  const Generation stopped = generate(session_, std::vector<Ids>{prompts_[0]},
                                      {.max_tokens = 20, .stop_ids = {stop}, .draft = &oracle, .draft_tokens = 16})[0];
  EXPECT_THAT(stopped.ids, testing::ElementsAreArray(text.begin(), first + 1));
}

INSTANTIATE_TEST_SUITE_P(Golden, Speculation, testing::Values("llama_base", "gpt2"),
                         [](const auto& model) { return std::string(model.param); });

Ids look_up(const Ids& ids, int64_t most, int64_t longest = 3, int64_t shortest = 1) {
  const DraftText text{.ids = ids, .most = most};
  return PromptLookup(longest, shortest).guess(std::span(&text, 1))[0];
}

TEST(PromptLookupTest, GivesWhatFollowedTheLongestEndLast) {
  EXPECT_THAT(look_up({1, 2, 3, 4, 9, 2, 3, 7, 1, 2, 3}, 4), ElementsAre(4, 9, 2, 3)) << "three before two";
  EXPECT_THAT(look_up({2, 3, 5, 2, 3, 6, 2, 3}, 2), ElementsAre(6, 2)) << "the last of two places";
  EXPECT_THAT(look_up({5, 5, 5}, 8), ElementsAre(5)) << "a place may overlap the end";
  EXPECT_THAT(look_up({1, 2, 3}, 8), ElementsAre());
  EXPECT_THAT(look_up({1}, 8), ElementsAre());
  EXPECT_THAT(look_up({4, 1, 5, 1}, 8, 3, 2), ElementsAre()) << "one token is too little to go by";
  EXPECT_THROW(PromptLookup(2, 3), UsageError);
  EXPECT_THROW(PromptLookup(2, 0), UsageError);
}

TEST(DraftModelTest, MustPredictTokens) {
  Session encoder(kGolden + "/bert_base");
  EXPECT_THROW(DraftModel draft(encoder), UsageError);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/beam_search.h"

#include <map>
#include <set>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "tests/json_file.h"

namespace octet {
namespace {

using Ids = std::vector<int32_t>;

const std::string kGolden = OCTET_GOLDEN;

TEST(BeamSearch, FindsTheTextsOfTransformers) {
  const std::map<std::string, EarlyStopping> stopping = {
      {"likely", EarlyStopping::kLikely}, {"full", EarlyStopping::kFull}, {"never", EarlyStopping::kNever}};
  std::map<std::string, Session> sessions;
  for (const nlohmann::json& one : read_json(OCTET_TEST_FILES "/beam_cases.json")) {
    const std::string name = one["model"];
    Session& session = sessions.try_emplace(name, kGolden + "/" + name).first->second;
    const std::vector<BeamText> texts =
        beam_search(session, one["prompt"].get<Ids>(),
                    {.beams = one["beams"],
                     .results = one["results"],
                     .length_penalty = one["length_penalty"],
                     .early_stopping = stopping.at(one["early_stopping"]),
                     .max_tokens = one["max_tokens"],
                     .stop_ids = one["stop_ids"].get<Ids>(),
                     .sampling = {.repetition_penalty = one["repetition_penalty"],
                                  .no_repeat_ngram_size = one["no_repeat_ngram_size"]}});
    const std::string which = json_text(one);
    ASSERT_EQ(texts.size(), one["texts"].size()) << which;
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(texts[i].ids, one["texts"][i]["ids"].get<Ids>()) << i << " of " << which;
      const double score = one["texts"][i]["score"];
      EXPECT_NEAR(texts[i].score, score, 1e-5 - 2e-6 * score) << i << " of " << which;
    }
  }
}

class Beams : public testing::Test {
 protected:
  static Ids prompt_of(size_t length) {
    Ids ids;
    for (size_t i = 0; i < length; ++i) ids.push_back((3 + static_cast<int32_t>(i) * 17) % 2048);
    return ids;
  }

  Session session_{OCTET_DEMO_DECODER};
};

TEST_F(Beams, OneIsTheGreedyText) {
  for (const size_t length : {1, 100}) {
    const Ids greedy = generate(session_, std::vector<Ids>{prompt_of(length)}, {.max_tokens = 30})[0].ids;
    EXPECT_EQ(beam_search(session_, prompt_of(length), {.beams = 1, .max_tokens = 30})[0].ids, greedy);
  }
}

TEST_F(Beams, APromptReadInPiecesGivesTheSameTexts) {
  // Beams of 150 tokens and more fork in full blocks of the cache and in unfinished ones.
  const BeamSearchOptions whole{.beams = 4, .results = 4, .max_tokens = 60};
  BeamSearchOptions pieces = whole;
  pieces.prefill_tokens = 7;
  const std::vector<BeamText> a = beam_search(session_, prompt_of(150), whole),
                              b = beam_search(session_, prompt_of(150), pieces);
  ASSERT_EQ(a.size(), 4);
  std::set<Ids> different;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].ids, b[i].ids);
    EXPECT_EQ(a[i].score, b[i].score);
    EXPECT_LE(a[i].score, a[i == 0 ? 0 : i - 1].score);
    different.insert(a[i].ids);
  }
  EXPECT_EQ(different.size(), 4);
}

// The log-likelihood of a text, computed in one pass without a cache, is the one that the search added up.
TEST_F(Beams, AScoreIsTheLogLikelihoodOfItsText) {
  const Ids prompt = prompt_of(70);
  for (const BeamText& text :
       beam_search(session_, prompt, {.beams = 3, .results = 3, .length_penalty = 0, .max_tokens = 25})) {
    Ids all = prompt;
    all.insert(all.end(), text.ids.begin(), text.ids.end());
    TokenBatch batch;
    batch.add(all);
    const Tensor output = session_.run(batch);
    const int64_t vocabulary = session_.model().info().vocabulary;
    double log_likelihood = 0;
    for (size_t i = prompt.size(); i < all.size(); ++i) {
      const auto row =
          output.as<float>().subspan((i - 1) * static_cast<size_t>(vocabulary), static_cast<size_t>(vocabulary));
      double sum = 0;
      for (const float logit : row) sum += std::exp(static_cast<double>(logit));
      log_likelihood += row[static_cast<size_t>(all[i])] - std::log(sum);
    }
    EXPECT_NEAR(text.score, log_likelihood, 1e-9 * std::abs(log_likelihood) + 1e-9);
  }
}

TEST_F(Beams, EndAtTheContext) {
  const std::vector<BeamText> texts = beam_search(session_, prompt_of(505), {.beams = 2, .max_tokens = 100});
  EXPECT_EQ(texts[0].ids.size(), 512 - 505 + 1);
  EXPECT_EQ(texts[0].finish_reason, FinishReason::kContext);
  EXPECT_EQ(beam_search(session_, prompt_of(512), {})[0].ids.size(), 1);
}

TEST_F(Beams, ImpossibleSearchesAreRefused) {
  EXPECT_THROW(beam_search(session_, {}, {}), Error);
  EXPECT_THROW(beam_search(session_, prompt_of(513), {}), Error);
  const Ids prompt = {1};
  EXPECT_THROW(beam_search(session_, prompt, {.beams = 0}), UsageError);
  EXPECT_THROW(beam_search(session_, prompt, {.beams = 2049}), UsageError);
  EXPECT_THROW(beam_search(session_, prompt, {.beams = 2, .results = 3}), UsageError);
  EXPECT_THROW(beam_search(session_, prompt, {.length_penalty = INFINITY}), UsageError);
  EXPECT_THROW(beam_search(session_, prompt, {.max_tokens = 0}), UsageError);
  EXPECT_THROW(beam_search(session_, prompt, {.sampling = {.temperature = 1}}), UsageError);
}

}  // namespace
}  // namespace octet

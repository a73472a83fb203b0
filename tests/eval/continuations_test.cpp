// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/continuations.h"

#include <cmath>
#include <random>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "tests/json_file.h"

namespace octet {
namespace {

const std::string kGolden = OCTET_GOLDEN, kDemo = OCTET_DEMO_DECODER;
constexpr int32_t kVocabulary = 97;  // of the golden decoders
constexpr int64_t kContext = 48;

std::vector<Continuations> random_elements(size_t count) {
  std::mt19937 random(7);
  const auto ids_of = [&](size_t length) {
    std::vector<int32_t> ids(length);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % kVocabulary);
    return ids;
  };
  std::vector<Continuations> elements(count);
  for (Continuations& element : elements) {
    element.context = ids_of(1 + random() % 30);
    for (size_t k = random() % 5; k > 0; --k) element.continuations.push_back(ids_of(1 + random() % 18));
  }
  return elements;
}

// One pass over context and continuation, nothing shared.
Likelihood plainly(Session& session, const std::vector<int32_t>& context, const std::vector<int32_t>& continuation) {
  std::vector<int32_t> ids = context;
  ids.insert(ids.end(), continuation.begin(), continuation.end() - 1);
  TokenBatch batch;
  batch.add(ids);
  const Tensor output = session.run(batch);
  const std::span<const float> logits = output.as<float>();
  Likelihood result;
  for (size_t t = 0; t < continuation.size(); ++t) {
    const auto row = logits.subspan((context.size() - 1 + t) * kVocabulary, kVocabulary);
    double sum = 0;
    for (const float x : row) sum += std::exp(double{x});
    result.log += row[static_cast<size_t>(continuation[t])] - std::log(sum);
    result.greedy = result.greedy && std::ranges::max_element(row) - row.begin() == continuation[t];
  }
  return result;
}

TEST(Continuations, HaveTheLikelihoodsOfOnePassOverEach) {
  for (const char* model : {"llama_base", "gpt2"}) {
    Session session(kGolden + "/" + model);
    std::vector<Continuations> elements = random_elements(60);
    // Some that are the most likely ones.
    for (size_t i = 0; i < elements.size(); i += 3) {
      TokenBatch batch;
      batch.add(elements[i].context);
      const Tensor output = session.run(batch);
      const auto row = output.as<float>().last(kVocabulary);
      elements[i].continuations.push_back({static_cast<int32_t>(std::ranges::max_element(row) - row.begin())});
    }
    int64_t told = 0;
    const auto all = likelihoods(session, elements, 0, [&](int64_t more) { told += more; });
    EXPECT_EQ(told, std::ssize(elements));
    ASSERT_EQ(all.size(), elements.size());
    int greedy = 0;
    for (size_t i = 0; i < elements.size(); ++i) {
      ASSERT_EQ(all[i].size(), elements[i].continuations.size());
      for (size_t k = 0; k < all[i].size(); ++k) {
        const Likelihood expected = plainly(session, elements[i].context, elements[i].continuations[k]);
        EXPECT_NEAR(all[i][k].log, expected.log, 1e-10 * std::abs(expected.log)) << model << " " << i << " " << k;
        EXPECT_EQ(all[i][k].greedy, expected.greedy);
        greedy += expected.greedy ? 1 : 0;
      }
      const auto alone = likelihoods(session, std::span(elements).subspan(i, 1), 1);
      for (size_t k = 0; k < all[i].size(); ++k) EXPECT_EQ(alone[0][k].log, all[i][k].log) << "alone, the same bits";
    }
    EXPECT_GE(greedy, 20);
  }
}

TEST(Continuations, AreThoseOfTransformers) {
  Session session(kDemo);
  const Tokenizer tokenizer = Tokenizer::load(kDemo);
  const nlohmann::json cases = read_json(OCTET_TEST_FILES "/likelihood_cases.json");
  ASSERT_GE(cases.size(), 7);
  std::vector<Continuations> elements;
  for (const nlohmann::json& example : cases) {
    elements.push_back(tokenize_continuations(tokenizer, example["context"].get<std::string>(),
                                              example["continuations"].get<std::vector<std::string>>(), "a case"));
  }
  const auto all = likelihoods(session, elements, 0);
  for (size_t i = 0; i < cases.size(); ++i) {
    for (size_t k = 0; k < all[i].size(); ++k) {
      const nlohmann::json& expected = cases[i]["results"][k];
      EXPECT_EQ(elements[i].continuations[k].size(), expected["tokens"]) << json_text(cases[i]) << k;
      EXPECT_NEAR(all[i][k].log, expected["log"], 1e-3) << json_text(cases[i]) << k;
      EXPECT_EQ(all[i][k].greedy, expected["greedy"]) << json_text(cases[i]) << k;
    }
  }
}

TEST(Continuations, TakeTheWhiteSpaceAtTheEndOfTheContext) {
  const Tokenizer tokenizer = Tokenizer::load(kDemo);
  const std::vector<std::string> without = {"dog"}, with = {" dog"}, lines = {"\n\u3000dog"};
  const Continuations a = tokenize_continuations(tokenizer, "The big ", without, "");
  const Continuations b = tokenize_continuations(tokenizer, "The big", with, "");
  EXPECT_EQ(a.context, b.context);
  EXPECT_EQ(a.continuations, b.continuations);
  EXPECT_EQ(tokenize_continuations(tokenizer, "The big\n\u3000", without, "").continuations,
            tokenize_continuations(tokenizer, "The big", lines, "").continuations);
}

TEST(Continuations, OfNoContextFollowTheTokenThatBeginsATextOrEndsOne) {
  const Tokenizer tokenizer = Tokenizer::load(kDemo);
  const std::vector<std::string> texts = {"Once upon", " a"};
  const Continuations empty = tokenize_continuations(tokenizer, " ", texts, "");
  EXPECT_THAT(empty.context, testing::ElementsAre(*tokenizer.bos_id()));
  EXPECT_EQ(tokenizer.decode(empty.continuations[0]), " Once upon");
}

TEST(Continuations, ThatAddNoTokenAreAnError) {
  const Tokenizer tokenizer = Tokenizer::load(kDemo);
  const std::vector<std::string> nothing = {" dog", ""};
  try {
    tokenize_continuations(tokenizer, "The big", nothing, "lines.jsonl: line 3");
    ADD_FAILURE() << "no error";
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("lines.jsonl: line 3: "));
  }
}

TEST(Continuations, TooLongForTheModelLoseTheBeginningOfTheirContext) {
  const std::vector<int32_t> context = {1, 2, 3, 4, 5};
  Continuations element{.context = context, .continuations = {{6}, {7, 8, 9}}};
  EXPECT_FALSE(truncate_context(element, 7, ""));
  EXPECT_EQ(element.context, context) << "the last token of a continuation is not run";
  EXPECT_TRUE(truncate_context(element, 5, ""));
  EXPECT_THAT(element.context, testing::ElementsAre(3, 4, 5));
  EXPECT_TRUE(truncate_context(element, 3, ""));
  EXPECT_THAT(element.context, testing::ElementsAre(5));
  EXPECT_THROW(truncate_context(element, 2, "line 4"), FormatError);

  Session session(kGolden + "/llama_base");
  std::vector<Continuations> longest = {{.context = std::vector<int32_t>(60, 3), .continuations = {{4}, {5, 6, 7}}}};
  ASSERT_TRUE(truncate_context(longest[0], kContext, ""));
  EXPECT_TRUE(std::isfinite(likelihoods(session, longest, 0)[0][1].log)) << "the model's whole context";
}

TEST(Continuations, NeedADecoder) {
  Session session(kGolden + "/bert_base");
  EXPECT_THROW(likelihoods(session, {}, 0), UsageError);
}

}  // namespace
}  // namespace octet

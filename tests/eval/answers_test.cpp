// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/answers.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/eval/task.h"

namespace octet {
namespace {

const nlohmann::json& cases(const char* kind) {
  static const nlohmann::json all =
      parse_json(read_text_file(OCTET_TEST_FILES "/answer_cases.json", 1 << 20), "answer_cases.json");
  return all.at(kind);
}

TEST(Answers, AreComparedAsSquadDefines) {
  for (const nlohmann::json& c : cases("metrics")) {
    const std::string answer = c["answer"];
    const std::vector<std::string> right = c["right"];
    EXPECT_EQ(normalize_answer(answer), c["normalized"]) << answer;
    EXPECT_EQ(exact_match(answer, right), c["exact_match"] == 1) << c;
    EXPECT_NEAR(answer_f1(answer, right), c["f1"], 1e-12) << c;
  }
}

TEST(Answers, ByHand) {
  EXPECT_EQ(normalize_answer(" The  U.S. of A, an\ttheory "), "us of theory");
  const std::vector<std::string> right = {"Denver Broncos", "the Broncos of Denver"};
  EXPECT_TRUE(exact_match("denver broncos!", right));
  EXPECT_FALSE(exact_match("Broncos Denver", right));
  EXPECT_EQ(answer_f1("Broncos Denver", right), 1);
  EXPECT_DOUBLE_EQ(answer_f1("the Denver team", right), 0.5) << "one of two words, one of two given";
  EXPECT_EQ(answer_f1("", right), 0);
  EXPECT_EQ(answer_f1("the", std::vector<std::string>{"a"}), 0) << "no words are shared where there are none";
  EXPECT_TRUE(exact_match("the", std::vector<std::string>{"a"}));
}

TEST(Answers, AreTheLikeliestSpansOfAllWindows) {
  for (const nlohmann::json& c : cases("spans")) {
    const std::vector<SquadQuestion> questions = {
        {.id = "q", .context = c["context"], .question = "", .answers = {"x"}, .answer_starts = {0}}};
    std::vector<SpanFeature> features;
    std::vector<SpanLogits> logits;
    for (const nlohmann::json& window : c["windows"]) {
      SpanFeature feature;
      const int64_t begin = window["begin"], count = window["count"];
      feature.ids.resize(count + 3);
      feature.context_begin = 2, feature.context_end = 2 + count;
      for (int64_t i = 0; i < count; ++i) feature.offsets.emplace_back(begin + i, begin + i + 1);
      features.push_back(feature);
      logits.push_back({window["start"].get<std::vector<float>>(), window["end"].get<std::vector<float>>()});
    }
    EXPECT_THAT(best_answers(questions, features, logits, {.candidates = 5, .longest = 7}),
                testing::ElementsAre(c["answer"].get<std::string>()))
        << c;
    logits.back().end.pop_back();
    EXPECT_THROW(best_answers(questions, features, logits), ShapeError);
  }
}

TEST(Answers, MetricsAreMeans) {
  const std::vector<SquadQuestion> questions = {
      {.id = "1", .context = "", .question = "", .answers = {"a b c"}, .answer_starts = {0}},
      {.id = "2", .context = "", .question = "", .answers = {"d"}, .answer_starts = {0}}};
  const auto metrics = squad_metrics(questions, std::vector<std::string>{"b", "d"});
  ASSERT_EQ(metrics.size(), 2);
  EXPECT_EQ(metrics[0].name, "f1");
  EXPECT_DOUBLE_EQ(metrics[0].value, (2.0 / 3 + 1) / 2);
  EXPECT_EQ(metrics[1].name, "exact_match");
  EXPECT_DOUBLE_EQ(metrics[1].value, 0.5);
  EXPECT_DOUBLE_EQ(*metrics[1].standard_error, 0.5);
}

}  // namespace
}  // namespace octet

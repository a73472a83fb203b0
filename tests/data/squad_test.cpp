// SPDX-License-Identifier: Apache-2.0
#include "octet/data/squad.h"

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "tests/data/letters.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string file_with(const std::string& answers) {
  return R"({"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "é a b c d e f g",
             "qas": [{"id": "q1", "question": " x y", "answers": )" +
         answers + "}]}]}]}";
}

TEST(Squad, CountsCharactersOfTheContext) {
  const auto questions =
      parse_squad(file_with(R"([{"text": "c d", "answer_start": 6}, {"text": "é", "answer_start": 0}])"), "f.json");
  ASSERT_EQ(questions.size(), 1);
  EXPECT_EQ(questions[0].id, "q1");
  EXPECT_EQ(questions[0].question, " x y");
  EXPECT_THAT(questions[0].answers, ElementsAre("c d", "é"));
  EXPECT_THAT(questions[0].answer_starts, ElementsAre(7, 0)) << "bytes, of which é has two";
}

TEST(Squad, MalformedFilesNameThePlace) {
  const std::pair<std::string, const char*> cases[] = {
      {"[]", "an object is needed"},
      {"{}", "'data' is missing"},
      {R"({"data": []})", "no questions"},
      {R"({"data": [{"paragraphs": [{"qas": []}]}]})", "data[0].paragraphs[0]: 'context' is missing"},
      {R"({"data": [{"paragraphs": [{"context": "x", "qas": [{"id": 3}]}]}]})", "qas[0]: 'id' must be text"},
      {file_with("[]"), "qas[0]: has no answers"},
      {file_with(R"([{"text": "c d", "answer_start": 7}])"), "no 'c d' at character 7"},
      {file_with(R"([{"text": "g", "answer_start": 15}])"), "no 'g' at character 15"},
      {file_with(R"([{"text": "g", "answer_start": -1}])"), "at character -1"},
      {file_with(R"([{"text": "g", "answer_start": 1e99}])"), "at character"},
  };
  for (const auto& [text, words] : cases) {
    EXPECT_THAT([&text = text] { parse_squad(text, "f.json"); },
                testing::ThrowsMessage<FormatError>(testing::AllOf(HasSubstr("f.json"), HasSubstr(words))))
        << text;
  }
}

// [CLS] x y [SEP] and [SEP] leave 4 tokens of "é a b c d e f g" in a window of 9; 2 of them are repeated.
TEST(Squad, WindowsOverlapAndLabelTheAnswerThatTheyHold) {
  const auto features = [](const std::string& answer, int start) {
    return make_span_features(
        parse_squad(file_with(fmt::format(R"([{{"text": "{}", "answer_start": {}}}])", answer, start)), "f"), letters(),
        {.length = 9, .stride = 2});
  };
  const std::vector<SpanFeature> windows = features("c d", 6);
  ASSERT_EQ(windows.size(), 3);  // é a b c, b c d e, d e f g
  std::vector<std::pair<int64_t, int64_t>> labels;
  for (const SpanFeature& window : windows) {
    EXPECT_EQ(window.ids.size(), 9);
    EXPECT_EQ(window.context_begin, 4);
    EXPECT_EQ(window.context_end, 8);
    EXPECT_EQ(window.offsets.size(), 4);
    EXPECT_THAT(window.type_ids, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 1));
    labels.emplace_back(window.start, window.end);
  }
  EXPECT_THAT(labels, ElementsAre(std::pair(0, 0), std::pair(5, 6), std::pair(0, 0)));
  EXPECT_EQ(windows[1].offsets[1], (std::pair<int64_t, int64_t>(7, 8)));
  const std::vector<SpanFeature> at_end = features("g", 14);
  EXPECT_EQ(at_end[2].start, 7) << "the last token of the context, not the one behind it";
  EXPECT_EQ(at_end[2].end, 7);
  EXPECT_EQ(features("é a b c", 0)[0].end, 7);
  EXPECT_EQ(features("é a b c", 0)[0].start, 4);
  const auto questions = parse_squad(file_with(R"([{"text": "g", "answer_start": 14}])"), "f");
  EXPECT_THAT([&] { make_span_features(questions, letters(), {.length = 6, .stride = 2}); },
              testing::ThrowsMessage<UsageError>(HasSubstr("question 'q1'")));
}

TEST(Squad, ARealFileIsReadAndItsLabelsCoverItsAnswers) {
  const char* shared = std::getenv("OCTET_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set";
  const std::filesystem::path data = shared;
  EXPECT_EQ(read_squad(data / "squad/dev.json").size(), 2280);
  const std::vector<SquadQuestion> questions = read_squad(data / "squad/dev.json", 200);
  ASSERT_EQ(questions.size(), 200);
  const Tokenizer tokenizer = Tokenizer::load(data / "tokenizers/bert-base-uncased");
  std::vector<int> found(questions.size());
  for (const SpanFeature& window : make_span_features(questions, tokenizer, {.length = 128, .stride = 40})) {
    EXPECT_LE(window.ids.size(), 128);
    if (window.start == 0) continue;
    const SquadQuestion& question = questions[window.question];
    const int64_t begin = window.offsets[window.start - window.context_begin].first;
    const int64_t end = window.offsets[window.end - window.context_begin].second;
    EXPECT_THAT(question.context.substr(begin, end - begin), HasSubstr(question.answers.front()));
    EXPECT_LE(end - begin, static_cast<int64_t>(question.answers.front().size()) + 12) << question.id;
    ++found[window.question];
  }
  EXPECT_EQ(std::ranges::count(found, 0), 0);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/data/questions.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "octet/base/error.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

fs::path write(const std::string& text) {
  const fs::path file = fs::path(testing::TempDir()) /
                        (std::string("questions_") + testing::UnitTest::GetInstance()->current_test_info()->name());
  std::ofstream(file) << text;
  return file;
}

std::string error_of(const std::string& line) {
  try {
    parse_multiple_choice(line, "line 1");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "none";
}

TEST(Questions, AreReadInTheFormsOfKnownFiles) {
  const std::vector<MultipleChoice> questions = read_multiple_choice(
      write("{\"context\": \"The sky is\", \"choices\": [\"blue\", \"a b\"], \"answer\": 1, \"more\": [1]}\n"
            "\n"
            "{\"ctx\": \"A man\", \"endings\": [\"runs\", \"sits\", \"é\"], \"label\": \"2\"}\r\n"
            "{\"question\": \"Which?\", \"choices\": {\"text\": [\"x\", \"y\"], \"label\": [\"1\", \"2\"]}, "
            "\"answerKey\": \"2\"}\n"
            "{\"query\": \"\", \"choices\": [\"x\", \"y\"], \"gold\": 0}"));
  ASSERT_EQ(questions.size(), 4);
  EXPECT_EQ(questions[0].context, "The sky is");
  EXPECT_THAT(questions[0].choices, testing::ElementsAre("blue", "a b"));
  EXPECT_EQ(questions[0].answer, 1);
  EXPECT_THAT(questions[1].choices, testing::ElementsAre("runs", "sits", "é"));
  EXPECT_EQ(questions[1].answer, 2);
  EXPECT_EQ(questions[2].answer, 1) << "a label goes before an index";
  EXPECT_EQ(questions[3].context, "");
  EXPECT_THAT(questions[3].source, testing::HasSubstr(": line 5"));
}

TEST(Questions, BeyondTheLimitAreNotRead) {
  const fs::path file = write("{\"text\": \"a b\"}\n\n{\"text\": \"c d\"}\nno JSON\n");
  EXPECT_EQ(read_passages(file, 2).size(), 2);
  EXPECT_EQ(read_passages(file, 2)[1].text, "c d");
  try {
    read_passages(file);
    ADD_FAILURE() << "no error";
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(file.string() + ": line 4"));
  }
  EXPECT_THROW(read_passages(write("\n \n")), FormatError);
  EXPECT_THROW(read_passages("/no/such/file"), Error);
}

TEST(Questions, BadLinesAreNamed) {
  const std::pair<const char*, const char*> lines[] = {
      {"[]", "JSON object"},
      {"{\"choices\": [\"a\", \"b\"], \"answer\": 0}", "none of 'context', 'query'"},
      {"{\"context\": \"x\", \"answer\": 0}", "none of 'choices', 'endings'"},
      {"{\"context\": \"x\", \"choices\": [\"a\", \"b\"]}", "none of 'answer'"},
      {"{\"context\": \"x\", \"query\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 0}", "'context' and 'query'"},
      {"{\"context\": 1, \"choices\": [\"a\", \"b\"], \"answer\": 0}", "'context'"},
      {"{\"context\": \"x\", \"choices\": [\"a\"], \"answer\": 0}", "two to choose from"},
      {"{\"context\": \"x\", \"choices\": [\"a\", \"\"], \"answer\": 0}", "empty text"},
      {"{\"context\": \"x\", \"choices\": [\"a\", 2], \"answer\": 0}", "choices"},
      {"{\"context\": \"x\", \"choices\": \"ab\", \"answer\": 0}", "choices"},
      {"{\"context\": \"x\", \"choices\": {\"text\": [\"a\", \"b\"]}, \"answer\": 0}", "2 texts and 0 labels"},
      {"{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 2}", "0 to 1"},
      {"{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": -1}", "0 to 1"},
      {"{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 0.0}", "0 to 1"},
      {"{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": \"b\"}", "0 to 1"},
      {"{\"context\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 18446744073709551615}", "0 to 1"},
      {"{\"context\": \"x\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"B\"]}, \"answer\": \"C\"}",
       "or its label"},
  };
  for (const auto& [line, words] : lines)
    EXPECT_THAT(error_of(line), testing::AllOf(testing::HasSubstr("line 1"), testing::HasSubstr(words))) << line;
}

}  // namespace
}  // namespace octet

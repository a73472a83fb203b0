// SPDX-License-Identifier: Apache-2.0
#include "octet/data/pairs.h"

#include <cstdlib>
#include <fstream>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr char kMrpc[] = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n";
constexpr char kStsB[] = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n";

class SentencePairsFile : public testing::Test {
 protected:
  SentencePairs read(const std::string& content) {
    const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / (name() + ".tsv");
    std::ofstream(path, std::ios::binary) << content;
    return read_sentence_pairs(path);
  }
  static std::string name() { return testing::UnitTest::GetInstance()->current_test_info()->name(); }

  /// Reading `content` throws one message with the file's name and every one of `parts`.
  template <class... Parts>
  void expect_message(const std::string& content, const Parts&... parts) {
    EXPECT_THAT([&] { read(content); },
                ThrowsMessage<FormatError>(AllOf(HasSubstr(name() + ".tsv: "), HasSubstr(parts)...)));
  }
};

TEST_F(SentencePairsFile, ReadsMrpcWithItsQuotesAsCharacters) {
  const SentencePairs pairs = read(std::string("\xEF\xBB\xBF") + kMrpc +
                                   "1\t11\t12\tHe said \" no .\t\" No , \" he said .\r\n0\t13\t14\ta\t\"b\r\n");
  EXPECT_EQ(pairs.kind, SentencePairs::Kind::kLabels);
  EXPECT_THAT(pairs.first, ElementsAre("He said \" no .", "a"));
  EXPECT_THAT(pairs.second, ElementsAre("\" No , \" he said .", "\"b"));
  EXPECT_THAT(pairs.score, ElementsAre(1, 0));
}

TEST_F(SentencePairsFile, ReadsStsB) {
  const SentencePairs pairs = read(std::string(kStsB) +
                                   "0\tnews\tMSRpar\t2012\t7\tnone\tnone\tA plane .\tAn air plane .\t5.000\n"
                                   "1\tnews\tMSRpar\t2012\t9\tnone\tnone\tA man .\tA song .\t0.25");
  EXPECT_EQ(pairs.kind, SentencePairs::Kind::kGrades);
  EXPECT_EQ(pairs.size(), 2);
  EXPECT_THAT(pairs.first, ElementsAre("A plane .", "A man ."));
  EXPECT_THAT(pairs.second, ElementsAre("An air plane .", "A song ."));
  EXPECT_THAT(pairs.score, ElementsAre(5, 0.25));
}

TEST_F(SentencePairsFile, TakesColumnsInAnyOrderAndCase) {
  const SentencePairs labels = read("Label\tSentence2\tid\tSentence1\n1\tb\t7\ta\n");
  EXPECT_EQ(labels.kind, SentencePairs::Kind::kLabels);
  EXPECT_THAT(labels.first, ElementsAre("a"));
  EXPECT_THAT(labels.second, ElementsAre("b"));
  const SentencePairs grades = read("#1 String\t#2 String\tscore\na\tb\t-17.5\n");
  EXPECT_EQ(grades.kind, SentencePairs::Kind::kGrades);
  EXPECT_THAT(grades.score, ElementsAre(-17.5));
}

TEST_F(SentencePairsFile, AHeaderThatIsNotKnownNamesThoseThatAre) {
  expect_message("sentence\tlabel\nx\t1\n", "line 1", "the first sentence", "begins 'sentence?label'", "'#1 String'",
                 "'sentence1'");
  expect_message("sentence1\tlabel\nx\t1\n", "line 1", "the second sentence");
  expect_message("index\t#1 ID\t#2 ID\t#1 String\t#2 String\n", "line 1", "a label or score");
  expect_message("sentence1,sentence2,label\nx,y,1\n", "line 1", "tab-separated");
  expect_message("sentence1\tsentence2\tlabel\tscore\nx\ty\t1\t5\n", "columns 3 ('label') and 4 ('score')");
}

TEST_F(SentencePairsFile, ARowThatIsNotWholeNamesItsLine) {
  expect_message(std::string(kMrpc) + "1\t1\t2\ta\tb\n1\t1\t2\ta\n", "line 3 has 4 columns, line 1 has 5");
  expect_message(std::string(kMrpc) + "1\t1\t2\ta\tb\tc\n", "line 2 has 6 columns, line 1 has 5");
  expect_message(std::string(kMrpc) + "1\t1\t2\ta\tb\n\n", "line 3 has 1 columns", "remove the empty line");
}

TEST_F(SentencePairsFile, ALabelIsZeroOrOneAndAGradeANumberInItsRange) {
  for (const std::string label : {"2", "-1", "0.5", "yes", "", "1 ", "nan"}) {
    expect_message(kMrpc + label + "\t1\t2\ta\tb\n", "line 2", "'Quality' is '" + label + "'", "0 or 1");
  }
  const std::string columns = std::string(kStsB) + "0\tnews\tx\t2012\t7\tnone\tnone\ta\tb\t";
  for (const std::string grade : {"", "x", "nan", "inf", "1e999", "4,5", "3.0x"}) {
    expect_message(columns + grade + "\n", "line 2", "'score' is '" + grade + "', not a number");
  }
  expect_message(columns + "5.1\n", "line 2", "'score' is 5.1; STS-B's grades go from 0 to 5");
  expect_message(columns + "-0.1\n", "line 2", "go from 0 to 5");
}

TEST_F(SentencePairsFile, AnEmptyFileIsAnError) {
  expect_message("", "empty");
  expect_message("\xEF\xBB\xBF", "empty");
  expect_message(kMrpc, "no pairs");
}

TEST_F(SentencePairsFile, AMessageQuotesAHostileLineShortAndWithoutControls) {
  const std::string line = "\x1b[2J" + std::string(100'000, 'x');
  try {
    read(line);
    FAIL() << "the header was taken";
  } catch (const FormatError& error) {
    EXPECT_LT(std::string(error.what()).size(), 1'000);
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("\x1b")));
  }
}

TEST(RealMrpc, HasTheKnownPairsAndShareOfParaphrases) {
  const char* shared = std::getenv("OCTET_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set";
  const SentencePairs pairs = read_sentence_pairs(std::filesystem::path(shared) / "glue/MRPC/dev.tsv");
  ASSERT_EQ(pairs.size(), 408);
  EXPECT_EQ(pairs.kind, SentencePairs::Kind::kLabels);
  EXPECT_EQ(std::accumulate(pairs.score.begin(), pairs.score.end(), 0.0), 279);
  EXPECT_EQ(pairs.second.front(), "\" The foodservice pie business does not fit our long-term growth strategy .");
}

}  // namespace
}  // namespace octet

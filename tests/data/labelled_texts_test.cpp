// SPDX-License-Identifier: Apache-2.0
#include "octet/data/labelled_texts.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

class LabelledTextsFile : public testing::Test {
 protected:
  LabelledTexts read(const std::string& content) {
    const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / (name() + ".tsv");
    std::ofstream(path, std::ios::binary) << content;
    return read_labelled_texts(path);
  }
  static std::string name() { return testing::UnitTest::GetInstance()->current_test_info()->name(); }

  /// Reading `content` throws one message with the file's name and every one of `parts`.
  template <class... Parts>
  void expect_message(const std::string& content, const Parts&... parts) {
    EXPECT_THAT([&] { read(content); },
                ThrowsMessage<FormatError>(AllOf(HasSubstr(name() + ".tsv: "), HasSubstr(parts)...)));
  }
};

// The first lines of GLUE's files, and a line that follows each.
TEST_F(LabelledTextsFile, ReadsTheFilesOfGlue) {
  const struct {
    const char *content, *first, *second, *label;
  } cases[] = {
      {"gj04\t1\t\tOur friends came.\n", "Our friends came.", nullptr, "1"},
      {"sentence\tlabel\nit 's fun \t1\n", "it 's fun ", nullptr, "1"},
      {"Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tHe said \" no\tNo\n", "He said \" no", "No", "0"},
      {"index\tgenre\tsentence1\tsentence2\tscore\n0\tnews\tA plane.\tA jet.\t3.8\n", "A plane.", "A jet.", "3.8"},
      {"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tWhy so?\t1\n", "Why?", "Why so?", "1"},
      {"index\tsentence1\tsentence2\tlabel1\tgold_label\n0\tIt rained.\tIt was dry.\tneutral\tcontradiction\n",
       "It rained.", "It was dry.", "contradiction"},
      {"index\tquestion\tsentence\tlabel\n0\tWho?\tShe did.\tentailment\n", "Who?", "She did.", "entailment"},
      {"index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tnot_entailment\n", "A.", "B.", "not_entailment"},
  };
  for (const auto& c : cases) {
    const LabelledTexts texts = read(c.content);
    EXPECT_THAT(texts.first, ElementsAre(c.first)) << c.content;
    EXPECT_THAT(texts.labels, ElementsAre(c.label)) << c.content;
    if (c.second == nullptr) {
      EXPECT_THAT(texts.second, IsEmpty()) << c.content;
      EXPECT_FALSE(texts.in_pairs());
    } else {
      EXPECT_THAT(texts.second, ElementsAre(c.second)) << c.content;
    }
  }
  EXPECT_THAT(read("sentence\tlabel\na\t1\nb\t0\n").lines, ElementsAre(2, 3));
}

TEST_F(LabelledTextsFile, OtherFilesAreErrors) {
  expect_message("", "empty");
  expect_message("sentence\tlabel\n", "no texts");
  expect_message("a\tb\n1\t2\n", "line 1", "the text", "'a', 'b'");
  expect_message("sentence\tx\n1\t2\n", "line 1", "the label");
  expect_message("sentence\tlabel\na\t1\nb\n", "line 3", "1 columns", "line 1 has 2");
  expect_message("sentence\tlabel\na\t1\n\n\n", "line 3", "empty line");
  expect_message("sentence\tlabel\na\t\n", "line 2", "no label");
  expect_message("sentence\tlabel\tLabel\na\t1\t1\n", "name the same thing");
}

}  // namespace
}  // namespace octet

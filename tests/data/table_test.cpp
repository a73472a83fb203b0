// SPDX-License-Identifier: Apache-2.0
#include "octet/data/table.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/data/labelled_texts.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

std::vector<std::string> texts_of(const Table& table, size_t row) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < table.names.size(); ++i) texts.push_back(table.field(row, i));
  return texts;
}

TEST(Csv, FollowsRfc4180) {
  const Table table = parse_csv(
      "text,label\r\n"
      "\"a, \"\"b\"\"\r\nc\",1\r\n"
      "\n"
      "plain with \"quotes\" inside,\n"
      "\"\",\"2\"",
      "f.csv");
  EXPECT_THAT(table.names, ElementsAre("text", "label"));
  ASSERT_EQ(table.rows.size(), 3);
  EXPECT_THAT(texts_of(table, 0), ElementsAre("a, \"b\"\r\nc", "1"));
  EXPECT_THAT(texts_of(table, 1), ElementsAre("plain with \"quotes\" inside", ""));
  EXPECT_THAT(texts_of(table, 2), ElementsAre("", "2"));
  EXPECT_THAT(table.lines, ElementsAre(2, 5, 6)) << "of the file, whose second row takes two";
  EXPECT_THAT(texts_of(parse_csv("a,b\n,\n", "f.csv"), 0), ElementsAre("", ""));
}

TEST(Csv, MalformedFilesNameTheLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "empty"},
      {"\n\n", "empty"},
      {"text,label\n", "no texts"},
      {"text,label\na,1\nb\n", "line 3 has 1 columns, line 1 has 2"},
      {"text,label\n\"a\nb\",1\nc,1,2\n", "line 4 has 3 columns"},
      {"text,label\na,1\n\"b,2\nc,3\n", "line 3: the quote"},
      {"text,label\n\"a\"b,1\n", "line 2: 'b' follows a closing quote"},
  };
  for (const auto& [text, words] : cases) {
    EXPECT_THAT([&text = text] { parse_csv(text, "f.csv"); },
                ThrowsMessage<FormatError>(AllOf(HasSubstr("f.csv: "), HasSubstr(words))))
        << text;
  }
}

TEST(JsonRows, TakeTheirColumnsFromTheFirst) {
  const Table table = parse_json_rows(
      "{\"text\": \"a\\nb\", \"label\": 1, \"more\": [1]}\n\n"
      "{\"label\": 2.5, \"text\": \"é\", \"other\": 3}\r\n"
      "{\"label\": true}",
      "f.jsonl");
  EXPECT_THAT(table.names, ElementsAre("label", "more", "text"));
  EXPECT_THAT(table.lines, ElementsAre(1, 3, 4));
  EXPECT_EQ(table.field(0, 2), "a\nb");
  EXPECT_EQ(table.field(1, 0), "2.5");
  EXPECT_EQ(table.field(2, 0), "1");
  EXPECT_THAT([&] { table.field(2, 2); }, ThrowsMessage<FormatError>(HasSubstr("f.jsonl: line 4 has no text or")));
  EXPECT_THAT([&] { table.field(0, 1); }, ThrowsMessage<FormatError>(HasSubstr("f.jsonl: line 1 has no text or")));
  for (const char* bad : {"", "[]", "{\"a\": 1}\n{", "{\"a\": 1, \"a\": 2}"})
    EXPECT_THROW(parse_json_rows(bad, "f.jsonl"), FormatError) << bad;
}

class LabelledTable : public testing::Test {
 protected:
  LabelledTexts read(const std::string& extension, const std::string& content, const ColumnNames& names = {}) {
    path_ = std::filesystem::path(testing::TempDir()) /
            (std::string("labelled_") + testing::UnitTest::GetInstance()->current_test_info()->name() + extension);
    std::ofstream(path_, std::ios::binary) << content;
    return read_labelled_texts(path_, names);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::filesystem::path path_;
};

TEST_F(LabelledTable, IsReadByTheExtensionOfItsFile) {
  for (const auto& [extension, content] :
       {std::pair{".csv", "\xEF\xBB\xBFlabel,Text\n1,\"a, b\"\n0,c\td\n"},
        std::pair{".jsonl", "{\"Text\": \"a, b\", \"label\": 1}\n{\"Text\": \"c\\td\", \"label\": \"0\"}\n"},
        std::pair{".tsv", "label\tText\n1\ta, b\n0\tc d\n"}}) {
    const LabelledTexts texts = read(extension, content);
    EXPECT_THAT(texts.labels, ElementsAre("1", "0")) << extension;
    EXPECT_EQ(texts.first.front(), "a, b") << extension;
    EXPECT_THAT(texts.second, IsEmpty()) << extension;
  }
  EXPECT_THAT(read(".csv", "sentence2,label,sentence1\nb,1,a\n").second, ElementsAre("b"));
}

TEST_F(LabelledTable, ColumnsCanBeNamed) {
  const std::string content = "id,review,reply,stars,label,text\n7,good,yes,5,x,y\n";
  LabelledTexts texts = read(".csv", content);
  EXPECT_THAT(texts.first, ElementsAre("y"));
  texts = read(".csv", content, {.first = "review", .second = {}, .label = "Stars"});
  EXPECT_THAT(texts.first, ElementsAre("good"));
  EXPECT_THAT(texts.labels, ElementsAre("5"));
  EXPECT_FALSE(texts.in_pairs());
  texts = read(".csv", content, {.first = "review", .second = "reply", .label = {}});
  EXPECT_THAT(texts.second, ElementsAre("yes"));
  EXPECT_THAT(texts.labels, ElementsAre("x"));
  // Names that are given go before those that would be ambiguous.
  EXPECT_THAT(read(".csv", "text,sentence,label\na,b,1\n", {.first = "text", .second = {}, .label = {}}).first,
              ElementsAre("a"));
  EXPECT_THAT([&] { read(".csv", content, {.first = "comment", .second = {}, .label = {}}); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr("line 1 names no column 'comment'"), HasSubstr("'review'"))));
}

TEST_F(LabelledTable, RowsWithoutTextOrLabelAreNamed) {
  EXPECT_THAT([&] { read(".jsonl", "{\"text\": \"a\", \"label\": 1}\n{\"label\": 1}\n"); },
              ThrowsMessage<FormatError>(HasSubstr("line 2 has no text or number in 'text'")));
  EXPECT_THAT([&] { read(".csv", "text,label\n\"a\nb\",1\nc,\n"); },
              ThrowsMessage<FormatError>(HasSubstr("line 4 has no label")));
  EXPECT_THAT([&] { read(".jsonl", "\n{\"label\": 1}\n"); },
              ThrowsMessage<FormatError>(HasSubstr("line 2 names no column for the text")));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/text_windows.h"

#include <gmock/gmock.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::ElementsAre;

// Every word, blanks and all, is a token: "w" of a vocabulary of the letters a to z, [UNK] for others.
Tokenizer letters() {
  std::string vocabulary = "[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\n";
  for (char c = 'a'; c <= 'z'; ++c) vocabulary += std::string(1, c) + "\n##" + std::string(1, c) + "\n";
  return Tokenizer::from_vocab_txt(vocabulary, "vocab.txt", "", "tokenizer_config.json");
}

struct Span {
  int64_t begin, end, first_scored;
  bool operator==(const Span&) const = default;
};

std::vector<Span> spans(const TextWindows& text) {
  std::vector<Span> result;
  for (const TextWindows::Window& w : text.windows) result.push_back({w.begin, w.end, w.first_scored});
  return result;
}

// "a b c …": with [CLS] and [SEP] count + 2 tokens.
std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += (i > 0 ? " " : "") + std::string(1, static_cast<char>('a' + i % 26));
  return text;
}

TEST(TextWindows, WindowsSideBySideScoreAllButTheirFirstTokens) {
  const TextWindows text = make_windows(words(8), letters(), {.window = 4}, 100);
  EXPECT_THAT(spans(text), ElementsAre(Span{0, 4, 1}, Span{4, 8, 5}, Span{8, 10, 9}));
  EXPECT_EQ(text.stride, 4);
}

TEST(TextWindows, AStrideScoresEachTokenOnceWithTheRestAsContext) {
  const TextWindows text = make_windows(words(8), letters(), {.window = 4, .stride = 2}, 100);
  EXPECT_THAT(spans(text), ElementsAre(Span{0, 4, 1}, Span{2, 6, 4}, Span{4, 8, 6}, Span{6, 10, 8}));
  const TextWindows odd = make_windows(words(9), letters(), {.window = 5, .stride = 3}, 100);
  EXPECT_THAT(spans(odd), ElementsAre(Span{0, 5, 1}, Span{3, 8, 5}, Span{6, 11, 8}));
}

TEST(TextWindows, ATokenAloneInItsWindowIsNotScored) {
  EXPECT_THAT(spans(make_windows(words(7), letters(), {.window = 4}, 100)), ElementsAre(Span{0, 4, 1}, Span{4, 8, 5}));
  EXPECT_THAT(spans(make_windows(words(3), letters(), {.window = 4}, 100)), ElementsAre(Span{0, 4, 1}));
}

TEST(TextWindows, DocumentsBeginAnewAndMayBeCut) {
  const TextWindows text = make_windows("a b c d e\n\nf\ng\n \n\n  h i j  \n", letters(),
                                        {.documents = Documents::kBlankLines, .window = 4, .truncate = 6}, 100);
  ASSERT_EQ(text.documents.size(), 3);
  EXPECT_THAT(spans(text), ElementsAre(Span{0, 4, 1}, Span{4, 6, 5}, Span{0, 4, 1}, Span{0, 4, 1}));
  EXPECT_EQ(text.truncated, 1);
}

TEST(TextWindows, LimitCountsDocumentsOrTheWindowsOfOne) {
  EXPECT_EQ(make_windows(words(20), letters(), {.window = 4, .limit = 3}, 100).windows.size(), 3);
  const TextWindows lines = make_windows("a\nb\n\nc\n", letters(), {.documents = Documents::kLines, .limit = 2}, 100);
  EXPECT_EQ(lines.documents.size(), 2);
}

TEST(TextWindows, SplitsDocumentsWhereTheirKindSays) {
  const std::string text = "one\n two \n\n\nthree\n<|endoftext|>\n\n<|endoftext|>\nfour";
  EXPECT_THAT(split_documents(text, Documents::kWhole), ElementsAre(text));
  EXPECT_THAT(split_documents(text, Documents::kLines),
              ElementsAre("one", "two", "three", "<|endoftext|>", "<|endoftext|>", "four"));
  EXPECT_THAT(split_documents(text, Documents::kBlankLines),
              ElementsAre("one\n two", "three\n<|endoftext|>", "<|endoftext|>\nfour"));
  EXPECT_THAT(split_documents(text, Documents::kEndOfText), ElementsAre("one\n two \n\n\nthree", "four"));
  EXPECT_THAT(split_documents("", Documents::kLines), ElementsAre());
  EXPECT_THAT(split_documents("\r\na\r\n", Documents::kLines), ElementsAre("a"));
}

TEST(TextWindows, TokensCountTheirBytesAndWords) {
  const TextWindows text = make_windows("  abc  d\n", letters(), {}, 100);
  // [CLS] a ##b ##c d [SEP]: blanks belong to the token after them; what follows the last token belongs to none.
  EXPECT_THAT(text.documents[0].bytes, ElementsAre(0, 3, 4, 5, 8, 8));
  EXPECT_THAT(text.documents[0].words, ElementsAre(0, 1, 1, 1, 2, 2));
}

TEST(TextWindows, BatchesHoldWholeWindows) {
  const TextWindows text = make_windows(words(20), letters(), {.window = 4}, 100);
  EXPECT_EQ(text.batch_end(0, 9), 2);
  EXPECT_EQ(text.batch_end(0, 1), 1);
  EXPECT_EQ(text.batch_end(3, 1000), text.windows.size());
  const TokenBatch batch = text.batch(1, 3);
  EXPECT_THAT(batch.offsets, ElementsAre(0, 4, 8));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 3, 0, 1, 2, 3));
  EXPECT_EQ(batch.ids[0], text.documents[0].ids[4]);
}

TEST(TextWindows, WhatDoesNotFitIsRefused) {
  const Tokenizer tokenizer = letters();
  EXPECT_THROW(make_windows("a b", tokenizer, {.window = 9}, 8), UsageError);
  EXPECT_THROW(make_windows("a b", tokenizer, {.window = 1}, 8), UsageError);
  EXPECT_THROW(make_windows("a b", tokenizer, {.window = 4, .stride = 5}, 8), UsageError);
  EXPECT_THROW(make_windows("a b", tokenizer, {.stride = 0}, 8), UsageError);
  EXPECT_THROW(make_windows("a b", tokenizer, {.truncate = 1}, 8), UsageError);
  EXPECT_THROW(make_windows("\n\n", tokenizer, {.documents = Documents::kLines}, 8), Error);
  EXPECT_THROW(parse_documents("line"), UsageError);
  EXPECT_EQ(parse_documents("end-of-text"), Documents::kEndOfText);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/tokenizer.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "tests/text/golden.h"

namespace octet {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

Truncation to(int64_t max_length) {
  Truncation truncation;
  truncation.max_length = max_length;
  return truncation;
}

std::vector<std::string> tokens_of(const Tokenizer& tokenizer, const Encoding& encoding) {
  std::vector<std::string> tokens;
  for (const int32_t id : encoding.ids) tokens.emplace_back(tokenizer.id_to_token(id).value());
  return tokens;
}

TEST(Tokenizer, KnowsItsVocabulary) {
  const Tokenizer tokenizer = tokenizer_with();
  const auto size = static_cast<int64_t>(base_document()["model"]["vocab"].size());
  EXPECT_EQ(tokenizer.vocab_size(), size);
  EXPECT_EQ(tokenizer.max_id(), size - 1);
  EXPECT_EQ(tokenizer.token_to_id("[CLS]"), 2);
  EXPECT_EQ(tokenizer.token_to_id("nowhere"), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(3), "[SEP]");
  EXPECT_EQ(tokenizer.id_to_token(-1), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(static_cast<int32_t>(size)), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(0));
  EXPECT_FALSE(tokenizer.is_special(5));
}

TEST(Tokenizer, IdsMayHaveHoles) {
  const Tokenizer tokenizer = tokenizer_with({{"model",
                                               {{"type", "WordPiece"},
                                                {"unk_token", "u"},
                                                {"continuing_subword_prefix", "##"},
                                                {"max_input_chars_per_word", 9},
                                                {"vocab", {{"u", 1000000}, {"a", 7}}}}},
                                              {"added_tokens", Json::array()},
                                              {"post_processor", nullptr}});
  EXPECT_EQ(tokenizer.vocab_size(), 2);
  EXPECT_EQ(tokenizer.max_id(), 1000000);
  EXPECT_EQ(tokenizer.id_to_token(7), "a");
  EXPECT_EQ(tokenizer.id_to_token(0), std::nullopt);
  EXPECT_THAT(tokenizer.encode("a b").ids, ElementsAre(7, 1000000));
}

TEST(Tokenizer, KeepsTheWholeTextUnlessTruncationIsAskedFor) {
  Json truncation = {{"max_length", 4}, {"strategy", "LongestFirst"}, {"stride", 0}, {"direction", "Right"}};
  const Tokenizer tokenizer = tokenizer_with({{"truncation", truncation}});
  EXPECT_EQ(tokenizer.encode("the cat sat on").ids.size(), 6u);
  ASSERT_TRUE(tokenizer.truncation().has_value());
  const Encoding cut = tokenizer.encode("the cat sat on", {.truncation = tokenizer.truncation()});
  EXPECT_THAT(tokens_of(tokenizer, cut), ElementsAre("[CLS]", "the", "cat", "[SEP]"));
  EXPECT_EQ(cut.dropped, 2);
}

TEST(Tokenizer, TruncatesToNothingButSpecialTokens) {
  const Tokenizer tokenizer = tokenizer_with();
  const Encoding encoding = tokenizer.encode("the cat", {.truncation = to(2)});
  EXPECT_THAT(encoding.ids, ElementsAre(2, 3));
  EXPECT_EQ(encoding.dropped, 2);
  EXPECT_TRUE(tokenizer.encode("the cat", {SpecialTokens::kWithout, to(0)}).ids.empty());
}

TEST(Tokenizer, ImpossibleTruncationIsAUsageError) {
  const Tokenizer tokenizer = tokenizer_with();
  EXPECT_THAT([&] { tokenizer.encode("the cat", {.truncation = to(1)}); },
              ThrowsMessage<UsageError>(HasSubstr("no room for the 2 special tokens")));
  EXPECT_THROW(tokenizer.encode("the", {.truncation = to(-1)}), UsageError);
  Truncation second = to(3);
  second.strategy = Truncation::Strategy::kOnlySecond;
  EXPECT_THAT([&] { tokenizer.encode("the cat", {.truncation = second}); },
              ThrowsMessage<UsageError>(HasSubstr("only one text")));
  second.max_length = 5;
  EXPECT_THAT([&] { tokenizer.encode_pair("the cat", "sat on", {.truncation = second}); },
              ThrowsMessage<UsageError>(HasSubstr("cuts only the second text, which has 2 tokens")));
  Truncation stride = to(4);
  stride.stride = 2;
  EXPECT_NO_THROW(tokenizer.encode("the cat sat", {.truncation = stride}));
  EXPECT_THAT([&] { tokenizer.encode_windows("the cat sat", {.truncation = stride}); },
              ThrowsMessage<UsageError>(HasSubstr("a window of 2 tokens cannot repeat 2")));
  EXPECT_THROW(tokenizer.encode_windows("the cat sat", {.truncation = to(2)}), UsageError);
}

TEST(Tokenizer, WindowsCoverEveryToken) {
  const Tokenizer tokenizer = tokenizer_with();
  const std::string text = "the cat sat on the mat it is the cat foo bar";
  const size_t count = tokenizer.encode(text, {SpecialTokens::kWithout, std::nullopt}).ids.size();
  for (const auto direction : {Truncation::Direction::kRight, Truncation::Direction::kLeft}) {
    for (int64_t kept = 1; kept <= 13; ++kept) {
      for (int64_t stride = 0; stride < kept; ++stride) {
        Truncation truncation = to(kept + 2);
        truncation.direction = direction;
        truncation.stride = stride;
        std::set<int64_t> seen;
        for (const Encoding& window : tokenizer.encode_windows(text, {.truncation = truncation})) {
          for (size_t i = 1; i + 1 < window.ids.size(); ++i) seen.insert(window.offsets[i].first);
        }
        EXPECT_EQ(seen.size(), count) << kept << " kept, stride " << stride;
      }
    }
  }
}

TEST(Tokenizer, TextThatIsNotUtf8KeepsItsByteOffsets) {
  const Tokenizer tokenizer = tokenizer_with();
  const Encoding encoding = tokenizer.encode("the\xFF \xF0\x9F\xA4 cat", {SpecialTokens::kWithout, std::nullopt});
  EXPECT_THAT(tokens_of(tokenizer, encoding), ElementsAre("the", "cat"));
  EXPECT_THAT(encoding.offsets, ElementsAre(std::pair(0, 3), std::pair(9, 12)));
}

TEST(Tokenizer, DecodeRefusesAnUnknownId) {
  const Tokenizer tokenizer = tokenizer_with();
  EXPECT_THAT(
      [&] {
        tokenizer.decode(std::vector<int32_t>{2, 99999});
      },
      ThrowsMessage<UsageError>(HasSubstr("the id 99999 is not in the vocabulary")));
  EXPECT_THROW(tokenizer.decode(std::vector<int32_t>{-1}), UsageError);
}

TEST(Tokenizer, ManyThreadsMayShareOne) {
  const Tokenizer tokenizer = tokenizer_with();
  const std::string text = "Unbelievable cafés: the cat's 中文 ½";
  const Encoding expected = tokenizer.encode(text);
  std::vector<Encoding> encodings(64);
  parallel_for(4, 64, [&](int64_t task, int) { encodings[static_cast<size_t>(task)] = tokenizer.encode(text); });
  for (const Encoding& encoding : encodings) {
    EXPECT_EQ(encoding.ids, expected.ids);
    EXPECT_EQ(encoding.offsets, expected.offsets);
  }
}

TEST(Tokenizer, ReadsPaddingWithoutApplyingIt) {
  const Tokenizer tokenizer = tokenizer_with({{"padding",
                                               {{"strategy", {{"Fixed", 16}}},
                                                {"direction", "Left"},
                                                {"pad_to_multiple_of", 8},
                                                {"pad_id", 0},
                                                {"pad_type_id", 0},
                                                {"pad_token", "[PAD]"}}}});
  ASSERT_TRUE(tokenizer.padding().has_value());
  EXPECT_EQ(tokenizer.padding()->fixed_length, 16);
  EXPECT_EQ(tokenizer.padding()->multiple_of, 8);
  EXPECT_EQ(tokenizer.padding()->side, Truncation::Direction::kLeft);
  EXPECT_EQ(tokenizer.encode("the").ids.size(), 3u);
}

class TokenizerDirectory : public testing::Test {
 protected:
  void SetUp() override {
    const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    directory_ = std::filesystem::path(testing::TempDir()) / ("octet-tokenizer-" + name);
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& name, const std::string& text) { std::ofstream(directory_ / name) << text; }

  std::filesystem::path directory_;
};

TEST_F(TokenizerDirectory, PrefersTokenizerJson) {
  write("tokenizer.json", test_file("tokenizer.json"));
  write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\nthe\n");
  write("tokenizer_config.json", R"({"model_max_length": 512})");
  const Tokenizer tokenizer = Tokenizer::load(directory_);
  EXPECT_EQ(tokenizer.vocab_size(), static_cast<int64_t>(base_document()["model"]["vocab"].size()));
  EXPECT_EQ(tokenizer.model_max_length(), 512);
}

TEST_F(TokenizerDirectory, FallsBackToVocabTxt) {
  write("vocab.txt", "[UNK]\r\n[CLS]\r\n[SEP]\r\nthe\r\n##se");
  const Tokenizer tokenizer = Tokenizer::load(directory_);
  EXPECT_EQ(tokenizer.vocab_size(), 5);
  EXPECT_THAT(tokenizer.encode("These").ids, ElementsAre(1, 3, 4, 2));
  EXPECT_EQ(tokenizer.model_max_length(), std::nullopt);
}

TEST_F(TokenizerDirectory, HugeModelMaxLengthMeansNoLimit) {
  write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n");
  write("tokenizer_config.json", R"({"model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(Tokenizer::load(directory_).model_max_length(), std::nullopt);
}

TEST_F(TokenizerDirectory, NamesWhatIsMissing) {
  EXPECT_THAT([&] { Tokenizer::load(directory_); },
              ThrowsMessage<Error>(
                  HasSubstr("no tokenizer.json, tokenizer.model, vocab.json with merges.txt, or vocab.txt there")));
  EXPECT_THROW(Tokenizer::load(directory_ / "absent"), Error);
}

TEST(TokenizerOfMiniLm, EncodesASentence) {
  const char* data = std::getenv("OCTET_SHARED_DATA");
  if (data == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set";
  const std::filesystem::path model = std::filesystem::path(data) / "models/minilm-l6";
  const Tokenizer tokenizer = Tokenizer::load(model);
  EXPECT_EQ(tokenizer.vocab_size(), 30522);
  EXPECT_EQ(tokenizer.model_max_length(), 512);
  EXPECT_EQ(tokenizer.truncation()->max_length, 128);
  const Encoding encoding = tokenizer.encode("Octet quantizes transformers.");
  EXPECT_EQ(tokenizer.decode(encoding.ids), "octet quantizes transformers.");
  // The same vocabulary as a vocab.txt gives the same ids.
  const Tokenizer other = Tokenizer::load(std::filesystem::path(data) / "tokenizers/bert-base-uncased");
  EXPECT_EQ(other.encode("Octet quantizes transformers.").ids, encoding.ids);
}

}  // namespace
}  // namespace octet

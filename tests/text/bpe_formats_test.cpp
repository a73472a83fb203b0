// SPDX-License-Identifier: Apache-2.0
// BPE and SentencePiece files that are damaged or hostile, and texts that are hard work.
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/text/regex.h"
#include "tests/text/golden.h"

namespace octet {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;

Json bpe_document() {
  return Json::parse(R"({"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3, "<unk>": 4},
    "merges": ["a b", ["ab", "ab"]], "unk_token": "<unk>"}})");
}

struct Damage {
  std::function<void(Json&)> damage;
  const char* message;
};

const std::vector<Damage> kDamages = {
    {[](Json& d) { d["model"]["merges"][1] = "a c"; }, "model.merges has at [1] 'a' and 'c', but 'c' is not in the"},
    {[](Json& d) { d["model"]["merges"][0] = "b a"; }, "model.merges has at [0] 'b' and 'a', but 'ba' is not in the"},
    {[](Json& d) { d["model"]["merges"][0] = "ab"; }, "model.merges has at [0] what is no pair of tokens"},
    {[](Json& d) { d["model"]["merges"][0] = "a b c"; }, "model.merges has at [0] what is no pair of tokens"},
    {[](Json& d) { d["model"]["merges"][0] = Json::array({"a"}); }, "model.merges has at [0] what is no pair"},
    {[](Json& d) { d["model"]["merges"][0] = 1; }, "model.merges has at [0] what is no pair of tokens"},
    {[](Json& d) { d["model"]["merges"] = "a b"; }, "model.merges must be an array"},
    {[](Json& d) { d["model"]["vocab"]["a"] = 1; }, "model.vocab gives both"},
    {[](Json& d) { d["model"]["vocab"]["a"] = 1 << 24; }, "model.vocab gives 'a' the id 16777216"},
    {[](Json& d) { d["model"]["unk_token"] = "?"; }, "model.unk_token is '?', which is not in the vocabulary"},
    {[](Json& d) { d["model"]["dropout"] = 0.1; }, "model.dropout is not 0"},
    {[](Json& d) { d["model"]["fuse_unk"] = 1; }, "model.fuse_unk must be true or false"},
    {[](Json& d) {
       d["pre_tokenizer"] = {
           {"type", "Split"}, {"pattern", {{"Regex", "[a"}}}, {"behavior", "Isolated"}, {"invert", false}};
     },
     "pre_tokenizer.pattern.Regex is not a pattern that Octet can read"},
    {[](Json& d) {
       d["pre_tokenizer"] = {
           {"type", "Split"}, {"pattern", {{"Regex", "[a&&b]"}}}, {"behavior", "Isolated"}, {"invert", false}};
     },
     "pre_tokenizer.pattern.Regex has an intersection of sets"},
    {[](Json& d) {
       d["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "ab"}};
     },
     "pre_tokenizer.replacement must be one character"},
    {[](Json& d) {
       d["normalizer"] = {{"type", "Prepend"}, {"prepend", std::string(2000, 'x')}};
     },
     "normalizer.prepend has more than 1024 bytes"},
    {[](Json& d) {
       d["decoder"] = {{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}};
     },
     "decoder.start is -1"},
    {[](Json& d) {
       const Json template_processing = {{"type", "BertProcessing"}, {"sep", {"a", 0}}, {"cls", {"b", 1}}};
       d["post_processor"] = {{"type", "Sequence"}, {"processors", {template_processing, template_processing}}};
     },
     "post_processor.processors[1] is the second of its sequence that adds tokens"},
};

TEST(BpeFormats, DamagedDocumentsAreFormatErrors) {
  for (const Damage& damaged : kDamages) {
    Json document = bpe_document();
    damaged.damage(document);
    EXPECT_THAT([&] { Tokenizer::from_json(json_text(document), "tokenizer.json"); },
                ThrowsMessage<FormatError>(testing::AllOf(StartsWith("tokenizer.json: "), HasSubstr(damaged.message))));
  }
}

TEST(BpeFormats, TheLowestRankMergesFirst) {
  const Tokenizer tokenizer = Tokenizer::from_json(json_text(bpe_document()), "tokenizer.json");
  EXPECT_THAT(tokenizer.encode("ababab").ids, ElementsAre(3, 2));
  EXPECT_THAT(tokenizer.encode("bax").ids, ElementsAre(1, 0, 4));
}

TEST(BpeFormats, DeepSequencesAreFormatErrors) {
  for (const char* key : {"normalizer", "pre_tokenizer", "decoder", "post_processor"}) {
    std::string open, close;
    for (int i = 0; i < 100'000; ++i) {
      open += R"({"type":"Sequence","normalizers":[)";
      close += "]}";
    }
    const std::string text = "{\"" + std::string(key) + "\":" + open + close + "}";
    EXPECT_THAT([&] { Tokenizer::from_json(text, "tokenizer.json"); },
                ThrowsMessage<FormatError>(HasSubstr("nested more than 32 levels")));
  }
}

TEST(BpeFormats, AWordOfAMegabyteTakesNoSquareOfTime) {
  const Tokenizer tokenizer = Tokenizer::from_json(json_text(bpe_document()), "tokenizer.json");
  std::string text;
  for (int i = 0; i < 1 << 19; ++i) text += "ab";
  EXPECT_EQ(tokenizer.encode(text).ids.size(), size_t{1} << 18);
}

TEST(BpeFormats, DecodersThatGrowWithoutEndAreAFormatError) {
  Json document = bpe_document();
  const Json doubling = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  document["decoder"] = {{"type", "Sequence"}, {"decoders", std::vector<Json>(60, doubling)}};
  const Tokenizer tokenizer = Tokenizer::from_json(json_text(document), "tokenizer.json");
  EXPECT_THAT([&] { tokenizer.decode(std::vector<int32_t>{0}); },
              ThrowsMessage<FormatError>(HasSubstr("64 times longer")));
}

TEST(Regex, APatternThatTakesExponentialTimeIsAFormatError) {
  const Regex regex = Regex::compile("(?:a+)+$|(?:a|a)*b");
  EXPECT_THAT([&] { regex.find_all(std::string(2000, 'a') + "c"); },
              ThrowsMessage<FormatError>(HasSubstr("takes too long")));
}

TEST(Regex, FindsEmptyMatchesButNotBehindAMatch) {
  const auto places = [](const Regex& regex, std::string_view text) {
    std::vector<std::pair<size_t, size_t>> result;
    for (const ByteRange& match : regex.find_all(text)) result.emplace_back(match.begin, match.end);
    return result;
  };
  EXPECT_THAT(places(Regex::compile("a*"), "aéa"),
              ElementsAre(std::pair(size_t{0}, size_t{1}), std::pair(size_t{3}, size_t{4})));
  EXPECT_THAT(places(Regex::literal("a.b\\E"), "axb a.b\\E"), ElementsAre(std::pair(size_t{4}, size_t{9})));
}

struct BadPattern {
  const char* pattern;
  const char* message;
};

TEST(Regex, RefusesWhatMeansSomethingElseInRuby) {
  for (const auto& [pattern, message] : std::vector<BadPattern>{{"[a[bc]]", "a set within a set"},
                                                                {"(*UTF)a", "a verb"},
                                                                {"a\\Kb", "\\K"},
                                                                {"(?m:.)", "the group '(?m'"},
                                                                {"(?R)", "the group '(?R'"},
                                                                {"[\\W]", "\\W in a set"},
                                                                {"\\pL", "\\p without"}}) {
    EXPECT_THAT([&text = pattern] { Regex::compile(text); }, ThrowsMessage<FormatError>(HasSubstr(message))) << pattern;
  }
}

const char* const kVocabulary = R"({"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4})";

TEST(VocabAndMerges, ReadsGpt2sFiles) {
  const Tokenizer tokenizer = Tokenizer::from_vocab_and_merges(
      kVocabulary, "vocab.json", "#version: 0.2\na b\r\n\n", "merges.txt",
      R"({"add_prefix_space": true, "add_bos_token": true, "bos_token": {"content": "<|endoftext|>"}})", "config.json");
  EXPECT_EQ(tokenizer.bos_id(), 4);
  EXPECT_EQ(tokenizer.eos_id(), 4);
  EXPECT_THAT(tokenizer.encode("ab<|endoftext|> ab").ids, ElementsAre(4, 3, 2, 4, 3, 2));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{2, 3, 2}), "ab ab");
}

struct BadMerges {
  const char* vocabulary;
  const char* merges;
  const char* config;
  const char* message;
};

TEST(VocabAndMerges, DamagedFilesAreFormatErrors) {
  for (const BadMerges& bad : std::vector<BadMerges>{
           {kVocabulary, "a b\na c\n", "", "merges.txt: line 2 merges 'a c', but 'c' is not in the vocabulary"},
           {kVocabulary, "b a\n", "", "merges.txt: line 1 merges 'b a', but 'ba' is not in the vocabulary"},
           {kVocabulary, "ab\n", "", "merges.txt: line 1 is 'ab', not two tokens"},
           {kVocabulary, "a b ab\n", "", "merges.txt: line 1 is 'a b ab', not two tokens"},
           {"[]", "", "", "vocab.json: the top level must be an object"},
           {"{}", "", "", "vocab.json: the top level is empty"},
           {R"({"a": -1})", "", "", "vocab.json: the top level gives 'a' the id -1"},
           {kVocabulary, "", R"({"added_tokens_decoder": {"1": {"content": "z"}}})", "which vocab.json does not have"},
           {kVocabulary, "", R"({"added_tokens_decoder": {"99999999": {"content": "z"}}})", "is no id of a token"},
           {kVocabulary, "", R"({"tokenizer_class": "RobertaTokenizer"})", "'<s>' and '</s>'"},
           {kVocabulary, "", R"({"add_bos_token": true, "bos_token": null})", "there is no bos_token"},
       }) {
    EXPECT_THAT(
        [&] {
          Tokenizer::from_vocab_and_merges(bad.vocabulary, "vocab.json", bad.merges, "merges.txt", bad.config, "c");
        },
        ThrowsMessage<FormatError>(HasSubstr(bad.message)));
  }
}

Tokenizer sentence_piece(const std::string& model) {
  return Tokenizer::from_sentence_piece(model, "tokenizer.model", "", "config.json");
}

TEST(SentencePieceFormats, EveryTruncationIsAFormatErrorOrAModel) {
  const std::string whole = test_file("sentence_piece_unigram.model");
  for (size_t size = 0; size < whole.size(); size += size < 200 ? 1 : 37) {
    try {
      sentence_piece(whole.substr(0, size)).encode("The cat ﬁ 12");
    } catch (const FormatError& error) {
      EXPECT_THAT(error.what(), StartsWith("tokenizer.model: "));
    }
  }
}

TEST(SentencePieceFormats, FlippedBytesNeverReachOutside) {
  const std::string whole = test_file("sentence_piece_bpe_rules.model");
  for (size_t at = 0; at < whole.size(); at += 5) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    try {
      const Tokenizer tokenizer = sentence_piece(damaged);
      tokenizer.decode(tokenizer.encode("The ﬁrst ½ cat\u3000\u212b").ids);
    } catch (const FormatError&) {
    }
  }
}

std::string piece(const std::string& text, char type) {
  const std::string body = fmt::format("\x0A{}{}\x18{}", static_cast<char>(text.size()), text, type);
  return fmt::format("\x0A{}{}", static_cast<char>(body.size()), body);
}

TEST(SentencePieceFormats, ModelsThatContradictThemselvesAreFormatErrors) {
  const std::string unknown = piece("<unk>", 2);
  for (const auto& [model, message] : std::vector<std::pair<std::string, const char*>>{
           {"", "the model has no pieces"},
           {"\x0A\x7F", "field 1 has 127 bytes, but 0 are left"},
           {"\x0B", "the wire type 3"},
           {piece("a", 1), "no piece is the unknown one"},
           {unknown + piece("u", 2), "are both the unknown one"},
           {unknown + piece("a", 1) + piece("a", 1), "two pieces are"},
           {unknown + piece("<0x41>", 6), "the model has no byte fallback"},
           {unknown + piece("a", 9), "a piece has the type 9"},
           {unknown + piece("\xFF", 1), "is not UTF-8"},
           {unknown + piece("", 1), "has no text"},
           {unknown + "\x12\x02\x18\x03", "the model type is 3"},
           {unknown + "\x12\x03\x98\x02\x01", "of the 256 bytes"},
           {unknown + "\x1A\x03\x12\x01\x01", "the normalization rules have 1 bytes"},
       }) {
    EXPECT_THAT([&bad = model] { sentence_piece(bad); }, ThrowsMessage<FormatError>(HasSubstr(message)));
  }
}

TEST(SentencePieceFormats, BeginsAndEndsAsTheConfigurationSays) {
  const std::string model = test_file("sentence_piece_bpe.model");
  const auto ids = [&](const char* config) {
    return Tokenizer::from_sentence_piece(model, "tokenizer.model", config, "config.json").encode("a").ids;
  };
  const std::vector<int32_t> bare = ids(R"({"add_bos_token": false})");
  EXPECT_EQ(ids("").front(), 1);
  EXPECT_EQ(ids("").size(), bare.size() + 1);
  EXPECT_EQ(ids(R"({"add_bos_token": false, "add_eos_token": true})").back(), 2);
}

}  // namespace
}  // namespace octet

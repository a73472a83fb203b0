// SPDX-License-Identifier: Apache-2.0
// Octet against `tokenizers` and `sentencepiece`: bpe_golden.json, written by make_bpe_golden.py; against
// `transformers`: vocab_and_merges_golden.json, written by make_vocab_and_merges_golden.py. And for each of those
// tokenizers: decoding id by id gives whole characters, and together what decode() gives.
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "octet/base/json.h"
#include "octet/text/stream_decoder.h"
#include "octet/text/unicode.h"
#include "tests/text/golden.h"

namespace octet {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;
using Offsets = std::vector<std::pair<int64_t, int64_t>>;

const Json& golden() {
  static const Json document = Json::parse(test_file("bpe_golden.json"));
  return document;
}

Tokenizer tokenizer_of(const Json& group) {
  Json document = Json::parse(test_file("bpe_" + group["base"].get<std::string>() + ".json"));
  for (const auto& [key, value] : group["overrides"].items()) {
    if (key == "model") {
      document["model"].update(value);
    } else {
      document[key] = value;
    }
  }
  return Tokenizer::from_json(json_text(document), "tokenizer.json");
}

Tokenizer sentence_piece_of(const Json& group) {
  const auto name = group["name"].get<std::string>();
  return Tokenizer::from_sentence_piece(test_file(name), name, R"({"add_bos_token": false, "add_eos_token": false})",
                                        "tokenizer_config.json");
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (unicode::decode_utf8(text, at) == unicode::kReplacement && text.substr(begin, at - begin) != "\uFFFD")
      return false;
  }
  return true;
}

void expect_stream_decodes(const Tokenizer& tokenizer, const Ids& ids) {
  for (const SpecialTokens special : {SpecialTokens::kWith, SpecialTokens::kWithout}) {
    StreamDecoder decoder(tokenizer, special);
    std::string text;
    const auto take = [&](const std::string& piece) {
      EXPECT_TRUE(is_utf8(piece)) << piece;
      text += piece;
    };
    for (const int32_t id : ids) take(decoder.push(id));
    take(decoder.finish());
    EXPECT_EQ(text, tokenizer.decode(ids, special));
  }
}

void expect_random_streams_decode(const Tokenizer& tokenizer) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    Ids ids;
    while (ids.size() < 40) {
      const auto id = static_cast<int32_t>(random() % static_cast<uint32_t>(tokenizer.max_id() + 1));
      if (tokenizer.id_to_token(id)) ids.push_back(id);
    }
    expect_stream_decodes(tokenizer, ids);
  }
}

void expect_cases(const Tokenizer& tokenizer, const Json& group) {
  for (const Json& expected : group["cases"]) {
    SCOPED_TRACE(json_text(expected["text"]));
    const Encoding encoding = tokenizer.encode(expected["text"].get<std::string>());
    EXPECT_EQ(encoding.ids, expected["ids"].get<Ids>());
    EXPECT_EQ(encoding.offsets, expected["offsets"].get<Offsets>());
    if (expected.contains("word_ids")) {
      EXPECT_EQ(encoding.word_ids, expected["word_ids"].get<Ids>());
    }
    if (expected.contains("decoded") && !expected["decoded"].is_null()) {
      EXPECT_EQ(tokenizer.decode(expected["ids"].get<Ids>()), expected["decoded"].get<std::string>());
    }
    expect_stream_decodes(tokenizer, encoding.ids);
  }
  for (const Json& expected : group["decodes"]) {
    SCOPED_TRACE(json_text(expected));
    const auto ids = expected["ids"].get<Ids>();
    if (!expected["text"].is_null()) {
      EXPECT_EQ(tokenizer.decode(ids, SpecialTokens::kWith), expected["text"].get<std::string>());
    }
    expect_stream_decodes(tokenizer, ids);
  }
  expect_random_streams_decode(tokenizer);
}

TEST(BpeGolden, EncodesAndDecodesAsTheLibraryDoes) {
  for (const Json& group : golden()["groups"]) {
    SCOPED_TRACE(group["name"].get<std::string>());
    expect_cases(tokenizer_of(group), group);
  }
}

TEST(BpeGolden, VocabulariesWithMergesEncodeAsTransformersDoes) {
  const Json document = Json::parse(test_file("vocab_and_merges_golden.json"));
  for (const Json& group : document["groups"]) {
    SCOPED_TRACE(group["name"].get<std::string>());
    expect_cases(Tokenizer::from_vocab_and_merges(document["vocabulary"].get<std::string>(), "vocab.json",
                                                  document["merges"].get<std::string>(), "merges.txt",
                                                  group["config"].get<std::string>(), "tokenizer_config.json"),
                 group);
  }
}

TEST(BpeGolden, SentencePieceModelsEncodeAndDecodeAsTheLibraryDoes) {
  for (const Json& group : golden()["sentence_piece"]) {
    SCOPED_TRACE(group["name"].get<std::string>());
    const Tokenizer tokenizer = sentence_piece_of(group);
    EXPECT_EQ(tokenizer.bos_id(), group["bos"].get<int32_t>());
    EXPECT_EQ(tokenizer.eos_id(), group["eos"].get<int32_t>());
    expect_cases(tokenizer, group);
  }
}

TEST(StreamDecoder, KeepsBackABegunCharacter) {
  const Tokenizer tokenizer = tokenizer_of(golden()["groups"][0]);
  const auto id = [&](const char* token) { return tokenizer.token_to_id(token).value(); };
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(id("a")), "a");
  EXPECT_EQ(decoder.push(id("ä")), "");  // E4 B8 AD is 中
  EXPECT_EQ(decoder.push(id("¸")), "");
  EXPECT_EQ(decoder.push(id("Ń")), "中");
  EXPECT_EQ(decoder.push(id("ä")), "");
  EXPECT_EQ(decoder.push(id("b")),
            "\uFFFD"
            "b");
  EXPECT_EQ(decoder.push(id("ä")), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

}  // namespace
}  // namespace octet

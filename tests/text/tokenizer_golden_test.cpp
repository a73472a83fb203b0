// SPDX-License-Identifier: Apache-2.0
// Octet against the `tokenizers` library: golden.json, written by make_golden.py.
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "octet/base/json.h"
#include "octet/text/normalizer.h"
#include "octet/text/unicode.h"
#include "tests/text/golden.h"

namespace octet {
namespace {

using Json = nlohmann::json;
using Offsets = std::vector<std::pair<int64_t, int64_t>>;

const Json& golden() {
  static const Json document = Json::parse(test_file("golden.json"));
  return document;
}

SpecialTokens with_special(bool with) { return with ? SpecialTokens::kWith : SpecialTokens::kWithout; }

Encoding encode(const Tokenizer& tokenizer, const Json& texts, const EncodeOptions& options) {
  const auto first = texts[0].get<std::string>();
  return texts.size() == 1 ? tokenizer.encode(first, options)
                           : tokenizer.encode_pair(first, texts[1].get<std::string>(), options);
}

void expect_equal(const Encoding& encoding, const Json& expected) {
  SCOPED_TRACE(json_text(expected["texts"]));
  EXPECT_EQ(encoding.ids, expected["ids"].get<std::vector<int32_t>>());
  EXPECT_EQ(encoding.type_ids, expected["type_ids"].get<std::vector<int32_t>>());
  EXPECT_EQ(encoding.special_tokens_mask, expected["special_tokens_mask"].get<std::vector<uint8_t>>());
  EXPECT_EQ(encoding.word_ids, expected["word_ids"].get<std::vector<int32_t>>());
  EXPECT_EQ(encoding.offsets, expected["offsets"].get<Offsets>());
  EXPECT_EQ(encoding.dropped, 0);
}

TEST(TokenizerGolden, EncodesAsTheLibraryDoes) {
  for (const Json& group : golden()["groups"]) {
    SCOPED_TRACE(group["name"].get<std::string>());
    const Tokenizer tokenizer = tokenizer_with(group["overrides"]);
    const EncodeOptions options{with_special(group["special_tokens"].get<bool>()), std::nullopt};
    for (const Json& expected : group["cases"]) expect_equal(encode(tokenizer, expected["texts"], options), expected);
  }
}

TEST(TokenizerGolden, VocabTxtEncodesAsTheLibraryDoes) {
  const std::string vocabulary = test_file("vocab.txt");
  for (const Json& group : golden()["vocab_txt"]) {
    SCOPED_TRACE(json_text(group["config"]));
    const Tokenizer tokenizer =
        Tokenizer::from_vocab_txt(vocabulary, "vocab.txt", json_text(group["config"]), "tokenizer_config.json");
    for (const Json& expected : group["cases"]) expect_equal(encode(tokenizer, expected["texts"], {}), expected);
  }
}

TEST(TokenizerGolden, TruncatesIntoTheLibrarysWindows) {
  const Tokenizer tokenizer = tokenizer_with();
  for (const Json& expected : golden()["windows"]) {
    SCOPED_TRACE(json_text(expected));
    Truncation truncation;
    truncation.max_length = expected["max_length"].get<int64_t>();
    truncation.stride = expected["stride"].get<int64_t>();
    if (expected["strategy"] == "only_first") truncation.strategy = Truncation::Strategy::kOnlyFirst;
    if (expected["strategy"] == "only_second") truncation.strategy = Truncation::Strategy::kOnlySecond;
    if (expected["direction"] == "left") truncation.direction = Truncation::Direction::kLeft;
    const EncodeOptions options{with_special(expected["special_tokens"].get<bool>()), truncation};
    const Json& texts = expected["texts"];
    const auto first = texts[0].get<std::string>();
    const std::vector<Encoding> windows =
        texts.size() == 1 ? tokenizer.encode_windows(first, options)
                          : tokenizer.encode_pair_windows(first, texts[1].get<std::string>(), options);
    ASSERT_EQ(windows.size(), expected["windows"].size());
    for (size_t i = 0; i < windows.size(); ++i) {
      EXPECT_EQ(windows[i].ids, expected["windows"][i]["ids"].get<std::vector<int32_t>>()) << "window " << i;
      EXPECT_EQ(windows[i].type_ids, expected["windows"][i]["type_ids"].get<std::vector<int32_t>>()) << "window " << i;
    }
    EXPECT_EQ(encode(tokenizer, texts, options).ids, windows[0].ids);
  }
}

TEST(TokenizerGolden, DecodesAsTheLibraryDoes) {
  for (const Json& group : golden()["decodes"]) {
    SCOPED_TRACE(json_text(group["overrides"]["decoder"]));
    const Tokenizer tokenizer = tokenizer_with(group["overrides"]);
    for (const Json& expected : group["cases"]) {
      SCOPED_TRACE(json_text(expected));
      const auto ids = expected["ids"].get<std::vector<int32_t>>();
      EXPECT_EQ(tokenizer.decode(ids, with_special(!expected["skip_special_tokens"].get<bool>())),
                expected["text"].get<std::string>());
    }
  }
}

/// FNV-1a (64 bits) of "CODE:RESULT;" for every code point that the normalizer changes.
std::string hash_of_changes(const Normalizer& normalizer) {
  uint64_t hash = 0xCBF29CE484222325;
  AlignedText text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    text.assign({{c, 0, 1}});
    normalizer.apply(text);
    if (text.size() == 1 && text[0].code == c) continue;
    for (const char byte : fmt::format("{}:{};", static_cast<uint32_t>(c), to_utf8(text))) {
      hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
    }
  }
  return fmt::format("{:016x}", hash);
}

TEST(TokenizerGolden, EveryCodePointNormalizesAsInTheLibrary) {
  const std::vector<std::pair<const char*, NormalizerStep>> normalizers = {
      {"NFC", UnicodeNormalizer{NormalizationForm::kNfc}},
      {"NFD", UnicodeNormalizer{NormalizationForm::kNfd}},
      {"NFKC", UnicodeNormalizer{NormalizationForm::kNfkc}},
      {"NFKD", UnicodeNormalizer{NormalizationForm::kNfkd}},
      {"Lowercase", LowercaseNormalizer{}},
      {"StripAccents", StripAccentsNormalizer{}},
      {"BertNormalizer", BertNormalizer{}},
  };
  for (const auto& [name, step] : normalizers) {
    EXPECT_EQ(hash_of_changes(Normalizer({step})), golden()["code_points"][name].get<std::string>()) << name;
  }
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
// Tokenizers of GGUF files, which are made here of those that bpe_golden.json is about.
#include "octet/text/gguf_tokenizer.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/json.h"
#include "octet/io/checkpoint.h"
#include "tests/io/gguf_bytes.h"
#include "tests/io/scratch.h"
#include "tests/text/golden.h"

namespace octet {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4;

const Json& group(const std::string& kind, const std::string& name) {
  static const Json document = Json::parse(test_file("bpe_golden.json"));
  for (const Json& one : document[kind]) {
    if (one["name"] == name) return one;
  }
  throw Error("no such group: " + name);
}

class GgufTokenizer : public ScratchFolder {
 protected:
  Tokenizer tokenizer(const GgufBytes& bytes) { return Tokenizer::from_gguf(GgufFile::open(write(bytes))); }
  std::filesystem::path write(const GgufBytes& bytes) { return ScratchFolder::write("m.gguf", bytes.bytes()); }
  std::string refusal(const GgufBytes& bytes) {
    return message_of([&] { tokenizer(bytes); });
  }
};

// The BPE of bpe_byte_level.json.
GgufBytes byte_level_bpe(const std::string& pre) {
  const Json document = Json::parse(test_file("bpe_byte_level.json"));
  std::vector<std::string> tokens(document["model"]["vocab"].size());
  std::vector<int32_t> types(tokens.size(), kNormal);
  for (const auto& [token, id] : document["model"]["vocab"].items()) tokens[id.get<size_t>()] = token;
  for (const Json& added : document["added_tokens"]) types[added["id"].get<size_t>()] = kControl;
  std::vector<std::string> merges;
  for (const Json& merge : document["model"]["merges"]) {
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  GgufBytes bytes;
  bytes.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", pre).add_texts("tokenizer.ggml.tokens", tokens);
  bytes.add_numbers("tokenizer.ggml.token_type", GgufValueType::kI32, types);
  return bytes.add_texts("tokenizer.ggml.merges", merges);
}

void expect_cases(const Tokenizer& tokenizer, const Json& group) {
  for (const Json& expected : group["cases"]) {
    SCOPED_TRACE(json_text(expected["text"]));
    EXPECT_EQ(tokenizer.encode(expected["text"].get<std::string>()).ids, expected["ids"].get<Ids>());
    if (expected.contains("decoded") && !expected["decoded"].is_null()) {
      EXPECT_EQ(tokenizer.decode(expected["ids"].get<Ids>()), expected["decoded"].get<std::string>());
    }
  }
}

TEST_F(GgufTokenizer, ByteLevelBpeEncodesAsTheLibraryDoes) {
  const auto check = [&](const std::string& pre, const std::string& name) {
    SCOPED_TRACE(pre);
    // Llama 3's begins every text with a token, here with the first, unless the file says otherwise.
    GgufBytes bytes = byte_level_bpe(pre);
    expect_cases(tokenizer(bytes.add("tokenizer.ggml.bos_token_id", GgufValueType::kU32, uint32_t{0})),
                 group("groups", name));
  };
  check("gpt-2", "GPT-2");
  check("smollm", "single digits");
  check("qwen2", "Qwen2");
  check("llama-bpe", "Llama 3");
}

TEST_F(GgufTokenizer, SentencePieceEncodesAsTheLibraryDoes) {
  for (const std::string name : {"sentence_piece_bpe.model", "sentence_piece_bpe_rules.model"}) {
    SCOPED_TRACE(name);
    const SentencePieceFile file = read_sentence_piece_file(test_file(name), name);
    if (!file.charsmap.empty() || file.treat_whitespace_as_suffix) continue;  // GGUF files have no place for these
    std::vector<std::string> tokens;
    std::vector<float> scores;
    std::vector<int32_t> types;
    for (const SentencePieceFile::Piece& piece : file.pieces) {
      tokens.push_back(piece.text);
      scores.push_back(piece.score);
      types.push_back(static_cast<int32_t>(piece.type));
    }
    GgufBytes bytes;
    bytes.add("tokenizer.ggml.model", "llama").add_texts("tokenizer.ggml.tokens", tokens);
    bytes.add_numbers("tokenizer.ggml.scores", GgufValueType::kF32, scores);
    bytes.add_numbers("tokenizer.ggml.token_type", GgufValueType::kI32, types);
    bytes.add("tokenizer.ggml.add_space_prefix", GgufValueType::kBool, static_cast<uint8_t>(file.add_dummy_prefix));
    bytes.add("tokenizer.ggml.remove_extra_whitespaces", GgufValueType::kBool,
              static_cast<uint8_t>(file.remove_extra_whitespaces));
    bytes.add("tokenizer.ggml.bos_token_id", GgufValueType::kU32, group("sentence_piece", name)["bos"].get<uint32_t>());
    const Tokenizer framed = tokenizer(bytes);
    EXPECT_EQ(framed.bos_id(), group("sentence_piece", name)["bos"].get<int32_t>());
    EXPECT_EQ(framed.encode("a").ids.front(), *framed.bos_id());
    // A control token in a text is that token here, and text to the library.
    const Tokenizer plain = tokenizer(bytes.add("tokenizer.ggml.add_bos_token", GgufValueType::kBool, uint8_t{0}));
    for (const Json& expected : group("sentence_piece", name)["cases"]) {
      const auto text = expected["text"].get<std::string>();
      if (text.find("<s>") != text.npos) continue;
      EXPECT_EQ(plain.encode(text).ids, expected["ids"].get<Ids>()) << text;
    }
    const auto ids = plain.encode("the<s>").ids;
    EXPECT_EQ(ids.back(), *plain.bos_id());
  }
}

TEST_F(GgufTokenizer, BeginAndEndAreAddedWhereTheFileSaysSo) {
  using enum GgufValueType;
  const auto framed = [&](const std::string& pre, int bos, int eos) {
    GgufBytes bytes = byte_level_bpe(pre);
    bytes.add("tokenizer.ggml.bos_token_id", kU32, uint32_t{0}).add("tokenizer.ggml.eos_token_id", kU32, uint32_t{1});
    if (bos >= 0) bytes.add("tokenizer.ggml.add_bos_token", kBool, static_cast<uint8_t>(bos));
    if (eos >= 0) bytes.add("tokenizer.ggml.add_eos_token", kBool, static_cast<uint8_t>(eos));
    const Tokenizer made = tokenizer(bytes);
    EXPECT_EQ(made.bos_id(), 0);
    EXPECT_EQ(made.eos_id(), 1);
    EXPECT_EQ(made.encode_pair("a", "b").ids.size(), 2 * made.encode("a").ids.size());
    return made.encode("a").ids;
  };
  const Ids a = framed("gpt-2", -1, -1);
  ASSERT_EQ(a.size(), 1u);
  EXPECT_EQ(framed("llama-bpe", -1, -1), (Ids{0, a[0]}));
  EXPECT_EQ(framed("llama-bpe", 0, -1), a);
  EXPECT_EQ(framed("gpt-2", 1, 1), (Ids{0, a[0], 1}));
}

TEST_F(GgufTokenizer, TokensOfUsersAreFoundInTexts) {
  GgufBytes bytes;
  bytes.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "gpt-2");
  bytes.add_texts("tokenizer.ggml.tokens", {"a", "b", "<tool>", "<|end|>"}).add_texts("tokenizer.ggml.merges", {});
  bytes.add_numbers("tokenizer.ggml.token_type", GgufValueType::kI32,
                    std::vector<int32_t>{kNormal, kNormal, kUserDefined, kControl});
  const Tokenizer made = tokenizer(bytes);
  EXPECT_EQ(made.encode("a<tool>b<|end|>").ids, (Ids{0, 2, 1, 3}));
  EXPECT_TRUE(made.is_special(3));
  EXPECT_FALSE(made.is_special(2));
  EXPECT_EQ(made.decode(Ids{0, 2, 1, 3}), "a<tool>b");
}

TEST_F(GgufTokenizer, DamagedTokenizersAreNamed) {
  using enum GgufValueType;
  const auto bpe = [](const std::vector<std::string>& tokens, const std::vector<std::string>& merges) {
    GgufBytes bytes;
    bytes.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "gpt-2");
    return bytes.add_texts("tokenizer.ggml.tokens", tokens).add_texts("tokenizer.ggml.merges", merges);
  };
  const auto pieces = [](const std::vector<std::string>& tokens, const std::vector<float>& scores,
                         const std::vector<int32_t>& types) {
    GgufBytes bytes;
    bytes.add("tokenizer.ggml.model", "llama").add_texts("tokenizer.ggml.tokens", tokens);
    bytes.add_numbers("tokenizer.ggml.scores", kF32, scores);
    return bytes.add_numbers("tokenizer.ggml.token_type", kI32, types);
  };
  EXPECT_THAT(refusal(GgufBytes()), HasSubstr("'tokenizer.ggml.tokens' is missing"));
  EXPECT_THAT(refusal(bpe({}, {})), HasSubstr("has 0 tokens"));
  EXPECT_THAT(refusal(bpe({"a", "a"}, {})), HasSubstr("has 'a' twice"));
  EXPECT_THAT(refusal(bpe({"a", "b"}, {"a b"})), HasSubstr("'ab' is not in the vocabulary"));
  EXPECT_THAT(refusal(bpe({"a", "b"}, {"ab"})), HasSubstr("no pair of tokens"));
  EXPECT_THAT(refusal(bpe({"a"}, {}).add_numbers("tokenizer.ggml.token_type", kI32, std::vector<int32_t>{1, 1})),
              HasSubstr("has 2 entries for 1 tokens"));
  EXPECT_THAT(refusal(bpe({"a"}, {}).add_numbers("tokenizer.ggml.token_type", kI32, std::vector<int32_t>{7})),
              HasSubstr("token 0 has the type 7"));
  EXPECT_THAT(refusal(bpe({"a"}, {}).add("tokenizer.ggml.bos_token_id", kU32, uint32_t{1})),
              HasSubstr("'tokenizer.ggml.bos_token_id' is 1"));
  EXPECT_THAT(refusal(byte_level_bpe("mystery")), HasSubstr("the pre-tokenizer 'mystery' is not supported; gpt-2, "));
  EXPECT_THAT(refusal(pieces({"<unk>", "a"}, {0}, {2, 1})), HasSubstr("has 1 entries for 2 tokens"));
  EXPECT_THAT(refusal(pieces({"a"}, {0}, {1})), HasSubstr("no piece is the unknown one"));
  EXPECT_THAT(refusal(pieces({"<unk>", ""}, {0, 0}, {2, 1})), HasSubstr("piece 1 has no text"));
  EXPECT_THAT(refusal(pieces({"<unk>", "\xff"}, {0, 0}, {2, 1})), HasSubstr("piece 1 is not UTF-8"));
  EXPECT_THAT(refusal(pieces({"<unk>", "<0x00>"}, {0, 0}, {2, 6})), HasSubstr("1 of the 256 bytes"));
  EXPECT_THAT(refusal(pieces({"<unk>"}, {NAN}, {2})), HasSubstr("is not a finite number"));
  GgufBytes word_piece;
  word_piece.add("tokenizer.ggml.model", "bert").add_texts("tokenizer.ggml.tokens", {"a"});
  EXPECT_THAT(refusal(word_piece), HasSubstr("the tokenizer 'bert' is not supported; gpt2 and llama are"));
}

TEST_F(GgufTokenizer, AFolderTakesTheFileThatIsAlone) {
  write(byte_level_bpe("gpt-2"));
  EXPECT_EQ(Tokenizer::load(folder_).encode("a").ids, Tokenizer::load(folder_ / "m.gguf").encode("a").ids);
}

// SmolLM2's GGUF beside the tokenizer.json of the model, whose pre-tokenizer leaves digits to the merges: the two
// differ only where several spaces stand before a number.
TEST(GgufTokenizerOfSmolLm2, EncodesTextAsItsTokenizerJsonDoes) {
  const char* const shared = std::getenv("OCTET_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set: no real model to test";
  const std::filesystem::path data = shared, folder = data / "models/smollm2-135m-instruct";
  const Tokenizer gguf = Tokenizer::load(folder / "SmolLM2-135M-Instruct.Q4_1.gguf"), json = Tokenizer::load(folder);
  EXPECT_EQ(gguf.bos_id(), json.bos_id());
  EXPECT_EQ(gguf.eos_id(), json.eos_id());
  EXPECT_EQ(gguf.vocab_size(), json.vocab_size());
  size_t lines = 0;
  std::ifstream text(data / "wikitext-2/test.txt");
  for (std::string line; lines < 2000 && std::getline(text, line); ++lines) {
    const Ids ids = gguf.encode(line).ids;
    ASSERT_EQ(ids, json.encode(line).ids) << line;
    ASSERT_EQ(gguf.decode(ids), line);
  }
  EXPECT_EQ(lines, 2000u);
  const std::string chat = "<|im_start|>user\nHi<|im_end|>\n";
  EXPECT_EQ(gguf.encode(chat).ids, json.encode(chat).ids);
}

}  // namespace
}  // namespace octet

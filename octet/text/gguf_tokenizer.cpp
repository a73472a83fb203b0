// SPDX-License-Identifier: Apache-2.0
#include "octet/text/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/gguf_names.h"
#include "octet/text/sentence_piece_tokenizer.h"
#include "octet/text/tokenizer.h"
#include "octet/text/tokenizer_json.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr std::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// How words come about before their bytes are written as characters.
enum class Words : uint8_t {
  kGpt2,    // GPT-2's pattern
  kDigits,  // every digit a word, then that
  kLlama3,
  kQwen2,
  kTekken,
  kApart,  // punctuation, GPT-2's pattern, numbers, three digits: what llama.cpp does where it is told nothing
};

struct PreTokenizerName {
  std::string_view name;
  Words words;
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

// The first of several with the same words is the one that is written.
constexpr std::array kPreTokenizers = {
    PreTokenizerName{"gpt-2", Words::kGpt2},
    PreTokenizerName{"gpt2", Words::kGpt2},
    PreTokenizerName{"phi-2", Words::kGpt2},
    PreTokenizerName{"jais", Words::kGpt2},
    PreTokenizerName{"olmo", Words::kGpt2, true},
    PreTokenizerName{"mpt", Words::kGpt2, true},
    PreTokenizerName{"smollm", Words::kDigits},
    PreTokenizerName{"starcoder", Words::kDigits},
    PreTokenizerName{"refact", Words::kDigits},
    PreTokenizerName{"command-r", Words::kDigits, true},
    PreTokenizerName{"llama-bpe", Words::kLlama3, false, true, true},
    PreTokenizerName{"llama3", Words::kLlama3, false, true, true},
    PreTokenizerName{"llama-v3", Words::kLlama3, false, true, true},
    PreTokenizerName{"smaug-bpe", Words::kLlama3},
    PreTokenizerName{"dbrx", Words::kLlama3},
    PreTokenizerName{"qwen2", Words::kQwen2, true},
    PreTokenizerName{"deepseek-r1-qwen", Words::kQwen2, true},
    PreTokenizerName{"tekken", Words::kTekken, false, true, true},
    PreTokenizerName{"default", Words::kApart},
};

json split_at(std::string_view pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

json byte_level(bool add_prefix_space, bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

json sequence(std::vector<json> steps) { return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}; }

json words_json(Words words, bool add_prefix_space) {
  switch (words) {
    case Words::kGpt2:
      return byte_level(add_prefix_space, true);
    case Words::kDigits:
      return sequence({{{"type", "Digits"}, {"individual_digits", true}}, byte_level(add_prefix_space, true)});
    case Words::kLlama3:
      return sequence({split_at(kLlama3Words), byte_level(add_prefix_space, false)});
    case Words::kQwen2:
      return sequence({split_at(kQwen2Words), byte_level(add_prefix_space, false)});
    case Words::kTekken:
      return sequence({split_at(kTekkenWords), byte_level(add_prefix_space, false)});
    case Words::kApart:
      break;
  }
  // Bytes come last: the three patterns are of characters.
  constexpr std::string_view kGpt2Words = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";
  return sequence({split_at(R"([\p{P}\$\+<=>\^~\|]+)"), split_at(kGpt2Words), split_at(R"(\p{N}+)"),
                   split_at("[0-9][0-9][0-9]"), byte_level(add_prefix_space, false)});
}

json normalizer_json(bool nfc) { return nfc ? json{{"type", "NFC"}} : json(nullptr); }

const json* member(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return !object.is_object() || found == object.end() || found->is_null() ? nullptr : &*found;
}

// The steps of a normalizer or pre-tokenizer, without what changes neither texts nor words.
std::vector<json> steps(const json* node) {
  if (node == nullptr || node->is_null()) return {};
  std::vector<json> all = {*node};
  for (const char* list : {"pretokenizers", "normalizers"}) {
    if (const json* inner = member(*node, list)) all.assign(inner->begin(), inner->end());
  }
  for (json& step : all) {
    if (step.is_object()) step.erase("trim_offsets");
  }
  return all;
}

// The tokens and their types, checked against each other.
struct TokenList {
  std::vector<std::string_view> texts;
  std::vector<GgufTokenType> types;  // of each

  explicit TokenList(const GgufFile& file) : texts(file.texts(gguf_keys::kTokens)) {
    const std::string source = file.path().string();
    if (texts.empty() || texts.size() > size_t{kMaxTokenId} + 1) {
      fail<FormatError>("{}: metadata key '{}' has {} tokens; 1 to {} are allowed", source, gguf_keys::kTokens,
                        texts.size(), kMaxTokenId + 1);
    }
    types.assign(texts.size(), GgufTokenType::kNormal);
    if (!file.has(gguf_keys::kTokenTypes)) return;
    const std::vector<int64_t> numbers = file.integers(gguf_keys::kTokenTypes);
    if (numbers.size() != texts.size()) {
      fail<FormatError>("{}: metadata key '{}' has {} entries for {} tokens", source, gguf_keys::kTokenTypes,
                        numbers.size(), texts.size());
    }
    for (size_t id = 0; id < numbers.size(); ++id) {
      if (numbers[id] < 1 || numbers[id] > 6) {
        fail<FormatError>("{}: metadata key '{}': token {} has the type {}; there are 1 to 6", source,
                          gguf_keys::kTokenTypes, id, numbers[id]);
      }
      types[id] = static_cast<GgufTokenType>(numbers[id]);
    }
  }

  bool is_added(size_t id) const {
    return types[id] == GgufTokenType::kControl || types[id] == GgufTokenType::kUserDefined;
  }
};

// Of SentencePiece, which does not look for these itself.
bool stands_in_texts(GgufTokenType type) { return type == GgufTokenType::kControl || type == GgufTokenType::kUnknown; }

// An id that the metadata name, which must be that of a token.
std::optional<int32_t> token_id(const GgufFile& file, std::string_view key, const TokenList& tokens) {
  if (!file.has(key)) return std::nullopt;
  // All ones stand for none.
  if (file.integer(key) == 0xFFFFFFFF) return std::nullopt;
  return static_cast<int32_t>(file.integer(key, {0, static_cast<int64_t>(tokens.texts.size()) - 1}));
}

}  // namespace

GgufTokenizerKind gguf_tokenizer_kind(const GgufFile& file) {
  if (!file.has(gguf_keys::kTokenizerModel)) {
    fail<FormatError>("{}: holds no tokenizer (metadata key '{}' is missing)", file.path().string(),
                      gguf_keys::kTokenizerModel);
  }
  const std::string_view model = file.text(gguf_keys::kTokenizerModel);
  if (model == "gpt2") return GgufTokenizerKind::kByteLevelBpe;
  if (model == "llama") return GgufTokenizerKind::kSentencePiece;
  fail<FormatError>("{}: the tokenizer {} is not supported; gpt2 and llama are", file.path().string(),
                    quote_name(model));
}

GgufPreTokenizer gguf_pre_tokenizer(std::string_view name, bool add_prefix_space, std::string_view source) {
  const auto known = std::ranges::find(kPreTokenizers, name, &PreTokenizerName::name);
  if (known == kPreTokenizers.end()) {
    std::vector<std::string_view> names;
    for (const PreTokenizerName& one : kPreTokenizers) names.push_back(one.name);
    fail<FormatError>("{}: the pre-tokenizer {} is not supported; {} are", source, quote_name(name),
                      fmt::join(names, ", "));
  }
  return {.normalizer = normalizer_json(known->nfc),
          .pre_tokenizer = words_json(known->words, add_prefix_space),
          .ignore_merges = known->ignore_merges,
          .add_bos = known->add_bos};
}

bool is_byte_level_bpe(const json& document) {
  const json* model = member(document, "model");
  const json* merges = model == nullptr ? nullptr : member(*model, "merges");
  if (merges == nullptr) return false;
  const std::vector<json> words = steps(member(document, "pre_tokenizer"));
  return !words.empty() && words.back().value("type", "") == "ByteLevel";
}

std::string gguf_pre_tokenizer_name(const json& document, std::string_view source) {
  const json* model = member(document, "model");
  const json* ignore = model == nullptr ? nullptr : member(*model, "ignore_merges");
  const bool ignore_merges = ignore != nullptr && *ignore == true;
  const std::vector<json> words = steps(member(document, "pre_tokenizer")),
                          normalizers = steps(member(document, "normalizer"));
  for (const PreTokenizerName& name : kPreTokenizers) {
    const json known_words = words_json(name.words, false), known_normalizer = normalizer_json(name.nfc);
    if (steps(&known_words) == words && steps(&known_normalizer) == normalizers && name.ignore_merges == ignore_merges)
      return std::string(name.name);
  }
  fail<FormatError>("{}: how it normalizes texts or splits them into words has no name in GGUF files that Octet knows",
                    source);
}

json gguf_byte_level_bpe(const GgufFile& file) {
  const std::string source = file.path().string();
  const TokenList tokens(file);
  const GgufPreTokenizer pre = gguf_pre_tokenizer(file.text(gguf_keys::kPreTokenizer, "default"),
                                                  file.flag(gguf_keys::kAddSpacePrefix, false), source);
  json vocabulary = json::object(), added = json::array();
  std::set<std::string_view> contents;
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    const std::string_view text = tokens.texts[id];
    if (!contents.insert(text).second) {
      fail<FormatError>("{}: metadata key '{}' has {} twice", source, gguf_keys::kTokens, quote_name(text));
    }
    if (!tokens.is_added(id)) {
      vocabulary[std::string(text)] = id;
      continue;
    }
    added.push_back({{"id", id},
                     {"content", text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", tokens.types[id] == GgufTokenType::kControl}});
  }
  json post_processor = byte_level(false, true);
  const auto frame = [&](std::string_view flag, bool otherwise, std::string_view key) -> json {
    const std::optional<int32_t> id = token_id(file, key, tokens);
    if (!file.flag(flag, otherwise) || !id) return nullptr;
    return {{"id", tokens.texts[static_cast<size_t>(*id)]}, {"ids", {*id}}};
  };
  const json bos = frame(gguf_keys::kAddBos, pre.add_bos, gguf_keys::kBosId),
             eos = frame(gguf_keys::kAddEos, false, gguf_keys::kEosId);
  if (!bos.is_null() || !eos.is_null()) {
    json special = json::object();
    const auto framed = [&](const char* name, int type_id) {
      json pieces = json::array();
      const auto add = [&](const json& token) {
        if (token.is_null()) return;
        pieces.push_back({{"SpecialToken", {{"id", token["id"]}, {"type_id", type_id}}}});
        special[token["id"].get<std::string>()] = {
            {"id", token["id"]}, {"ids", token["ids"]}, {"tokens", json::array({token["id"]})}};
      };
      add(bos);
      pieces.push_back({{"Sequence", {{"id", name}, {"type_id", type_id}}}});
      add(eos);
      return pieces;
    };
    const json single = framed("A", 0);
    json pair = single;
    for (const json& piece : framed("B", 1)) pair.push_back(piece);
    post_processor = {
        {"type", "Sequence"},
        {"processors",
         {post_processor,
          {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}}}}};
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", pre.normalizer},
          {"pre_tokenizer", pre.pre_tokenizer},
          {"post_processor", std::move(post_processor)},
          {"decoder", byte_level(true, true)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", ""},
            {"end_of_word_suffix", ""},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", pre.ignore_merges},
            {"vocab", std::move(vocabulary)},
            {"merges", file.texts(gguf_keys::kMerges)}}}};
}

SentencePieceFile gguf_sentence_piece(const GgufFile& file) {
  const TokenList tokens(file);
  const std::vector<float> scores = file.numbers(gguf_keys::kScores);
  if (scores.size() != tokens.texts.size()) {
    fail<FormatError>("{}: metadata key '{}' has {} entries for {} tokens", file.path().string(), gguf_keys::kScores,
                      scores.size(), tokens.texts.size());
  }
  SentencePieceFile out;
  out.algorithm = SentencePieceFile::Algorithm::kBpe;
  out.add_dummy_prefix = file.flag(gguf_keys::kAddSpacePrefix, true);
  out.remove_extra_whitespaces = file.flag("tokenizer.ggml.remove_extra_whitespaces", false);
  for (size_t id = 0; id < scores.size(); ++id) {
    out.pieces.push_back({.text = std::string(tokens.texts[id]),
                          .score = scores[id],
                          .type = static_cast<SentencePieceFile::Type>(tokens.types[id])});
    out.byte_fallback = out.byte_fallback || tokens.types[id] == GgufTokenType::kByte;
  }
  const auto name_of = [&](std::string_view key, std::string& piece) {
    if (const auto id = token_id(file, key, tokens)) piece = tokens.texts[static_cast<size_t>(*id)];
  };
  name_of(gguf_keys::kBosId, out.bos_piece);
  name_of(gguf_keys::kEosId, out.eos_piece);
  check_pieces(out, file.path().string());
  return out;
}

std::map<std::string, std::string> gguf_tokenizer_files(const GgufFile& file) {
  const TokenList tokens(file);
  std::map<std::string, std::string> files;
  const auto dump = [&](const json& document) {
    try {
      return json_text(document, 2) + "\n";
    } catch (const json::exception&) {
      fail<FormatError>("{}: a token or the chat template is not UTF-8", file.path().string());
    }
  };
  json config = json::object();
  if (gguf_tokenizer_kind(file) == GgufTokenizerKind::kByteLevelBpe) {
    files["tokenizer.json"] = dump(gguf_byte_level_bpe(file));
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
  } else {
    files["tokenizer.model"] = write_sentence_piece_file(gguf_sentence_piece(file));
    config["tokenizer_class"] = "LlamaTokenizer";
    config["add_bos_token"] = file.flag(gguf_keys::kAddBos, true);
    config["add_eos_token"] = file.flag(gguf_keys::kAddEos, false);
    for (size_t id = 0; id < tokens.texts.size(); ++id) {
      if (!stands_in_texts(tokens.types[id])) continue;
      config["added_tokens_decoder"][std::to_string(id)] = {{"content", tokens.texts[id]}, {"special", true}};
    }
  }
  for (const auto& [key, name] : {std::pair(gguf_keys::kBosId, "bos_token"), std::pair(gguf_keys::kEosId, "eos_token"),
                                  std::pair(gguf_keys::kUnknownId, "unk_token")}) {
    if (const auto id = token_id(file, key, tokens)) config[name] = tokens.texts[static_cast<size_t>(*id)];
  }
  if (file.has(gguf_keys::kChatTemplate)) config["chat_template"] = file.text(gguf_keys::kChatTemplate);
  files["tokenizer_config.json"] = dump(config);
  return files;
}

Tokenizer Tokenizer::from_gguf(const GgufFile& file) {
  const std::string source = file.path().string();
  const TokenList tokens(file);
  const std::optional<int32_t> bos = token_id(file, gguf_keys::kBosId, tokens),
                               eos = token_id(file, gguf_keys::kEosId, tokens);
  TokenizerParts parts;
  switch (gguf_tokenizer_kind(file)) {
    case GgufTokenizerKind::kByteLevelBpe:
      parts = read_tokenizer_json(gguf_byte_level_bpe(file), source);
      break;
    case GgufTokenizerKind::kSentencePiece: {
      parts = sentence_piece_parts(gguf_sentence_piece(file), source);
      // What a chat's template writes out must become the token that it names.
      std::vector<AddedToken> control;
      for (size_t id = 0; id < tokens.texts.size(); ++id) {
        if (!stands_in_texts(tokens.types[id])) continue;
        control.push_back({.id = static_cast<int32_t>(id), .content = std::string(tokens.texts[id]), .special = true});
      }
      parts.added_tokens = AddedTokens(std::move(control), parts.normalizer);
      parts.post_processor = PostProcessor::frame(file.flag(gguf_keys::kAddBos, true) ? bos : std::nullopt,
                                                  file.flag(gguf_keys::kAddEos, false) ? eos : std::nullopt);
      break;
    }
  }
  parts.bos_id = bos;
  parts.eos_id = eos;
  return Tokenizer(std::move(parts));
}

}  // namespace octet

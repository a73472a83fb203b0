// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a Hugging Face directory as a GGUF file's metadata.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/io/gguf_names.h"
#include "octet/text/gguf_tokenizer.h"
#include "octet/text/tokenizer.h"
#include "octet/text/tokenizer_config.h"
#include "octet/text/tokenizer_json.h"

namespace octet {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kMaxFileBytes = int64_t{64} << 20;

// Tokens by id, and what becomes of ids that no token has.
class TokenTable {
 public:
  TokenTable(int64_t vocabulary, std::string source) : vocabulary_(vocabulary), source_(std::move(source)) {}

  void add(int64_t id, const std::string& text, GgufTokenType type) {
    if (id >= vocabulary_) {
      fail<FormatError>("{}: the token {} has the id {}, but the model's vocabulary has {}", source_, quote_name(text),
                        id, vocabulary_);
    }
    tokens_.insert_or_assign(id, std::pair(text, type));
  }

  void write(GgufWriter& writer) const {
    std::vector<std::string> texts;
    std::vector<int32_t> types;
    for (int64_t id = 0; id < vocabulary_; ++id) {
      const auto token = tokens_.find(id);
      const bool known = token != tokens_.end();
      texts.push_back(known ? token->second.first : fmt::format("[PAD{}]", id));
      types.push_back(static_cast<int32_t>(known ? token->second.second : GgufTokenType::kUnused));
    }
    writer.add_texts(gguf_keys::kTokens, texts);
    writer.add_integers(gguf_keys::kTokenTypes, types);
  }

 private:
  int64_t vocabulary_;
  std::string source_;
  std::map<int64_t, std::pair<std::string, GgufTokenType>> tokens_;
};

void write_byte_level_bpe(GgufWriter& writer, const json& document, const std::string& source, int64_t vocabulary) {
  const JsonNode root(document, source);
  const JsonNode model = root.at("model");
  writer.add_text(gguf_keys::kTokenizerModel, "gpt2");
  writer.add_text(gguf_keys::kPreTokenizer, gguf_pre_tokenizer_name(document, source));
  TokenTable tokens(vocabulary, source);
  for (const auto& [token, id] : model.at("vocab").members()) {
    tokens.add(id.get<int64_t>(), token, GgufTokenType::kNormal);
  }
  if (const auto added = root.find("added_tokens")) {
    for (const JsonNode& token : added->elements()) {
      tokens.add(token.at("id").integer(0, kMaxTokenId), token.at("content").string(),
                 token.at("special").boolean() ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
    }
  }
  tokens.write(writer);
  std::vector<std::string> merges;
  for (const JsonNode& merge : model.at("merges").elements()) {
    merges.push_back(merge.value().is_string()
                         ? merge.string()
                         : merge.value()[0].get<std::string>() + " " + merge.value()[1].get<std::string>());
  }
  writer.add_texts(gguf_keys::kMerges, merges);
}

void write_sentence_piece(GgufWriter& writer, const SentencePieceFile& file, const JsonNode& config,
                          const std::string& source, int64_t vocabulary) {
  if (file.algorithm != SentencePieceFile::Algorithm::kBpe || file.treat_whitespace_as_suffix ||
      !file.charsmap.empty()) {
    fail<FormatError>(
        "{}: a Unigram model, one with normalization rules, or one whose pieces end in spaces has no place in a GGUF "
        "file",
        source);
  }
  writer.add_text(gguf_keys::kTokenizerModel, "llama");
  writer.add_text(gguf_keys::kPreTokenizer, "default");
  TokenTable tokens(vocabulary, source);
  std::vector<float> scores;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePieceFile::Piece& piece = file.pieces[id];
    tokens.add(static_cast<int64_t>(id), piece.text, static_cast<GgufTokenType>(piece.type));
    scores.push_back(piece.score);
  }
  if (const auto decoder = config.find("added_tokens_decoder")) {
    for (const auto& [key, value] : decoder->members()) {
      const AddedToken token = read_special_token(decoder->at(key));
      const auto id = static_cast<size_t>(std::stoll(key));
      if (id >= file.pieces.size()) {
        tokens.add(static_cast<int64_t>(id), token.content,
                   token.special ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
      }
    }
  }
  tokens.write(writer);
  // What is no piece never comes of merging.
  scores.resize(static_cast<size_t>(vocabulary), -1000.0f);
  writer.add_numbers(gguf_keys::kScores, scores);
  writer.add_flag(gguf_keys::kAddSpacePrefix, file.add_dummy_prefix);
  writer.add_flag("tokenizer.ggml.remove_extra_whitespaces", file.remove_extra_whitespaces);
}

// Whether a text gets a first and a last token, as the tokenizer does it.
void write_frame(GgufWriter& writer, const Tokenizer& tokenizer, const Config& config, const std::string& source) {
  const auto named = [&](std::string_view key, std::optional<int32_t> id) {
    if (id || !config.has(key) || !config.json().at(std::string(key)).is_number_integer()) return id;
    return std::optional(static_cast<int32_t>(config.integer(key, {0, kMaxTokenId})));
  };
  const std::optional<int32_t> bos = named("bos_token_id", tokenizer.bos_id()),
                               eos = named("eos_token_id", tokenizer.eos_id());
  if (bos) writer.add_integer(gguf_keys::kBosId, static_cast<uint32_t>(*bos));
  if (eos) writer.add_integer(gguf_keys::kEosId, static_cast<uint32_t>(*eos));
  std::vector<int32_t> frame = tokenizer.encode("").ids;
  const bool adds_bos = bos && !frame.empty() && frame.front() == *bos;
  if (adds_bos) frame.erase(frame.begin());
  const bool adds_eos = eos && !frame.empty() && frame.back() == *eos;
  if (adds_eos) frame.pop_back();
  if (!frame.empty()) {
    fail<FormatError>("{}: adds tokens to a text that are not its bos_token and eos_token; a GGUF file cannot say that",
                      source);
  }
  writer.add_flag(gguf_keys::kAddBos, adds_bos);
  writer.add_flag(gguf_keys::kAddEos, adds_eos);
}

}  // namespace

void write_gguf_tokenizer(GgufWriter& writer, const fs::path& folder, const Config& config, int64_t vocabulary) {
  const auto read = [&](const char* name) -> std::optional<std::string> {
    std::error_code ignored;
    if (!fs::exists(folder / name, ignored)) return std::nullopt;
    return read_text_file(folder / name, kMaxFileBytes);
  };
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const std::string settings_source = (folder / "tokenizer_config.json").string();
  const json settings = parse_config(read("tokenizer_config.json").value_or(""), settings_source);
  const JsonNode settings_root(settings, settings_source);

  std::optional<json> document;
  std::string source = (folder / "tokenizer.json").string();
  if (const auto text = read("tokenizer.json")) document = parse_json(*text, source);
  if (document && is_byte_level_bpe(*document)) {
    write_byte_level_bpe(writer, *document, source, vocabulary);
  } else if (const auto model = read("tokenizer.model")) {
    source = (folder / "tokenizer.model").string();
    write_sentence_piece(writer, read_sentence_piece_file(*model, source), settings_root, source, vocabulary);
  } else {
    fail<FormatError>(
        "{}: a GGUF file takes a byte-level BPE from tokenizer.json, or a SentencePiece BPE from tokenizer.model, and "
        "neither is there",
        folder.string());
  }
  write_frame(writer, tokenizer, config, source);
  const auto in_settings = settings_root.find("chat_template");
  if (in_settings && in_settings->value().is_string()) {
    writer.add_text(gguf_keys::kChatTemplate, in_settings->string());
  } else if (const auto text = read("chat_template.jinja")) {
    writer.add_text(gguf_keys::kChatTemplate, *text);
  }
}

}  // namespace octet

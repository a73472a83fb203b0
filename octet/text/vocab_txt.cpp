// SPDX-License-Identifier: Apache-2.0
// Reads BERT's vocab.txt.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/text/json_node.h"
#include "octet/text/tokenizer.h"
#include "octet/text/tokenizer_config.h"
#include "octet/text/unicode.h"
#include "octet/text/word_piece.h"

namespace octet {
namespace {

/// The lines of a vocabulary, ended by \n, \r\n or \r as Python's text files are. The line's number is the token's id.
std::vector<std::pair<std::string, int32_t>> read_lines(std::string_view text, std::string_view source) {
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find_first_of("\r\n", begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    const auto id = static_cast<int64_t>(tokens.size());
    if (id > kMaxTokenId) fail<FormatError>("{}: more than {} lines", source, kMaxTokenId);
    for (size_t at = 0; at < line.size();) {
      const size_t character = at;
      if (unicode::decode_utf8(line, at) == unicode::kReplacement &&
          line.substr(character, at - character) != "\uFFFD") {
        fail<FormatError>("{}: line {} is not UTF-8", source, id + 1);
      }
    }
    tokens.emplace_back(line, static_cast<int32_t>(id));
    begin = text.substr(end).starts_with("\r\n") ? end + 2 : end + 1;
  }
  if (tokens.empty()) fail<FormatError>("{}: the vocabulary is empty", source);
  return tokens;
}

}  // namespace

Tokenizer Tokenizer::from_vocab_txt(std::string_view vocabulary, std::string_view vocabulary_source,
                                    std::string_view config_json, std::string_view config_source) {
  const nlohmann::json document = parse_config(config_json, config_source);
  const JsonNode config(document, config_source);
  if (!read_flag(config, "do_basic_tokenize", true)) {
    config.at("do_basic_tokenize").error("is false, which is not supported: Octet splits words as BERT does");
  }
  if (const auto never = config.find("never_split"); never && !never->elements().empty()) {
    never->error("is not supported; list such tokens in added_tokens_decoder");
  }

  Vocabulary tokens(read_lines(vocabulary, vocabulary_source));
  std::map<std::string, AddedToken, std::less<>> added;
  const auto add = [&](AddedToken token) {
    const std::optional<int32_t> id = tokens.token_to_id(token.content);
    if (!id) return false;
    token.id = *id;
    added.insert_or_assign(token.content, std::move(token));
    return true;
  };
  if (const auto decoder = config.find("added_tokens_decoder")) {
    for (const auto& [key, value] : decoder->members()) {
      const JsonNode node = decoder->at(key);
      AddedToken token = read_special_token(node);
      // A key that is no number, or not this token's, cannot equal the text of its id.
      const auto id = tokens.token_to_id(token.content);
      if (!id || std::to_string(*id) != key) {
        node.error("is '{}', which {} does not have at that place", shorten(token.content), vocabulary_source);
      }
      add(std::move(token));
    }
  }
  const auto special = [&](std::string_view key, std::string_view otherwise) {
    AddedToken token;
    token.content = otherwise;
    token.special = true;
    if (const auto node = config.find(key)) token = read_special_token(*node);
    std::string content = token.content;
    if (!added.contains(content)) add(std::move(token));
    return content;
  };
  const auto required = [&](std::string_view key, std::string_view otherwise) {
    const std::string content = special(key, otherwise);
    const auto id = tokens.token_to_id(content);
    if (!id) fail<FormatError>("{}: no line has the {} '{}'", vocabulary_source, key, shorten(content));
    return *id;
  };
  const int32_t unknown = required("unk_token", "[UNK]");
  const int32_t cls = required("cls_token", "[CLS]"), sep = required("sep_token", "[SEP]");
  // Inputs need neither of these, and a vocabulary without them is as good.
  special("pad_token", "[PAD]");
  const std::string mask = special("mask_token", "[MASK]");

  TokenizerParts parts;
  parts.sep_id = sep;
  parts.mask_id = tokens.token_to_id(mask);
  BertNormalizer bert;
  bert.lowercase = read_flag(config, "do_lower_case", true);
  bert.handle_chinese_chars = read_flag(config, "tokenize_chinese_chars", true);
  bert.strip_accents = read_flag(config, "strip_accents", bert.lowercase);
  parts.normalizer = Normalizer({bert});
  parts.pre_tokenizer = PreTokenizer({CharacterSplit::kBert});
  parts.model = std::make_shared<WordPiece>(std::move(tokens), unknown, "##", 100);
  parts.post_processor = PostProcessor::bert(cls, sep);
  parts.decoder.steps = {WordPieceDecoder{"##", true}};
  std::vector<AddedToken> list;
  for (auto& [content, token] : added) list.push_back(std::move(token));
  parts.added_tokens = AddedTokens(std::move(list), parts.normalizer);
  parts.model_max_length = read_model_max_length(config_json, config_source);
  return Tokenizer(std::move(parts));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
// Reads the `tokenizer.json` of Hugging Face's `tokenizers` library, version "1.0" of the format.
#include "octet/text/tokenizer_json.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "octet/base/json.h"
#include "octet/text/tokenizer.h"

namespace octet {
namespace {

std::vector<AddedToken> read_added_tokens(const JsonNode& node, const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  std::set<int32_t> ids;
  std::set<std::string, std::less<>> contents;
  for (const JsonNode& element : node.elements()) {
    AddedToken token;
    token.id = static_cast<int32_t>(element.at("id").integer(0, kMaxTokenId));
    token.content = element.at("content").string();
    token.special = element.at("special").boolean();
    token.single_word = element.at("single_word").boolean();
    token.lstrip = element.at("lstrip").boolean();
    token.rstrip = element.at("rstrip").boolean();
    token.normalized = element.at("normalized").boolean();
    // The library drops tokens without text.
    if (token.content.empty()) continue;
    const auto known_id = vocabulary.token_to_id(token.content);
    const auto known_token = vocabulary.id_to_token(token.id);
    if (known_id && *known_id != token.id) {
      element.error("is '{}' with the id {}, but in the vocabulary it has {}", shorten(token.content), token.id,
                    *known_id);
    }
    if (known_token && *known_token != token.content) {
      element.error("is '{}' with the id {}, which is that of '{}'", shorten(token.content), token.id,
                    shorten(*known_token));
    }
    if (!contents.insert(token.content).second) element.error("is '{}', which is added twice", shorten(token.content));
    if (!ids.insert(token.id).second) element.error("has the id {} of another added token", token.id);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

using IdCheck = std::pair<const Vocabulary*, const AddedTokens*>;

void require_known_id(const JsonNode& node, int32_t id, const IdCheck& known) {
  if (!known.first->id_to_token(id) && !known.second->id_to_token(id)) node.error("is {}, which no token has", id);
}

/// ["[SEP]", 102]
int32_t read_token_and_id(const JsonNode& node, const IdCheck& known) {
  const std::vector<JsonNode> elements = node.elements();
  if (elements.size() != 2) node.error("must be a token and its id");
  const auto id = static_cast<int32_t>(elements[1].integer(0, kMaxTokenId));
  require_known_id(elements[1], id, known);
  return id;
}

std::vector<TemplatePiece> read_template(const JsonNode& node, const JsonNode& special_tokens, bool pair,
                                         const IdCheck& known) {
  // Each piece may add many special tokens, so a short file could ask for a long encoding; real ones add three.
  constexpr size_t kMostSpecialTokens = 64;
  std::vector<TemplatePiece> pieces;
  size_t special_count = 0;
  bool has_first = false;
  bool has_second = false;
  for (const JsonNode& element : node.elements()) {
    TemplatePiece piece;
    if (const auto sequence = element.find("Sequence")) {
      const JsonNode id = sequence->at("id");
      if (id.string() == "A") {
        piece.kind = TemplatePiece::Kind::kFirst;
      } else if (id.string() == "B" && pair) {
        piece.kind = TemplatePiece::Kind::kSecond;
      } else {
        id.unsupported(pair ? "A and B" : "A in a template for one text");
      }
      bool& seen = piece.kind == TemplatePiece::Kind::kFirst ? has_first : has_second;
      if (seen) id.error("'{}' stands twice in the template", id.string());
      seen = true;
      piece.type_id = static_cast<int32_t>(sequence->at("type_id").integer(0, kMaxTokenId));
    } else {
      const JsonNode token = element.at("SpecialToken");
      piece.kind = TemplatePiece::Kind::kSpecial;
      piece.type_id = static_cast<int32_t>(token.at("type_id").integer(0, kMaxTokenId));
      const std::string& name = token.at("id").string();
      const auto special = special_tokens.find(name);
      if (!special) token.error("is '{}', which special_tokens does not have", shorten(name));
      for (const JsonNode& id : special->at("ids").elements()) {
        piece.ids.push_back(static_cast<int32_t>(id.integer(0, kMaxTokenId)));
        require_known_id(id, piece.ids.back(), known);
        if (++special_count > kMostSpecialTokens) node.error("adds more than {} special tokens", kMostSpecialTokens);
      }
    }
    pieces.push_back(std::move(piece));
  }
  if (!has_first || (pair && !has_second)) node.error("does not use every text");
  return pieces;
}

PostProcessor::TrimOffsets read_trim_offsets(const JsonNode& node) { return {node.at("add_prefix_space").boolean()}; }

PostProcessor read_post_processor(const JsonNode& node, const IdCheck& known) {
  const std::string& type = node.at("type").string();
  if (type == "BertProcessing") {
    return PostProcessor::bert(read_token_and_id(node.at("cls"), known), read_token_and_id(node.at("sep"), known));
  }
  if (type == "RobertaProcessing") {
    const int32_t cls = read_token_and_id(node.at("cls"), known), sep = read_token_and_id(node.at("sep"), known);
    PostProcessor roberta = PostProcessor::roberta(cls, sep);
    if (node.at("trim_offsets").boolean()) roberta.trim_offsets = read_trim_offsets(node);
    return roberta;
  }
  if (type == "ByteLevel") {
    PostProcessor byte_level;
    if (node.at("trim_offsets").boolean()) byte_level.trim_offsets = read_trim_offsets(node);
    return byte_level;
  }
  if (type == "TemplateProcessing") {
    const JsonNode special_tokens = node.at("special_tokens");
    return {read_template(node.at("single"), special_tokens, false, known),
            read_template(node.at("pair"), special_tokens, true, known), std::nullopt};
  }
  node.at("type").unsupported(
      "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel and a Sequence of them");
}

/// One, or a Sequence of them, of which one at most adds tokens.
PostProcessor read_post_processors(const JsonNode& node, const IdCheck& known) {
  if (node.at("type").string() != "Sequence") return read_post_processor(node, known);
  PostProcessor result;
  bool adds_tokens = false;
  for (const JsonNode& element : node.at("processors").elements()) {
    PostProcessor one = read_post_processor(element, known);
    if (one.trim_offsets) result.trim_offsets = one.trim_offsets;
    if (element.at("type").string() == "ByteLevel") continue;
    if (adds_tokens) element.error("is the second of its sequence that adds tokens; Octet reads one");
    adds_tokens = true;
    result.single = std::move(one.single);
    result.pair = std::move(one.pair);
  }
  return result;
}

constexpr int64_t kMaxLength = int64_t{1} << 62;

Truncation::Direction read_direction(const JsonNode& node) {
  const auto direction = node.find("direction");
  if (!direction || direction->string() == "Right") return Truncation::Direction::kRight;
  if (direction->string() != "Left") direction->unsupported("Left and Right");
  return Truncation::Direction::kLeft;
}

Truncation read_truncation(const JsonNode& node, const PostProcessor& post_processor) {
  Truncation truncation;
  truncation.direction = read_direction(node);
  truncation.max_length = node.at("max_length").integer(0, kMaxLength);
  truncation.stride = node.at("stride").integer(0, kMaxLength);
  const JsonNode strategy = node.at("strategy");
  if (strategy.string() == "OnlyFirst") {
    truncation.strategy = Truncation::Strategy::kOnlyFirst;
  } else if (strategy.string() == "OnlySecond") {
    truncation.strategy = Truncation::Strategy::kOnlySecond;
  } else if (strategy.string() != "LongestFirst") {
    strategy.unsupported("LongestFirst, OnlyFirst and OnlySecond");
  }
  const int64_t special = special_token_count(post_processor.single);
  if (truncation.max_length - special < truncation.stride) {
    node.error("has max_length {} and stride {}, with {} special tokens; no window could be filled",
               truncation.max_length, truncation.stride, special);
  }
  return truncation;
}

Padding read_padding(const JsonNode& node) {
  Padding padding;
  const JsonNode strategy = node.at("strategy");
  if (strategy.value().is_object()) {
    padding.fixed_length = strategy.at("Fixed").integer(0, kMaxLength);
  } else if (strategy.string() != "BatchLongest") {
    strategy.unsupported("BatchLongest and Fixed");
  }
  padding.side = read_direction(node);
  if (const auto multiple = node.find("pad_to_multiple_of")) padding.multiple_of = multiple->integer(0, kMaxLength);
  padding.id = static_cast<int32_t>(node.at("pad_id").integer(0, kMaxTokenId));
  padding.type_id = static_cast<int32_t>(node.at("pad_type_id").integer(0, kMaxTokenId));
  padding.token = node.at("pad_token").string();
  return padding;
}

}  // namespace

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view source) {
  return Tokenizer(read_tokenizer_json(parse_json(json, std::string(source)), source));
}

TokenizerParts read_tokenizer_json(const nlohmann::json& document, std::string_view source) {
  const JsonNode root(document, source);
  if (const auto version = root.find("version"); version && version->string() != "1.0") version->unsupported("1.0");

  TokenizerParts parts;
  parts.model = read_model(root.at("model"));
  if (const auto node = root.find("normalizer")) parts.normalizer = read_normalizer(*node);
  if (const auto node = root.find("pre_tokenizer")) parts.pre_tokenizer = read_pre_tokenizer(*node);
  if (const auto added = root.find("added_tokens")) {
    parts.added_tokens = AddedTokens(read_added_tokens(*added, parts.model->vocabulary()), parts.normalizer);
  }
  const IdCheck known{&parts.model->vocabulary(), &parts.added_tokens};
  if (const auto node = root.find("post_processor")) parts.post_processor = read_post_processors(*node, known);
  if (const auto node = root.find("decoder")) parts.decoder = read_decoder(*node);
  if (const auto node = root.find("truncation")) parts.truncation = read_truncation(*node, parts.post_processor);
  if (const auto node = root.find("padding")) parts.padding = read_padding(*node);
  return parts;
}

}  // namespace octet

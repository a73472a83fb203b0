// SPDX-License-Identifier: Apache-2.0
// The model of a tokenizer.json.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "octet/base/json.h"
#include "octet/text/bpe.h"
#include "octet/text/tokenizer_json.h"
#include "octet/text/word_piece.h"

namespace octet {
namespace {

std::shared_ptr<const TokenModel> read_word_piece(const JsonNode& node) {
  Vocabulary vocabulary = read_vocabulary(node.at("vocab"));
  const JsonNode unknown_token = node.at("unk_token");
  const auto unknown = vocabulary.token_to_id(unknown_token.string());
  if (!unknown) unknown_token.error("is '{}', which is not in the vocabulary", shorten(unknown_token.string()));
  const std::string& prefix = node.at("continuing_subword_prefix").string();
  const int64_t max_chars = node.at("max_input_chars_per_word").integer(0, WordPiece::kMaxCharsLimit);
  return std::make_shared<WordPiece>(std::move(vocabulary), *unknown, prefix, max_chars);
}

/// The two tokens of a merge: "a b", or ["a", "b"].
std::pair<std::string_view, std::string_view> read_pair(const JsonNode& merges, size_t place) {
  const nlohmann::json& merge = merges.value()[place];
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  merges.error("has at [{}] what is no pair of tokens", place);
}

std::shared_ptr<const TokenModel> read_bpe(const JsonNode& node) {
  const auto flag = [&](std::string_view key) {
    const auto member = node.find(key);
    return member && member->boolean();
  };
  const auto text = [&](std::string_view key) {
    const auto member = node.find(key);
    return member ? member->string() : std::string();
  };
  if (const auto dropout = node.find("dropout")) {
    if (!dropout->value().is_number()) dropout->error("must be a number");
    if (dropout->value().get<double>() != 0) dropout->error("is not 0: such tokens are random. Remove it.");
  }
  Vocabulary vocabulary = read_vocabulary(node.at("vocab"));
  BpeOptions options;
  options.fuse_unknown = flag("fuse_unk");
  options.byte_fallback = flag("byte_fallback");
  options.ignore_merges = flag("ignore_merges");
  options.continuing_prefix = text("continuing_subword_prefix");
  options.end_suffix = text("end_of_word_suffix");
  if (const auto unknown = node.find("unk_token")) {
    options.unknown = vocabulary.token_to_id(unknown->string());
    if (!options.unknown) unknown->error("is '{}', which is not in the vocabulary", shorten(unknown->string()));
  }
  const JsonNode list = node.at("merges");
  if (!list.value().is_array()) list.error("must be an array");
  std::vector<BpeMerge> merges;
  merges.reserve(list.value().size());
  std::string missing;
  for (size_t place = 0; place < list.value().size(); ++place) {
    const auto [left, right] = read_pair(list, place);
    const auto merge = find_merge(vocabulary, left, right, options.continuing_prefix.size(), missing);
    if (!merge) {
      list.error("has at [{}] '{}' and '{}', but '{}' is not in the vocabulary", place, shorten(left), shorten(right),
                 shorten(missing));
    }
    merges.push_back(*merge);
  }
  return std::make_shared<Bpe>(std::move(vocabulary), merges, std::move(options));
}

}  // namespace

Vocabulary read_vocabulary(const JsonNode& node) {
  std::vector<std::pair<std::string, int32_t>> tokens;
  tokens.reserve(node.members().size());
  for (const auto& [token, id] : node.members()) {
    if (!id.is_number_integer() || id.is_number_float() ||
        (id.is_number_unsigned() ? id.get<uint64_t>() > uint64_t{kMaxTokenId} : true)) {
      node.error("gives '{}' the id {}; ids are integers in [0, {}]", shorten(token), shorten(json_text(id)),
                 kMaxTokenId);
    }
    tokens.emplace_back(token, id.get<int32_t>());
  }
  if (tokens.empty()) node.error("is empty");
  Vocabulary vocabulary(std::move(tokens));
  const auto& by_id = vocabulary.tokens();
  const auto twin =
      std::adjacent_find(by_id.begin(), by_id.end(), [](const auto& a, const auto& b) { return a.second == b.second; });
  if (twin != by_id.end()) {
    node.error("gives both '{}' and '{}' the id {}", shorten(twin->first), shorten((twin + 1)->first), twin->second);
  }
  return vocabulary;
}

std::shared_ptr<const TokenModel> read_model(const JsonNode& node) {
  // The first files of the format had no type. Each model has a member that no other has.
  const auto type = node.find("type");
  if (type ? type->string() == "WordPiece" : node.find("max_input_chars_per_word").has_value()) {
    return read_word_piece(node);
  }
  if (type ? type->string() == "BPE" : node.find("merges").has_value()) return read_bpe(node);
  if (type) type->unsupported("WordPiece and BPE");
  node.error("has no 'type'");
}

}  // namespace octet

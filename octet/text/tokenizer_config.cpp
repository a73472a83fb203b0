// SPDX-License-Identifier: Apache-2.0
#include "octet/text/tokenizer_config.h"

#include <functional>
#include <set>
#include <utility>

#include "octet/base/json.h"

namespace octet {

nlohmann::json parse_config(std::string_view text, std::string_view source) {
  return text.empty() ? nlohmann::json::object() : parse_json(text, std::string(source));
}

bool read_flag(const JsonNode& config, std::string_view key, bool otherwise) {
  const auto node = config.find(key);
  return node ? node->boolean() : otherwise;
}

AddedToken read_special_token(const JsonNode& node) {
  AddedToken token;
  token.special = true;
  if (node.value().is_string()) {
    token.content = node.string();
    return token;
  }
  token.content = node.at("content").string();
  token.single_word = read_flag(node, "single_word", false);
  token.lstrip = read_flag(node, "lstrip", false);
  token.rstrip = read_flag(node, "rstrip", false);
  token.normalized = read_flag(node, "normalized", false);
  token.special = read_flag(node, "special", true);
  return token;
}

std::vector<AddedToken> read_added_tokens_decoder(const JsonNode& config, const Vocabulary& vocabulary,
                                                  std::string_view source) {
  std::vector<AddedToken> tokens;
  const auto decoder = config.find("added_tokens_decoder");
  if (!decoder) return tokens;
  std::set<int32_t> ids;
  std::set<std::string, std::less<>> contents;
  for (const auto& [key, value] : decoder->members()) {
    const JsonNode node = decoder->at(key);
    AddedToken token = read_special_token(node);
    // The largest id has eight digits.
    if (key.empty() || key.size() > 8 || key.find_first_not_of("0123456789") != std::string::npos ||
        std::stol(key) > kMaxTokenId) {
      node.error("is no id of a token; ids are integers in [0, {}]", kMaxTokenId);
    }
    token.id = static_cast<int32_t>(std::stol(key));
    const auto known = vocabulary.token_to_id(token.content);
    if (known ? *known != token.id : vocabulary.id_to_token(token.id).has_value()) {
      node.error("is '{}', which {} does not have at that place", shorten(token.content), source);
    }
    if (token.content.empty()) continue;
    if (!ids.insert(token.id).second || !contents.insert(token.content).second) {
      node.error("is '{}', which is added twice", shorten(token.content));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

std::optional<std::string> read_token_name(std::string_view config_json, std::string_view source,
                                           std::string_view key) {
  const nlohmann::json config = parse_config(config_json, source);
  const auto node = JsonNode(config, source).find(key);
  return node ? std::optional(read_special_token(*node).content) : std::nullopt;
}

std::optional<int64_t> read_model_max_length(std::string_view config_json, std::string_view source) {
  const nlohmann::json config = parse_config(config_json, source);
  const auto node = JsonNode(config, source).find("model_max_length");
  if (!node) return std::nullopt;
  if (!node->value().is_number()) node->error("must be a number");
  constexpr int64_t kNoLimit = int64_t{1} << 31;
  if (node->value().is_number_float() || node->value().get<double>() >= static_cast<double>(kNoLimit))
    return std::nullopt;
  return node->integer(1, kNoLimit);
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "octet/text/added_tokens.h"
#include "octet/text/json_node.h"

/// What Octet takes from a `tokenizer_config.json` or a `special_tokens_map.json`. A text that is empty has nothing.
namespace octet {

nlohmann::json parse_config(std::string_view text, std::string_view source);

/// A key that is true or false; `otherwise` where it is absent.
bool read_flag(const JsonNode& config, std::string_view key, bool otherwise);

/// A special token: its text, or an object that says how it is matched. The id is not set.
AddedToken read_special_token(const JsonNode& node);

/// The tokens of `added_tokens_decoder`. Throws FormatError where one contradicts the vocabulary (of `source`) or
/// another.
std::vector<AddedToken> read_added_tokens_decoder(const JsonNode& config, const Vocabulary& vocabulary,
                                                  std::string_view source);

/// The text of a key's token ("eos_token"); none where it is absent or null.
std::optional<std::string> read_token_name(std::string_view config_json, std::string_view source, std::string_view key);

/// `model_max_length`. Libraries write 10^30 for "no limit", which gives none.
std::optional<int64_t> read_model_max_length(std::string_view config_json, std::string_view source);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace octet {

/// `model_max_length` of a `tokenizer_config.json` (empty text: none). Libraries write 10^30 for "no limit", which
/// gives none.
std::optional<int64_t> read_model_max_length(std::string_view config_json, std::string_view source);

}  // namespace octet

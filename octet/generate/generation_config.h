// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "octet/io/checkpoint.h"

namespace octet {

/// The tokens that end a text: `eos_token_id` (a number or a list) of the checkpoint's generation_config.json, or else
/// of its config.json, or else `otherwise`, the tokenizer's. Empty where none of them names one. Throws FormatError for
/// a value that is no token id.
std::vector<int32_t> read_eos_ids(const Checkpoint& checkpoint, std::optional<int32_t> otherwise);

}  // namespace octet

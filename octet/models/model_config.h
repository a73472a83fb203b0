// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "octet/backend/nonlinearity.h"
#include "octet/io/config.h"
#include "octet/nn/layers.h"

/// What configs of several architectures say in the same words.
namespace octet {

constexpr int64_t kLargestExtent = int64_t{1} << 24;  ///< of any number in a config: products of two stay in int64

/// The activation function that `key` names as transformers does ("gelu_new"). Throws FormatError, with the nearest
/// name, for one that Octet does not have.
Nonlinearity read_nonlinearity(const Config& config, std::string_view key, std::string_view fallback);

/// The rotary embedding of heads of `head_width`: rope_parameters, or rope_theta and rope_scaling in older configs, of
/// the kinds default, linear, dynamic, llama3 and yarn, with transformers' formulas, or "divided", each frequency by
/// one of frequency_divisors, as GGUF files say it. Throws FormatError for others.
Rotary read_rotary(const Config& config, int64_t head_width);

}  // namespace octet

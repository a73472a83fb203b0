// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "octet/backend/nonlinearity.h"
#include "octet/io/config.h"
#include "octet/nn/layers.h"

/// What configs of several architectures say in the same words.
namespace octet {

constexpr int64_t kLargestExtent = int64_t{1} << 24;  ///< of any number in a config: products of two stay in int64

/// The activation function that `key` names as transformers does ("gelu_new"). Throws FormatError, with the nearest
/// name, for one that Octet does not have.
Nonlinearity read_nonlinearity(const Config& config, std::string_view key, std::string_view fallback);

/// How many columns a head has: what `width_key` says by what `heads_key` says. Throws FormatError unless it divides.
int64_t read_head_width(const Config& config, std::string_view width_key, std::string_view heads_key);

/// Heads of keys and values: num_key_value_heads, or as many as num_attention_heads. Throws FormatError unless these
/// are a multiple.
int64_t read_kv_heads(const Config& config);

/// How many blocks `key` says that there are.
int64_t read_block_count(const Config& config, std::string_view key);

/// What a rotary embedding is where its config does not say.
struct RotaryDefaults {
  double theta = 10'000;
  double share = 1;  ///< of a head's columns that turn
};

/// The rotary embedding of heads of `head_width`: rope_parameters, or rope_theta and rope_scaling in older configs, of
/// the kinds default, linear, dynamic, llama3 and yarn, with transformers' formulas, or "divided", each frequency by
/// one of frequency_divisors, as GGUF files say it. Throws FormatError for others.
Rotary read_rotary(const Config& config, int64_t head_width, const RotaryDefaults& defaults = {});

/// How fast the pairs of `width` rotary columns turn, in radians a position: 1 / theta^(2 · pair / width), in fp32.
std::vector<float> rotary_frequencies(int64_t width, double theta);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "octet/generate/sampler.h"
#include "octet/io/checkpoint.h"

namespace octet {

/// The tokens that end a text: `eos_token_id` (a number or a list) of the checkpoint's generation_config.json, or else
/// of its config.json, or else `otherwise`, the tokenizer's. Empty where none of them names one. Throws FormatError for
/// a value that is no token id.
std::vector<int32_t> read_eos_ids(const Checkpoint& checkpoint, std::optional<int32_t> otherwise);

/// What a checkpoint's generation_config.json asks for.
struct SamplingConfig {
  SamplingOptions sampling;
  /// Settings of the file that change what transformers generates and that Octet does not have: "num_beams 4".
  std::vector<std::string> ignored;
};

/// As transformers reads it: `do_sample` says whether there is sampling at all (if not, the temperature is 0); then
/// `temperature` (1 if it is missing), `top_k` (50), `top_p`, `min_p`, `typical_p`, and in any case
/// `repetition_penalty`, `no_repeat_ngram_size` and `min_new_tokens`. Throws FormatError where there is no such file,
/// or a value in it is not a number or out of range.
SamplingConfig read_sampling(const Checkpoint& checkpoint);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>

#include "octet/models/token_batch.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// Tokens of one text, and their types; none: all 0.
struct TokenSequence {
  std::span<const int32_t> ids, type_ids = {};
};

/// Calls run(batch, places) for batches of a few thousand tokens that hold all of `sequences`, the longest first:
/// places[b] says which of them sequence b is. Sequences of like length share a batch, so that its attention is even
/// work for the threads.
void for_batches_by_length(std::span<const TokenSequence> sequences,
                           const std::function<void(const TokenBatch& batch, std::span<const size_t> places)>& run);
void for_batches_by_length(std::span<const Encoding> encodings,
                           const std::function<void(const TokenBatch& batch, std::span<const size_t> places)>& run);

}  // namespace octet

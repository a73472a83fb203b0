// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octet/models/session.h"

namespace octet {

/// Whether a model predicts the next token: a decoder with a head over its vocabulary.
bool predicts_next_token(const ModelInfo& info);
/// Throws UsageError where the session's model does not.
void require_decoder(const Session& session);
/// Throws Error where a prompt, called `which`, has no tokens or leaves the model's context no room.
void check_prompt(const ModelInfo& info, std::span<const int32_t> prompt, const std::string& which);

/// Tokens of prompts that go through a model at once, unless told otherwise: enough for its matrix products to run at
/// full speed, while the workspace does not grow with the prompt.
constexpr int64_t kPrefillTokens = 512;

/// Tokens that wait to be appended to a sequence of a KvCache.
struct Continuation {
  int sequence = 0;
  std::span<const int32_t> ids;  ///< not empty
  int64_t rows = 1;              ///< of logits wanted at its end; where more than one, its tokens are run together
};

/// Runs the first tokens of the continuations, `most_tokens` at most but one of each at least, and takes them off their
/// spans. `logits` [Σ rows, vocabulary] are those after the last `rows` tokens of each that was run to its end.
void step_in_pieces(Session& session, KvCache& cache, std::span<Continuation> continuations, int64_t most_tokens,
                    std::vector<float>& logits);

}  // namespace octet

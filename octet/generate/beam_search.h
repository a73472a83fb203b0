// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "octet/generate/generator.h"

namespace octet {

/// When a search ends before every beam has (transformers' `early_stopping`).
enum class EarlyStopping : uint8_t {
  kLikely,  ///< when no running text, were it to end now, would be better than the worst of as many ended ones as beams
  kFull,    ///< when as many texts have ended as there are beams
  kNever,   ///< when no running text can become better, whatever follows
};

struct BeamSearchOptions {
  int64_t beams = 4;
  int64_t results = 1;        ///< texts wanted, at most as many as beams
  double length_penalty = 1;  ///< see BeamText::score; above 0 favours longer texts, below 0 shorter ones
  EarlyStopping early_stopping = EarlyStopping::kLikely;
  int64_t max_tokens = 128;
  std::vector<int32_t> stop_ids = {};
  SamplingOptions sampling = {};  ///< what changes log-probabilities, penalties and the like; nothing is sampled
  std::optional<DType> kv_dtype = std::nullopt;
  int64_t prefill_tokens = kPrefillTokens;
};

struct BeamText {
  std::vector<int32_t> ids;  ///< generated, the stop token included
  double score = 0;          ///< its log-likelihood divided by its tokens to the power of length_penalty
  FinishReason finish_reason = FinishReason::kLength;
};

/// The likeliest continuations that a search with some beams finds, best first, by the rules of transformers' beam
/// search (Wu et al., 2016, for the length penalty), in which penalties apply to log-probabilities. Of equal scores the
/// earlier beam and the lower id go first; sums and logarithms are fixed sequences of operations. Beams share the
/// blocks of their beginnings (see KvCache::fork). Throws Error and UsageError as Generator::submit does.
std::vector<BeamText> beam_search(Session& session, std::span<const int32_t> prompt, const BeamSearchOptions& options);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/prefill.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet {

bool predicts_next_token(const ModelInfo& info) { return info.causal && info.output == OutputKind::kTokenLogits; }

void require_decoder(const Session& session) {
  const ModelInfo& info = session.model().info();
  if (!predicts_next_token(info)) {
    fail<UsageError>("{}: {} does not predict the next token; a decoder with a head is needed (LlamaForCausalLM, …)",
                     session.checkpoint().folder().string(), info.architecture);
  }
}

void step_in_pieces(Session& session, KvCache& cache, std::span<Continuation> continuations, int64_t most_tokens,
                    std::vector<float>& logits) {
  TokenBatch batch;
  std::vector<int> sequences;
  auto spare = std::max<int64_t>(0, most_tokens - static_cast<int64_t>(continuations.size()));
  for (Continuation& continuation : continuations) {
    const int64_t more = std::min(spare, static_cast<int64_t>(continuation.ids.size()) - 1);
    spare -= more;
    const auto piece = continuation.ids.first(static_cast<size_t>(more) + 1);
    batch.add(piece, {}, cache.length(continuation.sequence));
    sequences.push_back(continuation.sequence);
    continuation.ids = continuation.ids.subspan(piece.size());
  }
  logits.resize(continuations.size() * static_cast<size_t>(session.model().info().vocabulary));
  session.step(cache, sequences, batch, logits);
}

}  // namespace octet

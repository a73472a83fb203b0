// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/prefill.h"

#include <algorithm>
#include <numeric>

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

void check_prompt(const ModelInfo& info, std::span<const int32_t> prompt, const std::string& which) {
  if (prompt.empty()) fail("{} has no tokens; there is nothing to continue", which);
  // One position more is needed for the first token to follow the prompt; it need not be run, so a prompt may be as
  // long as the context.
  if (std::cmp_greater(prompt.size(), info.max_positions)) {
    fail("{} has {} tokens; this model's longest context is {}. Shorten it.", which, prompt.size(), info.max_positions);
  }
}

void step_in_pieces(Session& session, KvCache& cache, std::span<Continuation> continuations, int64_t most_tokens,
                    std::vector<float>& logits) {
  const auto least = [](const Continuation& continuation) {
    return continuation.rows > 1 ? std::ssize(continuation.ids) : 1;
  };
  int64_t spare = most_tokens;
  for (const Continuation& continuation : continuations) spare -= least(continuation);
  TokenBatch batch;
  std::vector<int> sequences;
  std::vector<int64_t> rows;
  for (Continuation& continuation : continuations) {
    const int64_t more = std::clamp<int64_t>(spare, 0, std::ssize(continuation.ids) - least(continuation));
    spare -= more;
    const auto piece = continuation.ids.first(static_cast<size_t>(least(continuation) + more));
    batch.add(piece, {}, cache.length(continuation.sequence));
    sequences.push_back(continuation.sequence);
    continuation.ids = continuation.ids.subspan(piece.size());
    rows.push_back(continuation.ids.empty() ? continuation.rows : 0);
  }
  const int64_t wanted = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  logits.resize(static_cast<size_t>(wanted * session.model().info().vocabulary));
  session.step(cache, sequences, batch, logits, rows);
}

}  // namespace octet

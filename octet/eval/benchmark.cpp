// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/benchmark.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <string>

#include "octet/base/error.h"
#include "octet/generate/prefill.h"

namespace octet {
namespace {

double per_second(int64_t tokens, const Timing& timing) {
  return timing.median_ms > 0 ? static_cast<double>(tokens) / timing.median_ms * 1e3 : 0;
}

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// One prompt after another where they do not fit a piece together: as many as fit, else a part of one.
void prefill(Session& session, KvCache& cache, std::span<Continuation> prompts, std::vector<float>& logits) {
  for (size_t first = 0; first < prompts.size();) {
    size_t last = first + 1;
    auto tokens = static_cast<int64_t>(prompts[first].ids.size());
    while (last < prompts.size() && tokens + std::ssize(prompts[last].ids) <= kPrefillTokens)
      tokens += std::ssize(prompts[last++].ids);
    step_in_pieces(session, cache, prompts.subspan(first, last - first), kPrefillTokens, logits);
    if (prompts[first].ids.empty()) first = last;
  }
}

}  // namespace

Timing summarize(std::vector<double> milliseconds) {
  if (milliseconds.empty()) fail("no runs to summarize");
  std::sort(milliseconds.begin(), milliseconds.end());
  const size_t middle = milliseconds.size() / 2;
  const double median =
      milliseconds.size() % 2 == 1 ? milliseconds[middle] : (milliseconds[middle - 1] + milliseconds[middle]) / 2;
  return {
      .min_ms = milliseconds.front(), .median_ms = median, .repetitions = static_cast<int64_t>(milliseconds.size())};
}

TokenBatch random_batch(const ModelInfo& info, int64_t batch, int64_t seq) {
  constexpr int64_t kMostTokens = int64_t{1} << 24;
  if (batch < 1 || seq < 1 || batch > kMostTokens / seq)
    fail("a batch of {} × {} tokens; from 1 to {} are possible", batch, seq, kMostTokens);
  if (seq > info.max_positions) fail("sequences of {} tokens; this model's longest is {}", seq, info.max_positions);
  std::mt19937 generator(20'240'607);  // any number will do, as long as it stays the same
  TokenBatch out;
  std::vector<int32_t> ids(static_cast<size_t>(seq));
  for (int64_t b = 0; b < batch; ++b) {
    // Not std::uniform_int_distribution, which differs between standard libraries; the slight bias does not matter
    // here.
    for (int32_t& id : ids) id = static_cast<int32_t>(generator() % static_cast<uint32_t>(info.vocabulary));
    out.add(ids);
  }
  return out;
}

Timing time_forward(Session& session, const TokenBatch& batch, int64_t warm_up, int64_t repetitions) {
  Context context = session.context();
  std::vector<double> milliseconds;
  for (int64_t i = 0; i < warm_up + repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    {
      const Workspace::Scope scope(session.workspace());
      session.model().forward(context, upload(context, batch));
    }
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    if (i >= warm_up) milliseconds.push_back(elapsed.count());
  }
  return summarize(std::move(milliseconds));
}

double DecoderTiming::prefill_tokens_per_s() const noexcept { return per_second(prefill_tokens, prefill); }
double DecoderTiming::decode_tokens_per_s() const noexcept { return per_second(decode_tokens, decode); }

DecoderTiming time_decoder(Session& session, const DecoderLoad& load) {
  require_decoder(session);
  const int64_t longest = session.model().info().max_positions;
  if (load.seq + load.decode_tokens > longest) {
    fail("{} tokens and {} more; this model's longest context is {}", load.seq, load.decode_tokens, longest);
  }
  // Prompt and the tokens to follow, drawn together.
  const TokenBatch tokens = random_batch(session.model().info(), load.batch, load.seq + load.decode_tokens);
  const auto ids = [&](int64_t b, int64_t first, int64_t count) {
    return std::span(tokens.ids)
        .subspan(static_cast<size_t>(tokens.offsets[static_cast<size_t>(b)] + first), static_cast<size_t>(count));
  };
  KvCache cache = session.make_cache(load.kv_dtype);
  std::vector<Continuation> sequences(static_cast<size_t>(load.batch));
  for (Continuation& continuation : sequences) continuation.sequence = cache.add_sequence();
  const auto set_ids = [&](int64_t first, int64_t count) {
    for (size_t b = 0; b < sequences.size(); ++b) sequences[b].ids = ids(static_cast<int64_t>(b), first, count);
  };

  std::vector<double> prefill_ms, decode_ms;
  std::vector<float> logits;
  for (int64_t i = 0; i < load.warm_up + load.repetitions; ++i) {
    for (const Continuation& continuation : sequences) cache.truncate(continuation.sequence, 0);
    auto start = std::chrono::steady_clock::now();
    set_ids(0, load.seq);
    prefill(session, cache, sequences, logits);
    if (i >= load.warm_up) prefill_ms.push_back(milliseconds_since(start));
    start = std::chrono::steady_clock::now();
    for (int64_t t = 0; t < load.decode_tokens; ++t) {
      set_ids(load.seq + t, 1);
      step_in_pieces(session, cache, sequences, load.batch, logits);
    }
    if (i >= load.warm_up) decode_ms.push_back(milliseconds_since(start));
  }
  return {.prefill = summarize(std::move(prefill_ms)),
          .decode = summarize(std::move(decode_ms)),
          .prefill_tokens = load.batch * load.seq,
          .decode_tokens = load.batch * load.decode_tokens,
          .kv_dtype = cache.dtype(),
          .kv_bytes = cache.bytes()};
}

int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8)) * 1024;
  }
  return 0;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/benchmark.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>

#include <unistd.h>

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

double DecoderTiming::decode_bytes_per_s() const noexcept {
  const double bytes = (weight_bytes_read + kv_bytes_read) * static_cast<double>(decode_steps);
  return decode.median_ms > 0 ? bytes / decode.median_ms * 1e3 : 0;
}

int64_t weight_bytes_of_a_token(const Model& model) {
  int64_t bytes = model.packed_bytes();
  const std::vector<const Linear*> linears = model.linears();
  for (const Linear* linear : linears) {
    // The output head is the last of them, unless it is the tied table.
    const Parameter& weight = linear->parts().front().weight;
    if (weight.over_vocabulary && weight.tied_head.empty() && linear != linears.back()) bytes -= linear->packed_bytes();
  }
  return bytes;
}

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
  double process_to_first_token_ms = 0;
  std::vector<float> logits;
  for (int64_t i = 0; i < load.warm_up + load.repetitions; ++i) {
    for (const Continuation& continuation : sequences) cache.truncate(continuation.sequence, 0);
    auto start = std::chrono::steady_clock::now();
    set_ids(0, load.seq);
    prefill(session, cache, sequences, logits);
    if (i >= load.warm_up) prefill_ms.push_back(milliseconds_since(start));
    if (i == 0) process_to_first_token_ms = milliseconds_since_process_start();
    start = std::chrono::steady_clock::now();
    for (int64_t t = 0; t < load.decode_tokens; ++t) {
      set_ids(load.seq + t, 1);
      step_in_pieces(session, cache, sequences, load.batch, logits);
    }
    if (i >= load.warm_up) decode_ms.push_back(milliseconds_since(start));
  }
  const ModelInfo& info = session.model().info();
  const double kv_bytes_of_token =
      static_cast<double>(session.backend().kv_bytes(cache.dtype(), info.kv_heads, info.kv_head_width) * info.blocks) /
      kKvBlockTokens;
  // Step t of n reads those of the prompt's tokens, of t before it and its own: (n + 1) / 2 of the latter in the mean.
  const double tokens_read = static_cast<double>(load.seq) + static_cast<double>(load.decode_tokens + 1) / 2;
  return {.prefill = summarize(std::move(prefill_ms)),
          .decode = summarize(std::move(decode_ms)),
          .prefill_tokens = load.batch * load.seq,
          .decode_tokens = load.batch * load.decode_tokens,
          .kv_dtype = cache.dtype(),
          .kv_bytes = cache.bytes(),
          .weight_bytes_read = static_cast<double>(weight_bytes_of_a_token(session.model())),
          .kv_bytes_read = static_cast<double>(load.batch) * tokens_read * kv_bytes_of_token,
          .decode_steps = load.decode_tokens,
          .anonymous_bytes = anonymous_bytes(),
          .process_to_first_token_ms = process_to_first_token_ms};
}

double milliseconds_since_process_start() {
  // Field 22 of /proc/self/stat, in clock ticks since the system started; the second, the program's name in brackets,
  // may hold blanks and brackets itself.
  std::ifstream file("/proc/self/stat");
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  double start = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), start);
  timespec now{};
  if (error != std::errc() || ::clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  const double seconds = static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  return (seconds - start / static_cast<double>(::sysconf(_SC_CLK_TCK))) * 1e3;
}

int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8)) * 1024;
  }
  return 0;
}

}  // namespace octet

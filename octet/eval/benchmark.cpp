// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/benchmark.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <string>

#include "octet/base/error.h"

namespace octet {

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

int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoll(line.substr(8)) * 1024;
  }
  return 0;
}

}  // namespace octet

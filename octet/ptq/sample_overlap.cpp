// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/sample_overlap.h"

#include <algorithm>
#include <set>
#include <span>
#include <vector>

namespace octet {
namespace {

// Short enough to be found in sequences that were cut at other places, long enough not to be a common phrase, in small
// vocabularies too.
constexpr int64_t kRun = 32;

std::span<const int32_t> sequence(const TokenBatch& batch, size_t i) {
  return std::span(batch.ids).subspan(static_cast<size_t>(batch.offsets[i]),
                                      static_cast<size_t>(batch.offsets[i + 1] - batch.offsets[i]));
}

// use(its tokens, its first token's place), of each run of a sequence
void for_each_run(std::span<const int32_t> tokens, auto use) {
  for (int64_t i = 0; i + kRun <= std::ssize(tokens); ++i) {
    const std::span<const int32_t> run = tokens.subspan(static_cast<size_t>(i), kRun);
    use(std::vector<int32_t>(run.begin(), run.end()), i);
  }
}

}  // namespace

double sample_overlap(const TextSample& sample, const TokenBatch& calibration) {
  std::set<std::vector<int32_t>> known;
  for (size_t i = 0; std::cmp_less(i, calibration.sequences()); ++i)
    for_each_run(sequence(calibration, i), [&](std::vector<int32_t> run, int64_t) { known.insert(std::move(run)); });
  int64_t met = 0, all = 0;
  for (const TokenBatch& batch : sample.batches) {
    for (size_t i = 0; std::cmp_less(i, batch.sequences()); ++i) {
      const std::span<const int32_t> tokens = sequence(batch, i);
      std::vector<bool> shared(tokens.size(), false);
      for_each_run(tokens, [&](const std::vector<int32_t>& run, int64_t first) {
        if (known.contains(run)) std::fill_n(shared.begin() + first, kRun, true);
      });
      met += std::ranges::count(shared, true);
      all += std::ssize(tokens);
    }
  }
  return all == 0 ? 0 : static_cast<double>(met) / static_cast<double>(all);
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/read_bandwidth.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <vector>

#include <unistd.h>

#include "octet/base/parallel.h"

namespace octet {

int64_t last_level_cache_bytes() {
#ifdef _SC_LEVEL3_CACHE_SIZE
  if (const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE); bytes > 0) return bytes;
#endif
  return int64_t{32} << 20;
}

double measure_read_bandwidth(int threads) {
  // Pieces of a whole that is eight times the cache, so that little of a piece is still there in the next sweep.
  constexpr int64_t kPieceWords = int64_t{16} << 17;  // of 8 bytes: 16 MiB
  const int64_t bytes = std::clamp(8 * last_level_cache_bytes(), int64_t{64} << 20, int64_t{1} << 30);
  const int64_t pieces = bytes / (8 * kPieceWords * threads) + 1;
  std::vector<uint64_t> memory(static_cast<size_t>(pieces * threads * kPieceWords), 1);
  // Each thread reads four streams at once: one alone leaves the memory waiting.
  constexpr size_t kStreams = 4, kWidth = 4;
  constexpr int64_t kStreamWords = kPieceWords / kStreams;
  const auto read = [](const uint64_t* piece) {
    std::array<std::array<uint64_t, kWidth>, kStreams> sums = {};
    for (int64_t i = 0; i < kStreamWords; i += kWidth) {
      for (size_t s = 0; s < kStreams; ++s) {
        for (size_t j = 0; j < kWidth; ++j) sums[s][j] += piece[s * kStreamWords + i + j];
      }
    }
    for (auto& stream : sums) {
      for (uint64_t& sum : stream) asm volatile("" : "+r"(sum));
    }
  };
  // Many short runs: one of them finds the machine undisturbed.
  constexpr int kSweeps = 5;
  double seconds = HUGE_VAL;
  for (int64_t i = 0; i < kSweeps * pieces; ++i) {
    const uint64_t* first = memory.data() + i % pieces * threads * kPieceWords;
    const auto start = std::chrono::steady_clock::now();
    parallel_for(threads, threads, [&](int64_t task, int) { read(first + task * kPieceWords); });
    seconds = std::min(seconds, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return static_cast<double>(8 * kPieceWords * threads) / seconds;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/base/parallel.h"

#include <atomic>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(ParallelFor, RunsEveryTaskOnceOnWorkersBelowTheLimit) {
  for (const int threads : {1, 2, 3, 7}) {
    for (const int64_t tasks : {0, 1, 2, 5, 1000}) {
      std::vector<std::atomic<int>> runs(tasks);
      std::atomic<bool> worker_in_range{true};
      parallel_for(threads, tasks, [&](int64_t task, int worker) {
        ++runs[task];
        if (worker < 0 || worker >= threads) worker_in_range = false;
      });
      EXPECT_TRUE(worker_in_range);
      for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1) << threads << " threads, " << tasks << " tasks";
    }
  }
}

TEST(ParallelFor, RethrowsAnExceptionOfAnyThread) {
  for (const int threads : {1, 4}) {
    EXPECT_THROW(parallel_for(threads, 100,
                              [](int64_t task, int) {
                                if (task == 37) throw std::runtime_error("37");
                              }),
                 std::runtime_error);
  }
}

TEST(ParallelFor, NestsAndKeepsAConstBody) {
  std::atomic<int> inner{0};
  const auto body = [&](int64_t, int) { parallel_for(2, 3, [&](int64_t, int) { ++inner; }); };
  parallel_for(2, 4, body);
  EXPECT_EQ(inner, 12);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include <sched.h>

#ifdef OCTET_PARALLEL_STD
#include <thread>
#include <vector>
#endif

namespace octet {

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // More processors than cpu_set_t holds (1,024) make the call fail; one thread is then the safe answer.
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

namespace detail {
namespace {

// Hands out tasks and keeps the first exception. Exceptions may not leave an OpenMP region or a std::thread.
struct Queue {
  int64_t tasks;
  ParallelBody body;
  void* closure;
  std::atomic<int64_t> next{0};
  std::mutex mutex{};
  std::exception_ptr error{};

  void work(int worker) {
    try {
      for (int64_t task = next++; task < tasks; task = next++) body(closure, task, worker);
    } catch (...) {
      next = tasks;
      const std::lock_guard<std::mutex> lock(mutex);
      if (!error) error = std::current_exception();
    }
  }
};

}  // namespace

void parallel_run(int threads, int64_t tasks, ParallelBody body, void* closure) {
  const int team = static_cast<int>(std::clamp<int64_t>(threads, 1, std::max<int64_t>(tasks, 1)));
  if (team == 1) {
    for (int64_t task = 0; task < tasks; ++task) body(closure, task, 0);
    return;
  }
  Queue queue{.tasks = tasks, .body = body, .closure = closure};
#ifdef OCTET_PARALLEL_STD
  std::vector<std::thread> workers;
  workers.reserve(team - 1);
  for (int worker = 1; worker < team; ++worker) workers.emplace_back([&queue, worker] { queue.work(worker); });
  queue.work(0);
  for (std::thread& worker : workers) worker.join();
#else
#pragma omp parallel for num_threads(team) schedule(static, 1)
  for (int worker = 0; worker < team; ++worker) queue.work(worker);
#endif
  if (queue.error) std::rethrow_exception(queue.error);
}

}  // namespace detail
}  // namespace octet

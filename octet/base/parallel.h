// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace octet {

namespace detail {
using ParallelBody = void (*)(void* closure, int64_t task, int worker);
void parallel_run(int threads, int64_t tasks, ParallelBody body, void* closure);
}  // namespace detail

/// Processors this process may run on (its affinity mask, which container limits set too).
int available_threads();

/// Calls body(task, worker) once for every task in [0, tasks), on at most `threads` threads, the caller's among them.
/// Tasks are handed out as threads become free; worker < threads tells a thread its scratch space. Returns when all
/// are done; rethrows the first exception. The order is unspecified, so results must not depend on it.
template <class Body>
void parallel_for(int threads, int64_t tasks, Body&& body) {
  using Closure = std::remove_reference_t<Body>;
  detail::parallel_run(
      threads, tasks, [](void* closure, int64_t task, int worker) { (*static_cast<Closure*>(closure))(task, worker); },
      const_cast<std::remove_const_t<Closure>*>(std::addressof(body)));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "tests/models/counting_new.h"

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/sanitized.h"

namespace {
std::atomic<int64_t> allocations{0};
}

// A sanitizer's own operator new must stay: it pairs with its delete.
#if !OCTET_SANITIZED
// The program's own; the other forms of operator new and delete end in these. In a file that allocates nothing, because
// gcc takes a new and a free that meet by inlining for a mistake.
void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes > 0 ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

namespace octet {

int64_t allocation_count() { return allocations; }

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>

#include "octet/base/error.h"

namespace octet {

/// `value` as a To; throws Error if To cannot hold it.
template <class To, class From>
To narrow(From value) {
  if (!std::in_range<To>(value)) fail("the number {} is out of range", value);
  return static_cast<To>(value);
}

/// a + b and a * b of sizes that come from outside; throw Error on overflow.
inline int64_t checked_add(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) fail("the size {} + {} overflows", a, b);
  return sum;
}

inline int64_t checked_mul(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) fail("the size {} · {} overflows", a, b);
  return product;
}

/// The smallest multiple of `step` that is not below `value`; both positive, no overflow check.
constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace octet

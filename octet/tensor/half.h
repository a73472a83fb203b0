// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// IEEE 754 binary16 and bfloat16 as stored; arithmetic happens in float.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

/// Exact.
float to_float(Half value) noexcept;
float to_float(BFloat16 value) noexcept;

/// Rounds to nearest, ties to even; overflow gives infinity, NaN stays NaN.
Half to_half(float value) noexcept;
BFloat16 to_bfloat16(float value) noexcept;

}  // namespace octet

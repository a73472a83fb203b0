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

/// Stochastic rounding of what lies between two neighbours: to the one farther from 0 if the way to it from the other,
/// in 2^-16 of their distance, and `random` have a sum of 2^16 or more (to halves from 2^-14 on: in 2^-13, and of the
/// high 13 bits). Otherwise as above.
Half to_half_stochastically(float value, uint16_t random) noexcept;
BFloat16 to_bfloat16_stochastically(float value, uint16_t random) noexcept;

/// The same of many, as bits.
void halves_to_floats(const uint16_t* bits, int64_t count, float* values) noexcept;
void bfloat16s_to_floats(const uint16_t* bits, int64_t count, float* values) noexcept;
void floats_to_halves_stochastically(const float* values, const uint16_t* random, int64_t count,
                                     uint16_t* bits) noexcept;
void floats_to_bfloat16s_stochastically(const float* values, const uint16_t* random, int64_t count,
                                        uint16_t* bits) noexcept;

}  // namespace octet

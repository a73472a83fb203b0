// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/half.h"

#include <bit>
#include <cmath>

namespace octet {

float to_float(Half value) noexcept {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 31u, fraction = value.bits & 1023u;
  uint32_t magnitude = 0;
  if (exponent == 31) {
    magnitude = 0x7f800000u | (fraction << 13);
  } else if (exponent == 0) {
    magnitude = std::bit_cast<uint32_t>(static_cast<float>(fraction) * 0x1p-24f);  // subnormal: fraction · 2^-24
  } else {
    magnitude = ((exponent + 127 - 15) << 23) | (fraction << 13);
  }
  return std::bit_cast<float>(sign | magnitude);
}

float to_float(BFloat16 value) noexcept { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

namespace {

constexpr uint32_t kInfinity = 0x7f800000, kLeastNormalHalf = 0x38800000;  // 2^-14

uint32_t magnitude_of(float value) { return std::bit_cast<uint32_t>(value) & 0x7fffffffu; }

Half signed_half(float sign, uint32_t magnitude) {
  return {static_cast<uint16_t>((std::bit_cast<uint32_t>(sign) >> 16 & 0x8000u) | magnitude)};
}

BFloat16 quiet(float nan) { return {static_cast<uint16_t>((std::bit_cast<uint32_t>(nan) >> 16) | 0x40u)}; }

}  // namespace

Half to_half(float value) noexcept {
  const uint32_t magnitude = magnitude_of(value);
  if (magnitude > kInfinity) return signed_half(value, 0x7e00u);
  // 65,520 is halfway between the largest half, 65,504, and 2^16: from there on everything rounds to infinity.
  if (magnitude >= 0x477ff000u) return signed_half(value, 0x7c00u);
  if (magnitude < kLeastNormalHalf) {
    // Below 2^-14 halves are multiples of 2^-24, which are the multiples of ulp(0.5): adding 0.5 rounds to them.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return signed_half(value, std::bit_cast<uint32_t>(rounded) - 0x3f000000u);
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return signed_half(value, (magnitude - ((127u - 15u) << 23) + 0xfffu + odd) >> 13);
}

BFloat16 to_bfloat16(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return quiet(value);
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

Half to_half_stochastically(float value, uint16_t random) noexcept {
  const uint32_t magnitude = magnitude_of(value);
  if (magnitude > kInfinity) return signed_half(value, 0x7e00u);
  if (magnitude >= 0x47800000u) return signed_half(value, 0x7c00u);  // 2^16
  if (magnitude < kLeastNormalHalf) {
    const float steps = std::bit_cast<float>(magnitude) * 0x1p24f;
    const auto whole = static_cast<uint32_t>(steps);
    const bool up = (steps - static_cast<float>(whole)) * 0x1p16f + static_cast<float>(random) >= 0x1p16f;
    return signed_half(value, whole + (up ? 1 : 0));
  }
  return signed_half(value, (magnitude - ((127u - 15u) << 23) + (random >> 3)) >> 13);
}

BFloat16 to_bfloat16_stochastically(float value, uint16_t random) noexcept {
  if (std::isnan(value)) return quiet(value);
  return {static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + random) >> 16)};
}

void halves_to_floats(const uint16_t* bits, int64_t count, float* values) noexcept {
  for (int64_t i = 0; i < count; ++i) values[i] = to_float(Half{bits[i]});
}

void bfloat16s_to_floats(const uint16_t* bits, int64_t count, float* values) noexcept {
  for (int64_t i = 0; i < count; ++i) values[i] = to_float(BFloat16{bits[i]});
}

void floats_to_halves_stochastically(const float* values, const uint16_t* random, int64_t count,
                                     uint16_t* bits) noexcept {
  for (int64_t i = 0; i < count; ++i) bits[i] = to_half_stochastically(values[i], random[i]).bits;
}

void floats_to_bfloat16s_stochastically(const float* values, const uint16_t* random, int64_t count,
                                        uint16_t* bits) noexcept {
  for (int64_t i = 0; i < count; ++i) bits[i] = to_bfloat16_stochastically(values[i], random[i]).bits;
}

}  // namespace octet

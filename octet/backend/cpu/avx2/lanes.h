// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "octet/backend/cpu/kernels.h"

// Sixteen lanes as two AVX2 registers, for vector_math.h and vector_rows.h. In an anonymous namespace on purpose: what
// is instantiated with them must not be shared with files compiled for other instruction sets.
namespace octet::cpu {
namespace {

// Eight ones, then eight zeros: loading at 8 - n gives a mask of n lanes.
alignas(64) constexpr int32_t kMaskSource[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

inline __m256i first_lanes(int64_t n) {
  const int64_t clamped = n < 0 ? 0 : n > 8 ? 8 : n;
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMaskSource + 8 - clamped));
}

struct Sixteen {
  __m256 a, b;

  static Sixteen all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Sixteen load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Sixteen load_first(const float* p, int64_t n) {
    return {_mm256_maskload_ps(p, first_lanes(n)),
            n > 8 ? _mm256_maskload_ps(p + 8, first_lanes(n - 8)) : _mm256_setzero_ps()};
  }
  static Sixteen from_int32(const int32_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
            _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8)))};
  }
  // The first n lanes of yes, the others of no.
  static Sixteen choose_first(Sixteen yes, Sixteen no, int64_t n) {
    return {_mm256_blendv_ps(no.a, yes.a, _mm256_castsi256_ps(first_lanes(n))),
            _mm256_blendv_ps(no.b, yes.b, _mm256_castsi256_ps(first_lanes(n - 8)))};
  }
  // Elements [first, first + n) of a row of a table, widened; n ≤ 16.
  static Sixteen load_element(const void* row, TableElement element, int64_t first, int64_t n) {
    if (element == TableElement::kF32) {
      const float* p = static_cast<const float*>(row) + first;
      return n == 16 ? load(p) : load_first(p, n);
    }
    if (element == TableElement::kF64) {
      alignas(64) float narrowed[16] = {};
      for (int64_t i = 0; i < n; ++i) narrowed[i] = static_cast<float>(static_cast<const double*>(row)[first + i]);
      return load(narrowed);
    }
    const uint16_t* source = static_cast<const uint16_t*>(row) + first;
    alignas(32) uint16_t part[16] = {};
    if (n < 16) {
      for (int64_t i = 0; i < n; ++i) part[i] = source[i];
      source = part;
    }
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 8));
    if (element == TableElement::kF16) return {_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)};
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(low), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16))};
  }

  void store(float* p) const {
    _mm256_storeu_ps(p, a);
    _mm256_storeu_ps(p + 8, b);
  }
  void store_first(float* p, int64_t n) const {
    _mm256_maskstore_ps(p, first_lanes(n), a);
    if (n > 8) _mm256_maskstore_ps(p + 8, first_lanes(n - 8), b);
  }

  // Lane i + lane i + 8, then 4, 2, 1.
  float sum() const {
    const __m256 eight = _mm256_add_ps(a, b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float largest() const {
    const __m256 eight = _mm256_max_ps(a, b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  uint32_t largest_bits() const {
    const __m256i eight = _mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b));
    const __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0b01'00'11'10));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32(two, 0b10'11'00'01))));
  }

  friend Sixteen operator+(Sixteen x, Sixteen y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  friend Sixteen operator-(Sixteen x, Sixteen y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  friend Sixteen operator*(Sixteen x, Sixteen y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  friend Sixteen operator/(Sixteen x, Sixteen y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
};

inline Sixteen fma(Sixteen x, Sixteen y, Sixteen z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Sixteen fms(Sixteen x, Sixteen y, Sixteen z) {
  return {_mm256_fmsub_ps(x.a, y.a, z.a), _mm256_fmsub_ps(x.b, y.b, z.b)};
}
inline Sixteen min(Sixteen x, Sixteen y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Sixteen max(Sixteen x, Sixteen y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Sixteen sqrt(Sixteen x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
inline Sixteen swap_neighbours(Sixteen x) {
  return {_mm256_permute_ps(x.a, 0b10'11'00'01), _mm256_permute_ps(x.b, 0b10'11'00'01)};
}

inline __m256 max_or_nan(__m256 x, __m256 y) {
  // max gives y where either is NaN, which is wrong only where x is.
  return _mm256_blendv_ps(_mm256_max_ps(x, y), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}
inline Sixteen max_or_nan(Sixteen x, Sixteen y) { return {max_or_nan(x.a, y.a), max_or_nan(x.b, y.b)}; }

inline __m256 max_bits(__m256 x, __m256 y) {
  return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(x), _mm256_castps_si256(y)));
}
inline Sixteen max_bits(Sixteen x, Sixteen y) { return {max_bits(x.a, y.a), max_bits(x.b, y.b)}; }

inline Sixteen abs(Sixteen x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline __m256 copy_sign(__m256 magnitude, __m256 sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign));
}
inline Sixteen copy_sign(Sixteen magnitude, Sixteen sign) {
  return {copy_sign(magnitude.a, sign.a), copy_sign(magnitude.b, sign.b)};
}
inline Sixteen if_less(Sixteen x, Sixteen y, Sixteen yes, Sixteen no) {
  return {_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}

// 2^n for t = 1.5 · 2^23 + n, n ≤ 127; 0 for n < -126.
inline __m256 power_of_two(__m256 t) {
  constexpr int32_t kRounder = 0x4b400000, kBias = 127;  // the bits of 1.5 · 2^23; of exponent fields
  const __m256i exponent = _mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(kBias - kRounder));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_max_epi32(exponent, _mm256_setzero_si256()), 23));
}
inline Sixteen power_of_two(Sixteen t) { return {power_of_two(t.a), power_of_two(t.b)}; }

// even for an even integer in the low bits of t, else odd; negated for 2 and 3 modulo 4.
inline __m256 by_quadrant(__m256 t, __m256 even, __m256 odd) {
  const __m256i n = _mm256_castps_si256(t);
  const __m256 magnitude = _mm256_blendv_ps(even, odd, _mm256_castsi256_ps(_mm256_slli_epi32(n, 31)));
  const __m256 second_bit = _mm256_castsi256_ps(_mm256_slli_epi32(n, 30));
  return _mm256_xor_ps(magnitude, _mm256_and_ps(second_bit, _mm256_set1_ps(-0.0f)));
}
inline Sixteen by_quadrant(Sixteen t, Sixteen even, Sixteen odd) {
  return {by_quadrant(t.a, even.a, odd.a), by_quadrant(t.b, even.b, odd.b)};
}

}  // namespace
}  // namespace octet::cpu

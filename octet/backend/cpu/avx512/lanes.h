// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "octet/backend/cpu/kernels.h"

// Sixteen lanes as one AVX-512 register, for vector_math.h and vector_rows.h. In an anonymous namespace on purpose:
// what is instantiated with them must not be shared with files compiled for other instruction sets.
namespace octet::cpu {
namespace {

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }  // n ≤ 16

struct Sixteen {
  __m512 v;

  static Sixteen all(float x) { return {_mm512_set1_ps(x)}; }
  static Sixteen load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Sixteen load_first(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
  static Sixteen from_int32(const int32_t* p) { return {_mm512_cvtepi32_ps(_mm512_loadu_si512(p))}; }
  // The first n lanes of yes, the others of no.
  static Sixteen choose_first(Sixteen yes, Sixteen no, int64_t n) {
    return {_mm512_mask_blend_ps(first_lanes(n), no.v, yes.v)};
  }
  // Elements [first, first + n) of a row of a table, widened; n ≤ 16.
  static Sixteen load_element(const void* row, TableElement element, int64_t first, int64_t n) {
    if (element == TableElement::kF32) return load_first(static_cast<const float*>(row) + first, n);
    if (element == TableElement::kF64) {
      const double* p = static_cast<const double*>(row) + first;
      const __m512d low = _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(n)), p);
      const __m512d high = _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(n) >> 8), p + (n > 8 ? 8 : 0));
      return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1)};
    }
    const __m256i half = _mm256_maskz_loadu_epi16(first_lanes(n), static_cast<const uint16_t*>(row) + first);
    if (element == TableElement::kF16) return {_mm512_cvtph_ps(half)};
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
  }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_first(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

  // Lane i + lane i + 8, then 4, 2, 1.
  float sum() const {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float largest() const {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  uint32_t largest_bits() const { return _mm512_reduce_max_epu32(_mm512_castps_si512(v)); }

  friend Sixteen operator+(Sixteen x, Sixteen y) { return {_mm512_add_ps(x.v, y.v)}; }
  friend Sixteen operator-(Sixteen x, Sixteen y) { return {_mm512_sub_ps(x.v, y.v)}; }
  friend Sixteen operator*(Sixteen x, Sixteen y) { return {_mm512_mul_ps(x.v, y.v)}; }
  friend Sixteen operator/(Sixteen x, Sixteen y) { return {_mm512_div_ps(x.v, y.v)}; }
};

inline Sixteen fma(Sixteen x, Sixteen y, Sixteen z) { return {_mm512_fmadd_ps(x.v, y.v, z.v)}; }
inline Sixteen fms(Sixteen x, Sixteen y, Sixteen z) { return {_mm512_fmsub_ps(x.v, y.v, z.v)}; }
inline Sixteen min(Sixteen x, Sixteen y) { return {_mm512_min_ps(x.v, y.v)}; }
inline Sixteen max(Sixteen x, Sixteen y) { return {_mm512_max_ps(x.v, y.v)}; }
inline Sixteen sqrt(Sixteen x) { return {_mm512_sqrt_ps(x.v)}; }
inline Sixteen swap_neighbours(Sixteen x) { return {_mm512_permute_ps(x.v, 0b10'11'00'01)}; }
inline Sixteen abs(Sixteen x) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), x.v)}; }

inline Sixteen max_or_nan(Sixteen x, Sixteen y) {
  // max gives y where either is NaN, which is wrong only where x is.
  return {_mm512_mask_max_ps(x.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_ORD_Q), x.v, y.v)};
}
inline Sixteen max_bits(Sixteen x, Sixteen y) {
  return {_mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(x.v), _mm512_castps_si512(y.v)))};
}
inline Sixteen copy_sign(Sixteen magnitude, Sixteen sign) {
  const __m512 bit = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_andnot_ps(bit, magnitude.v), _mm512_and_ps(bit, sign.v))};
}
inline Sixteen if_less(Sixteen x, Sixteen y, Sixteen yes, Sixteen no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), no.v, yes.v)};
}

// 2^n for t = 1.5 · 2^23 + n, n ≤ 127; 0 for n < -126.
inline Sixteen power_of_two(Sixteen t) {
  constexpr int32_t kRounder = 0x4b400000, kBias = 127;  // the bits of 1.5 · 2^23; of exponent fields
  const __m512i exponent = _mm512_add_epi32(_mm512_castps_si512(t.v), _mm512_set1_epi32(kBias - kRounder));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_max_epi32(exponent, _mm512_setzero_si512()), 23))};
}

// even for an even integer in the low bits of t, else odd; negated for 2 and 3 modulo 4.
inline Sixteen by_quadrant(Sixteen t, Sixteen even, Sixteen odd) {
  const __m512i n = _mm512_castps_si512(t.v);
  const __m512 magnitude = _mm512_mask_blend_ps(_mm512_test_epi32_mask(n, _mm512_set1_epi32(1)), even.v, odd.v);
  const __m512 second_bit = _mm512_castsi512_ps(_mm512_slli_epi32(n, 30));
  return {_mm512_xor_ps(magnitude, _mm512_and_ps(second_bit, _mm512_set1_ps(-0.0f)))};
}

}  // namespace
}  // namespace octet::cpu

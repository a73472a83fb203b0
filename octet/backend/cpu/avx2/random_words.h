// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "octet/backend/cpu/kernels.h"
#include "octet/base/philox.h"

// Philox for eight counters at once, a lane of 32 bits each.
namespace octet::cpu {
namespace {

struct WideProduct {
  __m256i low, high;
};

inline WideProduct wide_product(__m256i x, __m256i factor) {
  const __m256i even = _mm256_mul_epu32(x, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
  return {_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0b10101010),
          _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0b10101010)};
}

inline void random_words(const RandomWords& r) {
  const __m256i factor0 = _mm256_set1_epi32(static_cast<int>(PhiloxConstants::kMultiplier0));
  const __m256i factor1 = _mm256_set1_epi32(static_cast<int>(PhiloxConstants::kMultiplier1));
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int64_t i = 0; i < r.count; i += 8) {
    const uint64_t counter = r.counter + static_cast<uint64_t>(i);
    const auto low = static_cast<uint32_t>(counter), high = static_cast<uint32_t>(counter >> 32);
    __m256i c0 = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(low)), lanes);
    // Where the low half wraps, a lane carries: it is less than the first then.
    const __m256i sign = _mm256_set1_epi32(static_cast<int>(0x80000000u));
    const __m256i carry = _mm256_cmpgt_epi32(_mm256_xor_si256(_mm256_set1_epi32(static_cast<int>(low)), sign),
                                             _mm256_xor_si256(c0, sign));
    __m256i c1 = _mm256_sub_epi32(_mm256_set1_epi32(static_cast<int>(high)), carry);
    __m256i c2 = _mm256_set1_epi32(static_cast<int>(r.stream)), c3 = _mm256_set1_epi32(static_cast<int>(r.step));
    auto key0 = static_cast<uint32_t>(r.seed), key1 = static_cast<uint32_t>(r.seed >> 32);
    for (int round = 0; round < PhiloxConstants::kRounds; ++round) {
      const WideProduct product0 = wide_product(c0, factor0), product1 = wide_product(c2, factor1);
      c0 = _mm256_xor_si256(_mm256_xor_si256(product1.high, c1), _mm256_set1_epi32(static_cast<int>(key0)));
      c1 = product1.low;
      c2 = _mm256_xor_si256(_mm256_xor_si256(product0.high, c3), _mm256_set1_epi32(static_cast<int>(key1)));
      c3 = product0.low;
      key0 += PhiloxConstants::kWeyl0;
      key1 += PhiloxConstants::kWeyl1;
    }
    // Four words of each counter side by side: pairs hold counters 0, 1 | 4, 5 and 2, 3 | 6, 7.
    const __m256i low01 = _mm256_unpacklo_epi32(c0, c1), low23 = _mm256_unpackhi_epi32(c0, c1);
    const __m256i high01 = _mm256_unpacklo_epi32(c2, c3), high23 = _mm256_unpackhi_epi32(c2, c3);
    const __m256i c04 = _mm256_unpacklo_epi64(low01, high01), c15 = _mm256_unpackhi_epi64(low01, high01);
    const __m256i c26 = _mm256_unpacklo_epi64(low23, high23), c37 = _mm256_unpackhi_epi64(low23, high23);
    alignas(32) uint32_t rest[32];
    uint32_t* const to = r.count - i < 8 ? rest : r.words + 4 * i;
    const auto store = [to](int at, __m256i x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), x); };
    store(0, _mm256_permute2x128_si256(c04, c15, 0x20));
    store(8, _mm256_permute2x128_si256(c26, c37, 0x20));
    store(16, _mm256_permute2x128_si256(c04, c15, 0x31));
    store(24, _mm256_permute2x128_si256(c26, c37, 0x31));
    if (to == rest) {
      for (int64_t k = 0; k < 4 * (r.count - i); ++k) r.words[4 * i + k] = rest[k];
    }
  }
}

}  // namespace
}  // namespace octet::cpu

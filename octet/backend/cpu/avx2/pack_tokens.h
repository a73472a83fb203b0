// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "octet/backend/cpu/avx2/transpose.h"
#include "octet/backend/cpu/kernels.h"

// Tokens into panels of sixteen outputs by quads of four k (KernelTable::int8_attention), for avx2 and avx512_vnni.
namespace octet::cpu {
namespace {

// Keys: a token is an output, and its codes go by words of four. Whole panels are a transposition of words.
inline void pack_key_tokens(const PackTokens& p) {
  const int64_t words = (p.cols + 3) / 4;
  for (int64_t r = 0; r < p.rows;) {
    const int64_t token = p.first + r;
    const int8_t* codes = p.codes + r * p.stride;
    int8_t* panel = p.panels + token / 16 * p.panel_stride;
    if (token % 16 == 0 && p.rows - r >= 16) {
      pack_row_panels(
          {reinterpret_cast<const float*>(codes), p.stride / 4, 16, words, reinterpret_cast<float*>(panel)});
      r += 16;
      continue;
    }
    for (int64_t word = 0; word < words; ++word) {
      __builtin_memcpy(panel + (16 * word + token % 16) * 4, codes + 4 * word, 4);
    }
    ++r;
  }
}

// Values: a token is a k. Four of them make quads.
inline void pack_value_tokens(const PackTokens& p) {
  for (int64_t r = 0; r < p.rows;) {
    const int64_t token = p.first + r;
    const int8_t* codes = p.codes + r * p.stride;
    int8_t* quad = p.panels + token / 4 * 64;
    if (token % 4 == 0 && p.rows - r >= 4) {
      for (int64_t c = 0; c < p.cols; c += 16, quad += p.panel_stride) {
        const auto row = [&](int64_t i) {
          return _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i * p.stride + c));
        };
        const __m128i a = row(0), b = row(1), d = row(2), e = row(3);
        const __m128i low[2] = {_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(d, e)};
        const __m128i high[2] = {_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(d, e)};
        __m128i* const out = reinterpret_cast<__m128i*>(quad);
        _mm_storeu_si128(out, _mm_unpacklo_epi16(low[0], low[1]));
        _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(low[0], low[1]));
        _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(high[0], high[1]));
        _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(high[0], high[1]));
      }
      r += 4;
      continue;
    }
    for (int64_t c = 0; c < p.cols; ++c) quad[c / 16 * p.panel_stride + c % 16 * 4 + token % 4] = codes[c];
    ++r;
  }
}

}  // namespace
}  // namespace octet::cpu

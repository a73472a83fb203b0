// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "octet/backend/cpu/kernels.h"

// Panels of sixteen rows, transposed (KernelTable::pack_rows), by blocks of eight by eight.
namespace octet::cpu {
namespace {

// out[c] = rows[0..8)[c] for eight columns.
inline void transpose_eight(const __m256 rows[8], __m256 out[8]) {
  __m256 pairs[8], quads[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0b01'00'01'00);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0b11'10'11'10);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0b01'00'01'00);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0b11'10'11'10);
  }
  for (int i = 0; i < 4; ++i) {
    out[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    out[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

inline void pack_row_panels(const PackPanels& p) {
  float* panel = p.panels;
  for (int64_t first = 0; first < p.rows; first += 16, panel += 16 * p.cols) {
    for (int64_t half = 0; half < 16; half += 8) {
      const int64_t valid = p.rows - first - half;
      for (int64_t c = 0; c < p.cols; c += 8) {
        const int64_t width = p.cols - c < 8 ? p.cols - c : 8;
        alignas(32) int32_t mask[8];
        for (int i = 0; i < 8; ++i) mask[i] = i < width ? -1 : 0;
        const __m256i lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(mask));
        __m256 rows[8], columns[8];
        for (int r = 0; r < 8; ++r) {
          rows[r] =
              r < valid ? _mm256_maskload_ps(p.source + (first + half + r) * p.stride + c, lanes) : _mm256_setzero_ps();
        }
        transpose_eight(rows, columns);
        for (int64_t i = 0; i < width; ++i) _mm256_storeu_ps(panel + (c + i) * 16 + half, columns[i]);
      }
    }
  }
}

}  // namespace
}  // namespace octet::cpu

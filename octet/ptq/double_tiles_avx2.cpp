// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "octet/ptq/double_tiles.h"

namespace octet {
namespace {

constexpr int kVectors = DoubleTile::kColumns / 4;

template <int rows, bool exact>
void add_rows(const DoubleTile& t) {
  __m256d sums[rows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm256_loadu_pd(t.c + r * t.c_row + 4 * v);
  }
  const double* a = t.a;
  const double* b = t.b;
  for (int64_t k = 0; k < t.depth; ++k, a += t.a_depth, b += DoubleTile::kColumns) {
    __m256d columns[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) columns[v] = _mm256_loadu_pd(b + 4 * v);
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
      const __m256d value = _mm256_broadcast_sd(a + r * t.a_row);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (exact) {
          sums[r][v] = _mm256_fmadd_pd(value, columns[v], sums[r][v]);
        } else {
          sums[r][v] = _mm256_add_pd(sums[r][v], _mm256_mul_pd(value, columns[v]));
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_pd(t.c + r * t.c_row + 4 * v, sums[r][v]);
  }
}

template <bool exact>
void add(const DoubleTile& t) {
  switch (t.rows) {
    case 1:
      return add_rows<1, exact>(t);
    case 2:
      return add_rows<2, exact>(t);
    case 3:
      return add_rows<3, exact>(t);
    default:
      return add_rows<4, exact>(t);
  }
}

}  // namespace

const DoubleTileKernels& avx2_double_tiles() {
  static constexpr DoubleTileKernels kKernels = {add<false>, add<true>};
  return kKernels;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Tiles of products in fp64, for one thread. As with the backend's kernels, files of an instruction set include
/// nothing with inline functions, so everything here is plain data.
namespace octet {

/// c[r][j] + Σ_k a[r][k] · b[k][j], k ascending, added to c one by one; r below `rows`, j below kColumns.
struct DoubleTile {
  static constexpr int kRows = 4;      ///< at most
  static constexpr int kColumns = 12;  ///< with 4 rows of AVX2 registers of four: 12 accumulators, 3 of b and 1 of a

  int rows = 0;
  int64_t depth = 0;
  const double* a = nullptr;  ///< a[r · a_row + k · a_depth]
  int64_t a_row = 0, a_depth = 0;
  const double* b = nullptr;  ///< [depth][kColumns]
  double* c = nullptr;        ///< c[r · c_row + j], all kColumns of them
  int64_t c_row = 0;
};

struct DoubleTileKernels {
  /// Products are rounded, then sums.
  void (*add)(const DoubleTile&);
  /// Where each product is exact in fp64, as that of two fp32 numbers is: by fma where there is one, which is the same.
  void (*add_exact)(const DoubleTile&);
};

#ifdef OCTET_HAS_AVX2
const DoubleTileKernels& avx2_double_tiles();
#endif

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "octet/ptq/double_tiles.h"

/// Linear algebra in fp64 whose bits are the same everywhere: no libraries' kernels that differ from processor to
/// processor and with the number of threads. Every element is one sum in a fixed order.
namespace octet {

/// The kernels of this processor, or of "ref".
const DoubleTileKernels& double_tiles();
const DoubleTileKernels& reference_double_tiles();

/// C[r][j] += Σ_k a[r][k] · b[k][j], k ascending, added to C one by one, each product rounded. One thread.
struct DoubleProduct {
  int64_t rows = 0, cols = 0, depth = 0;
  const double* a = nullptr;  ///< a[r · a_row + k]
  int64_t a_row = 0;
  const double* b = nullptr;  ///< b[k · b_depth + j · b_col]
  int64_t b_depth = 0, b_col = 1;
  double* c = nullptr;  ///< c[r · c_row + j]
  int64_t c_row = 0;
};
void add_product(const DoubleProduct& product);

/// The lower triangle of a symmetric positive definite matrix [n, n], row-major, becomes L of A = L · Lᵀ, what is above
/// it zeros. Returns false, with the matrix spoilt, if it is not positive definite.
bool cholesky(double* matrix, int64_t n, int threads);

/// The inverse of a lower triangular matrix [n, n] without zeros on its diagonal; `inverse` [n, n] is overwritten.
void invert_lower_triangle(const double* lower, double* inverse, int64_t n, int threads);

}  // namespace octet

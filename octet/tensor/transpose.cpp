// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/transpose.h"

#include <algorithm>
#include <cstring>

#include "octet/base/error.h"

namespace octet {
namespace {

template <size_t bytes>
void turn(const std::byte* from, std::byte* to, int64_t rows, int64_t cols) {
  // What a tile touches on both sides, 2 · 32 · 32 · 8 bytes at most, stays in the L1 cache.
  constexpr int64_t kTile = 32;
  for (int64_t r = 0; r < rows; r += kTile) {
    for (int64_t c = 0; c < cols; c += kTile) {
      const int64_t last_row = std::min(rows, r + kTile), last_col = std::min(cols, c + kTile);
      for (int64_t i = r; i < last_row; ++i) {
        for (int64_t j = c; j < last_col; ++j) {
          std::memcpy(to + static_cast<size_t>(j * rows + i) * bytes, from + static_cast<size_t>(i * cols + j) * bytes,
                      bytes);
        }
      }
    }
  }
}

}  // namespace

Tensor transposed(ConstTensorView matrix) {
  if (matrix.shape.rank() != 2)
    fail<ShapeError>("a tensor of shape {} cannot be turned around; two dimensions are needed",
                     to_string(matrix.shape));
  const int64_t rows = matrix.shape[0], cols = matrix.shape[1];
  Tensor out(matrix.dtype, {cols, rows});
  if (out.bytes() == 0) return out;  // of any number of rows
  std::byte* to = out.mutable_view().data;
  switch (byte_size(matrix.dtype)) {
    case 1:
      turn<1>(matrix.data, to, rows, cols);
      break;
    case 2:
      turn<2>(matrix.data, to, rows, cols);
      break;
    case 4:
      turn<4>(matrix.data, to, rows, cols);
      break;
    default:
      turn<8>(matrix.data, to, rows, cols);
      break;
  }
  return out;
}

}  // namespace octet

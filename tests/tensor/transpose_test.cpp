// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/transpose.h"

#include <cstring>

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

// Bytes 0, 1, 2, …, whatever the type makes of them.
Tensor counted(DType dtype, int64_t rows, int64_t cols) {
  Tensor out(dtype, {rows, cols});
  for (int64_t i = 0; i < out.bytes(); ++i) out.mutable_view().data[i] = static_cast<std::byte>(i * 31 % 253);
  return out;
}

TEST(Transpose, EveryElementOfEveryWidthFindsItsPlace) {
  for (const DType dtype : {DType::kI8, DType::kF16, DType::kBF16, DType::kI32, DType::kF32, DType::kF64}) {
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {1, 40}, {33, 1}, {31, 65}, {64, 32}}) {
      const Tensor matrix = counted(dtype, rows, cols), turned = transposed(matrix.view());
      ASSERT_EQ(turned.shape(), (Shape{cols, rows}));
      ASSERT_EQ(turned.dtype(), dtype);
      const auto width = static_cast<size_t>(byte_size(dtype));
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          const std::byte* const from = matrix.view().data + static_cast<size_t>(r * cols + c) * width;
          const std::byte* const to = turned.view().data + static_cast<size_t>(c * rows + r) * width;
          ASSERT_EQ(std::memcmp(from, to, width), 0) << name(dtype) << " " << rows << "×" << cols;
        }
      }
    }
  }
}

TEST(Transpose, EmptyMatricesOfAnyExtentCostNothing) {
  const Tensor wide = transposed(Tensor(DType::kF32, {0, int64_t{1} << 60}).view());
  EXPECT_EQ(wide.shape(), (Shape{int64_t{1} << 60, 0}));
}

TEST(Transpose, OnlyMatricesCanBeTurned) {
  EXPECT_THROW(transposed(Tensor(DType::kF32, {3}).view()), ShapeError);
  EXPECT_THROW(transposed(Tensor(DType::kF32, {1, 2, 3}).view()), ShapeError);
}

}  // namespace
}  // namespace octet

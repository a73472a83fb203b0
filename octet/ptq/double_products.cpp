// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/double_products.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <vector>

#include "octet/base/cpu.h"
#include "octet/base/parallel.h"

namespace octet {
namespace {

constexpr int kRows = DoubleTile::kRows, kColumns = DoubleTile::kColumns;

void add_plain(const DoubleTile& t) {
  // A tile of four columns at a time has its accumulators in registers, two to each.
  constexpr int kPart = 4;
  for (int first = 0; first < kColumns; first += kPart) {
    double sums[kRows][kPart] = {};
    for (int r = 0; r < t.rows; ++r) std::copy_n(t.c + r * t.c_row + first, kPart, sums[r]);
    for (int64_t k = 0; k < t.depth; ++k) {
      const double* b = t.b + k * kColumns + first;
      for (int r = 0; r < t.rows; ++r) {
        const double value = t.a[r * t.a_row + k * t.a_depth];
        for (int j = 0; j < kPart; ++j) sums[r][j] += value * b[j];
      }
    }
    for (int r = 0; r < t.rows; ++r) std::copy_n(sums[r], kPart, t.c + r * t.c_row + first);
  }
}

}  // namespace

const DoubleTileKernels& reference_double_tiles() {
  static constexpr DoubleTileKernels kKernels = {add_plain, add_plain};
  return kKernels;
}

const DoubleTileKernels& double_tiles() {
#ifdef OCTET_HAS_AVX2
  if (cpu_features().avx2) return avx2_double_tiles();
#endif
  return reference_double_tiles();
}

void add_product(const DoubleProduct& p) {
  // A strip of b of 24 KB and the rows of a that meet it stay in the L1 cache.
  constexpr int64_t kDepth = 256;
  const auto add = double_tiles().add;
  std::array<double, kDepth * kColumns> strip;
  std::array<double, kRows * kColumns> edge;
  for (int64_t k = 0; k < p.depth; k += kDepth) {
    const int64_t depth = std::min(kDepth, p.depth - k);
    for (int64_t j = 0; j < p.cols; j += kColumns) {
      const int64_t cols = std::min<int64_t>(kColumns, p.cols - j);
      for (int64_t i = 0; i < depth; ++i) {
        const double* b = p.b + (k + i) * p.b_depth + j * p.b_col;
        double* to = strip.data() + i * kColumns;
        for (int64_t c = 0; c < cols; ++c) to[c] = b[c * p.b_col];
        std::fill(to + cols, to + kColumns, 0.0);
      }
      for (int64_t r = 0; r < p.rows; r += kRows) {
        DoubleTile tile{.rows = static_cast<int>(std::min<int64_t>(kRows, p.rows - r)),
                        .depth = depth,
                        .a = p.a + r * p.a_row + k,
                        .a_row = p.a_row,
                        .a_depth = 1,
                        .b = strip.data(),
                        .c = p.c + r * p.c_row + j,
                        .c_row = p.c_row};
        if (cols == kColumns) {
          add(tile);
          continue;
        }
        double* const c = tile.c;
        edge.fill(0.0);
        for (int i = 0; i < tile.rows; ++i) std::copy_n(c + i * p.c_row, cols, edge.data() + i * kColumns);
        tile.c = edge.data();
        tile.c_row = kColumns;
        add(tile);
        for (int i = 0; i < tile.rows; ++i) std::copy_n(edge.data() + i * kColumns, cols, c + i * p.c_row);
      }
    }
  }
}

namespace {

// Columns that are taken together: their part of a row, and of the strip that it meets, stays in the L1 cache.
constexpr int64_t kBlock = 48;
// Rows of a task.
constexpr int64_t kTaskRows = 96;

}  // namespace

bool cholesky(double* matrix, int64_t n, int threads) {
  std::vector<double> negative(static_cast<size_t>(n * kBlock));  // of the block's columns
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t last = std::min(n, first + kBlock), width = last - first;
    for (int64_t i = first; i < last; ++i) {
      double* row = matrix + i * n;
      for (int64_t j = first; j <= i; ++j) {
        const double* other = matrix + j * n;
        double sum = row[j];
        for (int64_t k = first; k < j; ++k) sum += -row[k] * other[k];
        if (j < i) {
          row[j] = sum / other[j];
        } else {
          if (!(sum > 0.0) || !std::isfinite(sum)) return false;
          row[j] = std::sqrt(sum);
        }
      }
    }
    const int64_t tasks = (n - last + kTaskRows - 1) / kTaskRows;
    const auto rows_of = [&](int64_t task) {
      return std::pair(last + task * kTaskRows, std::min(n, last + (task + 1) * kTaskRows));
    };
    parallel_for(threads, tasks, [&](int64_t task, int) {
      const auto [begin, end] = rows_of(task);
      for (int64_t i = begin; i < end; ++i) {
        double* row = matrix + i * n;
        for (int64_t j = first; j < last; ++j) {
          const double* other = matrix + j * n;
          double sum = row[j];
          for (int64_t k = first; k < j; ++k) sum += -row[k] * other[k];
          row[j] = sum / other[j];
        }
        std::transform(row + first, row + last, negative.data() + i * kBlock, std::negate<>());
      }
    });
    parallel_for(threads, tasks, [&](int64_t task, int) {
      const auto [begin, end] = rows_of(task);
      // A little above the diagonal is computed too.
      add_product({.rows = end - begin,
                   .cols = end - last,
                   .depth = width,
                   .a = negative.data() + begin * kBlock,
                   .a_row = kBlock,
                   .b = matrix + last * n + first,
                   .b_depth = 1,
                   .b_col = n,
                   .c = matrix + begin * n + last,
                   .c_row = n});
    });
  }
  for (int64_t i = 0; i < n; ++i) std::fill(matrix + i * n + i + 1, matrix + (i + 1) * n, 0.0);
  return true;
}

void invert_lower_triangle(const double* lower, double* inverse, int64_t n, int threads) {
  std::fill_n(inverse, n * n, 0.0);
  std::vector<double> negative(static_cast<size_t>(n * n));
  std::transform(lower, lower + n * n, negative.begin(), std::negate<>());
  // Columns [begin, end) of the inverse are zero above row `begin`, and depend on nothing but the rows above them.
  parallel_for(threads, (n + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
    const int64_t begin = task * kTaskRows, end = std::min(n, begin + kTaskRows), cols = end - begin;
    for (int64_t first = begin; first < n; first += kBlock) {
      const int64_t last = std::min(n, first + kBlock);
      for (int64_t i = first; i < std::min(last, end); ++i) inverse[i * n + i] = 1.0;
      add_product({.rows = last - first,
                   .cols = cols,
                   .depth = first - begin,
                   .a = negative.data() + first * n + begin,
                   .a_row = n,
                   .b = inverse + begin * n + begin,
                   .b_depth = n,
                   .c = inverse + first * n + begin,
                   .c_row = n});
      for (int64_t i = first; i < last; ++i) {
        double* row = inverse + i * n + begin;
        for (int64_t k = first; k < i; ++k) {
          const double factor = negative[static_cast<size_t>(i * n + k)];
          const double* other = inverse + k * n + begin;
          for (int64_t c = 0; c < cols; ++c) row[c] += factor * other[c];
        }
        for (int64_t c = 0; c < cols; ++c) row[c] /= lower[i * n + i];
      }
    }
  });
}

}  // namespace octet

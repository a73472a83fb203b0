// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/input_statistics.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/finite.h"
#include "octet/base/parallel.h"
#include "octet/ptq/double_products.h"

namespace octet {
namespace {

constexpr int kRows = DoubleTile::kRows, kWidth = DoubleTile::kColumns;
// Rows that are widened at once: of a panel of columns 24 KB, which the L1 cache holds.
constexpr int64_t kChunk = 256;
// Panels of a task, on either side.
constexpr int64_t kTaskPanels = 8;

int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Columns of some rows, in the panel that they are widened into: zeros where there are less than kWidth.
struct Widening {
  const float* x;  // the first of them in the first row
  int64_t rows, stride, cols;
  double* to;  // [rows, kWidth]

  void run() const {
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = x + r * stride;
      double* row = to + r * kWidth;
      if (cols == kWidth) {
        for (int c = 0; c < kWidth; ++c) row[c] = from[c];
      } else {
        for (int c = 0; c < kWidth; ++c) row[c] = c < cols ? from[c] : 0.0;
      }
    }
  }

  // Adds to the sums of the columns. So many columns at once, that all of theirs are in registers.
  void add(double* sum, double* abs_sum, float* absmax) const {
    constexpr int kPart = 4;
    for (int first = 0; first < cols; first += kPart) {
      const int64_t count = std::min<int64_t>(kPart, cols - first);
      double sums[kPart] = {}, abs_sums[kPart] = {}, largest[kPart] = {};
      std::copy_n(sum + first, count, sums);
      std::copy_n(abs_sum + first, count, abs_sums);
      std::copy_n(absmax + first, count, largest);
      for (int64_t r = 0; r < rows; ++r) {
        for (int c = 0; c < kPart; ++c) {
          const double value = to[r * kWidth + first + c], magnitude = std::fabs(value);
          sums[c] += value;
          abs_sums[c] += magnitude;
          largest[c] = std::max(largest[c], magnitude);
        }
      }
      std::copy_n(sums, count, sum + first);
      std::copy_n(abs_sums, count, abs_sum + first);
      std::transform(largest, largest + count, absmax + first, [](double m) { return static_cast<float>(m); });
    }
  }
};

}  // namespace

InputStatistics::InputStatistics(int64_t inputs, int threads)
    : inputs_(inputs), threads_(threads == 0 ? available_threads() : threads) {
  if (inputs < 1) fail<ShapeError>("statistics of {} inputs", inputs);
  hessian_.resize(static_cast<size_t>(checked_mul(inputs, inputs)));
  abs_sum_.resize(static_cast<size_t>(inputs));
  sum_.resize(static_cast<size_t>(inputs));
  absmax_.resize(static_cast<size_t>(inputs));
}

void InputStatistics::add(std::span<const float> rows) {
  if (rows.size() % static_cast<size_t>(inputs_) != 0) {
    fail<ShapeError>("{} values are no whole rows of {} inputs", rows.size(), inputs_);
  }
  if (const auto bad = first_not_finite(rows))
    fail<NumericError>("row {}, column {} of the inputs is {}", *bad / inputs_, *bad % inputs_, rows[*bad]);
  const int64_t count = std::ssize(rows) / inputs_, panels = blocks_of(inputs_, kWidth);
  const int64_t blocks = blocks_of(panels, kTaskPanels);
  const auto add_exact = double_tiles().add_exact;
  std::vector<double> widened(static_cast<size_t>(std::min(kChunk, count) * panels * kWidth));
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t chunk = std::min(kChunk, count - first);
    const bool last = first + chunk == count;
    const auto panel = [&](int64_t index) { return widened.data() + index * chunk * kWidth; };
    parallel_for(threads_, blocks, [&](int64_t block, int) {
      for (int64_t p = block * kTaskPanels; p < std::min(panels, (block + 1) * kTaskPanels); ++p) {
        const int64_t begin = p * kWidth;
        const Widening widening = {.x = rows.data() + first * inputs_ + begin,
                                   .rows = chunk,
                                   .stride = inputs_,
                                   .cols = std::min<int64_t>(kWidth, inputs_ - begin),
                                   .to = panel(p)};
        widening.run();
        widening.add(sum_.data() + begin, abs_sum_.data() + begin, absmax_.data() + begin);
      }
    });
    // Blocks of the upper triangle; the lower one is a copy.
    parallel_for(threads_, blocks * (blocks + 1) / 2, [&](int64_t task, int) {
      int64_t below = 0;
      while (task >= blocks - below) task -= blocks - below++;
      const int64_t right = below + task;
      std::array<double, kWidth * kWidth> sums;
      for (int64_t q = right * kTaskPanels; q < std::min(panels, (right + 1) * kTaskPanels); ++q) {
        for (int64_t p = below * kTaskPanels; p < std::min(q + 1, (below + 1) * kTaskPanels); ++p) {
          const int64_t height = std::min<int64_t>(kWidth, inputs_ - p * kWidth);
          const int64_t width = std::min<int64_t>(kWidth, inputs_ - q * kWidth);
          double* const h = hessian_.data() + p * kWidth * inputs_ + q * kWidth;
          const auto add_to = [&](double* c, int64_t c_row) {
            for (int i = 0; i < kWidth; i += kRows) {
              add_exact({.rows = kRows,
                         .depth = chunk,
                         .a = panel(p) + i,
                         .a_row = 1,
                         .a_depth = kWidth,
                         .b = panel(q),
                         .c = c + i * c_row,
                         .c_row = c_row});
            }
          };
          if (height == kWidth && width == kWidth) {
            add_to(h, inputs_);
          } else {
            sums.fill(0.0);
            for (int64_t i = 0; i < height; ++i) std::copy_n(h + i * inputs_, width, sums.data() + i * kWidth);
            add_to(sums.data(), kWidth);
            for (int64_t i = 0; i < height; ++i) std::copy_n(sums.data() + i * kWidth, width, h + i * inputs_);
          }
          if (!last || p == q) continue;
          double* const mirrored = hessian_.data() + q * kWidth * inputs_ + p * kWidth;
          for (int64_t j = 0; j < width; ++j) {
            for (int64_t i = 0; i < height; ++i) mirrored[j * inputs_ + i] = h[i * inputs_ + j];
          }
        }
      }
    });
  }
  rows_ += count;
}

}  // namespace octet

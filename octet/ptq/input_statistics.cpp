// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/input_statistics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "octet/base/checked.h"
#include "octet/base/error.h"
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

void check_finite(std::span<const float> rows, int64_t inputs) {
  // Of magnitudes the bits are ordered as the numbers are; a loop without an exit can be vectorized.
  uint32_t largest = 0;
  for (const float x : rows) largest = std::max(largest, std::bit_cast<uint32_t>(x) & 0x7fffffffu);
  if (std::isfinite(std::bit_cast<float>(largest))) return;
  const auto bad = std::ranges::find_if(rows, [](float x) { return !std::isfinite(x); }) - rows.begin();
  fail<NumericError>("row {}, column {} of the inputs is {}", bad / inputs, bad % inputs, rows[bad]);
}

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
  check_finite(rows, inputs_);
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
        const int64_t begin = p * kWidth, cols = std::min<int64_t>(kWidth, inputs_ - begin);
        for (int64_t r = 0; r < chunk; ++r) {
          const float* x = rows.data() + (first + r) * inputs_ + begin;
          double* to = panel(p) + r * kWidth;
          for (int64_t c = 0; c < cols; ++c) {
            const float magnitude = std::fabs(x[c]);
            to[c] = x[c];
            sum_[begin + c] += x[c];
            abs_sum_[begin + c] += magnitude;
            absmax_[begin + c] = std::max(absmax_[begin + c], magnitude);
          }
          std::fill(to + cols, to + kWidth, 0.0);
        }
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
          sums.fill(0.0);
          for (int64_t i = 0; i < height; ++i) std::copy_n(h + i * inputs_, width, sums.data() + i * kWidth);
          for (int i = 0; i < kWidth; i += kRows) {
            add_exact({.rows = kRows,
                       .depth = chunk,
                       .a = panel(p) + i,
                       .a_row = 1,
                       .a_depth = kWidth,
                       .b = panel(q),
                       .c = sums.data() + i * kWidth,
                       .c_row = kWidth});
          }
          for (int64_t i = 0; i < height; ++i) std::copy_n(sums.data() + i * kWidth, width, h + i * inputs_);
          if (!last || p == q) continue;
          double* const mirrored = hessian_.data() + q * kWidth * inputs_ + p * kWidth;
          for (int64_t j = 0; j < width; ++j) {
            for (int64_t i = 0; i < height; ++i) mirrored[j * inputs_ + i] = sums[i * kWidth + j];
          }
        }
      }
    });
  }
  rows_ += count;
}

}  // namespace octet

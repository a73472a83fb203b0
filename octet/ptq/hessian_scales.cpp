// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/hessian_scales.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "octet/base/parallel.h"
#include "octet/ptq/double_products.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

constexpr int64_t kTaskRows = 32;
constexpr int kCoarse = 4;  // hundredths

// Some rows of the weight, whose errors are minimized row by row. What concerns a group is [count, width].
class RowsOfWeight {
 public:
  RowsOfWeight(std::span<const float> weight, int64_t first, int64_t count, const InputStatistics& statistics,
               QTensor& out)
      : weight_(weight.data() + first * statistics.inputs()),
        first_(first),
        count_(count),
        cols_(statistics.inputs()),
        width_(out.scheme.group_size == 0 ? cols_ : out.scheme.group_size),
        hessian_(statistics.hessian().data()),
        out_(out),
        errors_(static_cast<size_t>(count * cols_)),
        from_others_(static_cast<size_t>(count * width_)),
        tried_errors_(from_others_.size()),
        products_(from_others_.size()),
        tried_codes_(from_others_.size()) {}

  void minimize() {
    for (int64_t g = 0; g < out_.groups(); ++g) {
      for (int64_t r = 0; r < count_; ++r) {
        set_group_grid(out_, first_ + r, g, find_group_grid(values(r, g), out_.scheme));
        encode_on(r, g, group_grid(out_, first_ + r, g));
        std::ranges::copy(tried_codes(r), codes(r, g).begin());
        std::ranges::copy(tried_errors(r), errors(r, g).begin());
      }
    }
    for (int64_t g = 0; g < out_.groups(); ++g) minimize(g);
  }

 private:
  void minimize(int64_t g) {
    add_from_others(g);
    std::vector<double> least(static_cast<size_t>(count_), std::numeric_limits<double>::infinity());
    std::vector<int> best(static_cast<size_t>(count_), kLargestShare), share(best);
    std::vector<GroupGrid> grids;
    for (int64_t r = 0; r < count_; ++r) grids.push_back(group_grid(out_, first_ + r, g));
    const auto try_grids = [&] {
      for (int64_t r = 0; r < count_; ++r) encode_on(r, g, grids[r]);
      const std::vector<double> sums = sums_of_errors(g);
      for (int64_t r = 0; r < count_; ++r) {
        if (!(sums[r] < least[r])) continue;
        least[r] = sums[r];
        best[r] = share[r];
        set_group_grid(out_, first_ + r, g, grids[r]);
        std::ranges::copy(tried_codes(r), codes(r, g).begin());
        std::ranges::copy(tried_errors(r), errors(r, g).begin());
      }
    };
    const auto try_shares = [&] {
      for (int64_t r = 0; r < count_; ++r) grids[r] = shortened_group_grid(values(r, g), out_.scheme, share[r]);
      try_grids();
    };
    try_grids();
    const int smallest = smallest_share(out_.scheme);
    for (int hundredths = kLargestShare; hundredths >= smallest; hundredths -= kCoarse) {
      std::ranges::fill(share, hundredths);
      try_shares();
    }
    const std::vector<int> around = best;
    for (int step = -kCoarse + 1; step < kCoarse; ++step) {
      if (step == 0) continue;
      std::ranges::transform(around, share.begin(),
                             [step, smallest](int at) { return std::clamp(at + step, smallest, kLargestShare); });
      try_shares();
    }
  }

  // Of each row: 2 · Σ over other groups of error · H[their columns, the group's].
  void add_from_others(int64_t g) {
    const int64_t begin = g * width_, end = begin + width_;
    std::ranges::fill(from_others_, 0.0);
    const auto add = [&](int64_t from, int64_t to) {
      add_product({.rows = count_,
                   .cols = width_,
                   .depth = to - from,
                   .a = errors_.data() + from,
                   .a_row = cols_,
                   .b = hessian_ + from * cols_ + begin,
                   .b_depth = cols_,
                   .c = from_others_.data(),
                   .c_row = width_});
    };
    add(0, begin);
    add(end, cols_);
    for (double& value : from_others_) value *= 2;
  }

  // What a row's group adds to the row's error, by the errors that are tried: e · H · eᵀ + e · from_others.
  std::vector<double> sums_of_errors(int64_t g) {
    products_ = from_others_;
    add_product({.rows = count_,
                 .cols = width_,
                 .depth = width_,
                 .a = tried_errors_.data(),
                 .a_row = width_,
                 .b = hessian_ + g * width_ * (cols_ + 1),
                 .b_depth = cols_,
                 .c = products_.data(),
                 .c_row = width_});
    std::vector<double> sums(static_cast<size_t>(count_));
    for (int64_t r = 0; r < count_; ++r) {
      for (int64_t i = r * width_; i < (r + 1) * width_; ++i) sums[r] += products_[i] * tried_errors_[i];
    }
    return sums;
  }

  void encode_on(int64_t r, int64_t g, const GroupGrid& grid) {
    const std::span<const float> x = values(r, g);
    const std::span<int8_t> made = tried_codes(r);
    encode_group(x, grid, out_.scheme, made);
    for (int64_t i = 0; i < width_; ++i) tried_errors(r)[i] = x[i] - decode(made[i], grid);
  }

  std::span<const float> values(int64_t r, int64_t g) const {
    return {weight_ + r * cols_ + g * width_, static_cast<size_t>(width_)};
  }
  std::span<double> errors(int64_t r, int64_t g) { return std::span(errors_).subspan(r * cols_ + g * width_, width_); }
  std::span<int8_t> codes(int64_t r, int64_t g) {
    return out_.codes.mutable_as<int8_t>().subspan((first_ + r) * cols_ + g * width_, width_);
  }
  std::span<double> tried_errors(int64_t r) { return std::span(tried_errors_).subspan(r * width_, width_); }
  std::span<int8_t> tried_codes(int64_t r) { return std::span(tried_codes_).subspan(r * width_, width_); }

  const float* weight_;
  int64_t first_, count_, cols_, width_;
  const double* hessian_;
  QTensor& out_;
  std::vector<double> errors_;  // [count, inputs]
  std::vector<double> from_others_, tried_errors_, products_;
  std::vector<int8_t> tried_codes_;
};

}  // namespace

QuantizedWeight hessian_scales(std::span<const float> weight, int64_t rows, const WeightScheme& scheme,
                               const InputStatistics& statistics, int threads) {
  QuantizedWeight out{.tensor = make_qtensor(scheme, rows, statistics.inputs())};
  parallel_for(threads, (rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
    const int64_t first = task * kTaskRows;
    RowsOfWeight(weight, first, std::min(kTaskRows, rows - first), statistics, out.tensor).minimize();
  });
  return out;
}

}  // namespace octet

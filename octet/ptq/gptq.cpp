// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/gptq.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/ptq/double_products.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

// Rows of a task: its part of a weight of 4,096 inputs is 1 MB, which the L2 cache holds while strips of U go by.
constexpr int64_t kTaskRows = 32;

// What later columns need to know of H.
struct InverseFactor {
  std::vector<double> upper;  // U [inputs, inputs], H⁻¹ = Uᵀ · U, in the order of columns that was asked for
  double damping = 0;         // as a share of the mean of the diagonal
  int64_t dead = 0;
};

InverseFactor factorize(const InputStatistics& statistics, std::span<const int64_t> order, double percdamp,
                        int threads) {
  const int64_t n = statistics.inputs();
  const std::span<const double> hessian = statistics.hessian();
  InverseFactor out;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += hessian[i * n + i];
    out.dead += hessian[i * n + i] == 0 ? 1 : 0;
  }
  const double mean = out.dead == n ? 1.0 : sum / static_cast<double>(n - out.dead);

  // With J turning an order around, J · H · J = L · Lᵀ gives H = (J L J) · (J L J)ᵀ, and so U = (J · L · J)⁻¹ =
  // J · L⁻¹ · J: one factorization and one triangular inverse, and H⁻¹ itself is never made.
  out.upper.resize(static_cast<size_t>(n * n));
  std::vector<double> lower(static_cast<size_t>(n * n));
  // Where none was asked for, the first that helps: a millionth of the mean is far above fp64's rounding.
  constexpr double kLeastDamping = 1e-7;
  for (out.damping = percdamp;; out.damping = 10 * std::max(out.damping, kLeastDamping)) {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t row = order[n - 1 - i];
      for (int64_t j = 0; j < n; ++j) lower[i * n + j] = hessian[row * n + order[n - 1 - j]];
      double& diagonal = lower[i * n + i];
      diagonal = (diagonal == 0 ? mean : diagonal) + out.damping * mean;
    }
    if (cholesky(lower.data(), n, threads)) break;
  }
  invert_lower_triangle(lower.data(), out.upper.data(), n, threads);
  std::ranges::reverse(out.upper);
  return out;
}

float to_float(double x) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(x, -kLargest, kLargest));
}

class Gptq {
 public:
  Gptq(std::span<const float> weight, const WeightScheme& scheme, const WeightAlgorithmOptions& options,
       std::span<const int64_t> order, std::span<const double> upper, QTensor& out)
      : weight_(weight),
        scheme_(scheme),
        order_(order),
        upper_(upper),
        cols_(std::ssize(order)),
        width_(scheme.group_size == 0 ? cols_ : scheme.group_size),
        block_size_(options.block_size),
        static_(options.static_groups || scheme.group_size == 0),
        out_(out) {}

  // Rows [first, first + count), each of which depends on no other.
  void quantize(int64_t first, int64_t count) {
    std::vector<double> values(static_cast<size_t>(count * cols_));  // in the order of quantizing
    std::vector<double> errors(static_cast<size_t>(count * block_size_));
    std::vector<GroupGrid> grids(static_cast<size_t>(count * scheme_.groups(cols_)));
    for (int64_t r = 0; r < count; ++r) {
      const float* row = weight_.data() + (first + r) * cols_;
      for (int64_t i = 0; i < cols_; ++i) values[r * cols_ + i] = row[order_[i]];
      if (static_) {
        for (int64_t g = 0; g < scheme_.groups(cols_); ++g) {
          grids[r * scheme_.groups(cols_) + g] =
              find_group_grid({row + g * width_, static_cast<size_t>(width_)}, scheme_);
        }
      }
    }
    int8_t* const codes = out_.codes.mutable_as<int8_t>().data();
    for (int64_t begin = 0; begin < cols_;) {
      const int64_t end = block_end(begin);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t column = order_[i], group = (static_ ? column : i) / width_;
        const double* row_of_upper = upper_.data() + i * cols_;
        for (int64_t r = 0; r < count; ++r) {
          double* w = values.data() + r * cols_;
          GroupGrid& grid = grids[r * scheme_.groups(cols_) + group];
          if (!static_ && i % width_ == 0) grid = grid_of({w + i, static_cast<size_t>(width_)});
          const float value = to_float(w[i]);
          int8_t& code = codes[(first + r) * cols_ + column];
          encode_group({&value, 1}, grid, scheme_, {&code, 1});
          const double error = -(w[i] - decode(code, grid)) / row_of_upper[i];
          errors[r * block_size_ + i - begin] = error;
          for (int64_t j = i + 1; j < end; ++j) w[j] += error * row_of_upper[j];
        }
      }
      add_product({.rows = count,
                   .cols = cols_ - end,
                   .depth = end - begin,
                   .a = errors.data(),
                   .a_row = block_size_,
                   .b = upper_.data() + begin * cols_ + end,
                   .b_depth = cols_,
                   .c = values.data() + end,
                   .c_row = cols_});
      begin = end;
    }
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t g = 0; g < scheme_.groups(cols_); ++g)
        set_group_grid(out_, first + r, g, grids[r * scheme_.groups(cols_) + g]);
    }
  }

 private:
  // A block ends where a group does if it has room for that: a group's columns must all be up to date when its grid is
  // found. So the size of blocks changes no bit.
  int64_t block_end(int64_t begin) const {
    const int64_t end = std::min(cols_, begin + block_size_);
    if (static_ || end == cols_) return end;
    const int64_t whole_groups = end / width_ * width_;
    return whole_groups > begin ? whole_groups : end;
  }

  GroupGrid grid_of(std::span<const double> values) const {
    std::vector<float> floats(values.size());
    std::ranges::transform(values, floats.begin(), to_float);
    return find_group_grid(floats, scheme_);
  }

  std::span<const float> weight_;
  const WeightScheme& scheme_;
  std::span<const int64_t> order_;
  std::span<const double> upper_;
  int64_t cols_, width_, block_size_;
  bool static_;
  QTensor& out_;
};

}  // namespace

std::vector<int64_t> columns_by_importance(const InputStatistics& statistics) {
  std::vector<int64_t> order(static_cast<size_t>(statistics.inputs()));
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto importance = [&](int64_t i) { return statistics.hessian()[i * statistics.inputs() + i]; };
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return importance(a) > importance(b); });
  return order;
}

QuantizedWeight gptq(std::span<const float> weight, int64_t rows, const WeightScheme& scheme,
                     const WeightAlgorithmOptions& options, const InputStatistics& statistics, int64_t outliers,
                     const std::string& what, int threads) {
  if (options.block_size < 1)
    fail<UsageError>("{}: GPTQ in blocks of {} columns; 1 or more are possible", what, options.block_size);
  // Written so that NaN fails.
  if (!(options.percdamp >= 0 && options.percdamp <= 1)) {
    fail<UsageError>("{}: GPTQ's percdamp is {}; 0 to 1 is possible, 0.01 is usual", what, options.percdamp);
  }
  const int64_t cols = statistics.inputs();
  std::vector<int64_t> order(static_cast<size_t>(cols));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (options.act_order) order = columns_by_importance(statistics);
  const InverseFactor factor = factorize(statistics, order, options.percdamp, threads);

  QuantizedWeight out{.tensor = make_qtensor(resulting_scheme(scheme, options), rows, cols)};
  if (out.tensor.scheme.reordered) {
    const std::span<int32_t> group_index = out.tensor.group_index.mutable_as<int32_t>();
    for (int64_t i = 0; i < cols; ++i) group_index[order[i]] = static_cast<int32_t>(i / scheme.group_size);
  }
  Gptq state(weight, scheme, options, order, factor.upper, out.tensor);
  parallel_for(threads, (rows + kTaskRows - 1) / kTaskRows, [&](int64_t task, int) {
    state.quantize(task * kTaskRows, std::min(kTaskRows, rows - task * kTaskRows));
  });

  if (const int64_t dead = factor.dead - outliers; dead != 0) {
    out.notes.push_back(fmt::format("{} dead column{}: {} inputs always 0, rounded to nearest", dead,
                                    dead == 1 ? "" : "s", dead == 1 ? "its" : "their"));
  }
  if (statistics.rows() < cols - outliers) {
    out.notes.push_back(fmt::format("{} rows of calibration for {} inputs: damping decides the rest", statistics.rows(),
                                    cols - outliers));
  }
  if (factor.damping != options.percdamp) {
    out.notes.push_back(
        fmt::format("Hessian not positive definite: percdamp raised from {} to {}", options.percdamp, factor.damping));
  }
  return out;
}

}  // namespace octet

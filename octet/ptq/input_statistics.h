// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace octet {

/// What the inputs of a layer, or of a site that several layers read, were like over calibration:
///
///   H = Σ x xᵀ   [inputs, inputs]   of all rows x, in fp64
///
/// and for each column its largest magnitude, Σ|x| and Σ x. A row is added after the one before it, so that the bits
/// depend neither on threads nor on how rows were portioned; nor on the processor, as the product of two fp32 numbers
/// is exact in fp64.
class InputStatistics {
 public:
  /// Takes inputs² · 8 bytes. `threads` 0: as many as there are.
  explicit InputStatistics(int64_t inputs, int threads = 0);

  /// Adds rows [n, inputs], any n. Throws ShapeError unless `rows` is whole rows, and NumericError, with nothing added,
  /// that names the first row and column of them that hold NaN or infinity.
  void add(std::span<const float> rows);

  int64_t inputs() const noexcept { return inputs_; }
  int64_t rows() const noexcept { return rows_; }
  /// [inputs, inputs], symmetric: the sum, not the mean.
  std::span<const double> hessian() const noexcept { return hessian_; }
  std::span<const float> absmax() const noexcept { return absmax_; }
  std::span<const double> abs_sum() const noexcept { return abs_sum_; }
  std::span<const double> sum() const noexcept { return sum_; }

 private:
  int64_t inputs_;
  int threads_;
  int64_t rows_ = 0;
  std::vector<double> hessian_, abs_sum_, sum_;
  std::vector<float> absmax_;
};

}  // namespace octet

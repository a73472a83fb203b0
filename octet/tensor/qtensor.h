// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "octet/tensor/scheme.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// The canonical quantized weight, with g = i / group_size, or group_index[i] where the scheme is reordered:
///
///   value[o, i] = (codes[o, i] - zero_points[o, g]) · scales[o, g], or fma(codes[o, i], scales[o, g], minima[o, g])
///
///   codes        [out, in]      I8, one to a byte whatever their bits; ranges as WeightScheme says
///   scales       [out, groups]  F32, finite, any sign; groups = 1 where a whole row shares one
///   zero_points  [out, groups]  I8, a code of the scheme; without elements unless the scheme has them
///   minima       [out, groups]  F32, finite; without elements unless the scheme has them
///   group_index  [in]           I32, the group of each column; without elements unless the scheme is reordered. Every
///                               group has group_size columns, whichever they are; codes stay in the order of columns
///
/// Where the scheme has outliers, columns that are 16-bit floats instead: value[o, outlier_columns[j]] = outliers[o,
/// j].
///
///   outlier_columns  [n]       I32, ascending; n may be 0. Their codes are 0, or the zero point
///   outliers         [out, n]  F16 or BF16, finite
///
/// Every quantizer makes one, every reader and writer of files speaks it, every backend packs from it.
struct QTensor {
  WeightScheme scheme;
  Tensor codes;
  Tensor scales;
  Tensor zero_points = {};
  Tensor minima = {};
  Tensor group_index = {};
  Tensor outlier_columns = {};
  Tensor outliers = {};

  int64_t rows() const noexcept { return codes.shape()[0]; }
  int64_t cols() const noexcept { return codes.shape()[1]; }
  int64_t groups() const noexcept { return scheme.groups(cols()); }
  int64_t bytes() const noexcept {
    return codes.bytes() + scales.bytes() + zero_points.bytes() + minima.bytes() + group_index.bytes() +
           outlier_columns.bytes() + outliers.bytes();
  }
  /// Without elements where the scheme has no outliers.
  std::span<const int32_t> outlier_indices() const {
    return outlier_columns.bytes() == 0 ? std::span<const int32_t>() : outlier_columns.as<int32_t>();
  }
};

/// Throws ShapeError or NumericError, naming the tensor as `what`, unless `tensor` is as described above.
void check(const QTensor& tensor, const std::string& what);
/// Throws ShapeError unless the group index of a weight of `inputs` inputs is: groups of as many columns each, or none
/// where the scheme is not reordered.
void check_group_index(const QTensor& tensor, int64_t inputs, const std::string& what);
/// Throws ShapeError unless `columns` ascend from 0 on and below `inputs`.
void check_outlier_columns(std::span<const int32_t> columns, int64_t inputs, const std::string& what);
/// A copy that owns its memory.
QTensor copy_of(const QTensor& tensor);
/// Throws NumericError, naming the site as `what`, for a scale that is not finite or below 2^-100, the least that
/// quantizers make, or a zero point that the mode has not.
void check(const ActivationScale& scale, ActivationMode mode, const std::string& what);
/// Throws ShapeError, naming the tensor as `what`, for a scheme that no weight of `inputs` inputs can have.
void check(const WeightScheme& scheme, int64_t inputs, const std::string& what);

}  // namespace octet

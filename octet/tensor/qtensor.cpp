// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/qtensor.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "octet/base/error.h"
#include "octet/tensor/half.h"

namespace octet {
namespace {

void check_range(std::span<const int8_t> codes, CodeRange range, const char* kind, const std::string& what) {
  const auto above_lowest = [range](int8_t code) { return static_cast<uint8_t>(code - range.lowest); };
  const auto allowed = static_cast<uint8_t>(range.highest - range.lowest);
  uint8_t most = 0;  // a loop without an exit can be vectorized
  for (const int8_t code : codes) most = std::max(most, above_lowest(code));
  if (most <= allowed) return;
  const auto bad = std::find_if(codes.begin(), codes.end(), [&](int8_t code) { return above_lowest(code) > allowed; });
  fail<NumericError>("{}: holds the {} {}; {}s lie in [{}, {}]", what, kind, *bad, kind, range.lowest, range.highest);
}

void check_finite(std::span<const float> values, const char* kind, const std::string& what) {
  const auto bad = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (bad != values.end()) fail<NumericError>("{}: a {} is {}", what, kind, *bad);
}

// What lies beside the scales: one for each of them, or none where the scheme has no such thing.
void check_beside_scales(const Tensor& tensor, bool wanted, const Shape& per_group, const char* kind,
                         const std::string& what) {
  if (!wanted && tensor.shape().elements() != 0)
    fail<ShapeError>("{}: a weight with {} by a scheme without", what, kind);
  if (wanted && tensor.shape() != per_group) {
    fail<ShapeError>("{}: {} of shape {}; {} is needed", what, kind, to_string(tensor.shape()), to_string(per_group));
  }
}

template <class Sixteen>
void check_finite_outliers(std::span<const Sixteen> values, const std::string& what) {
  for (const Sixteen value : values) {
    if (!std::isfinite(to_float(value))) fail<NumericError>("{}: an outlier column holds {}", what, to_float(value));
  }
}

// Shapes and values, and that nothing is said twice: the codes there stand for 0, but for a minimum.
void check_outliers(const QTensor& tensor, const std::string& what) {
  const Tensor &columns = tensor.outlier_columns, &values = tensor.outliers;
  if (!tensor.scheme.outliers) {
    if (columns.shape().elements() != 0 || values.shape().elements() != 0)
      fail<ShapeError>("{}: a weight with outlier columns by a scheme without", what);
    return;
  }
  if (columns.dtype() != DType::kI32 || columns.shape().rank() != 1 || columns.shape()[0] > tensor.cols()) {
    fail<ShapeError>("{}: outlier columns are {} {}; I32 of one dimension, of at most {} elements, is needed", what,
                     name(columns.dtype()), to_string(columns.shape()), tensor.cols());
  }
  const Shape wanted{tensor.rows(), columns.shape()[0]};
  if ((values.dtype() != DType::kF16 && values.dtype() != DType::kBF16) || values.shape() != wanted) {
    fail<ShapeError>("{}: outliers are {} {}; F16 or BF16 {} is needed", what, name(values.dtype()),
                     to_string(values.shape()), to_string(wanted));
  }
  const std::span<const int32_t> indices = tensor.outlier_indices();
  check_outlier_columns(indices, tensor.cols(), what);
  if (indices.empty()) return;
  if (values.dtype() == DType::kF16) {
    check_finite_outliers(values.as<Half>(), what);
  } else {
    check_finite_outliers(values.as<BFloat16>(), what);
  }
  const int8_t* codes = tensor.codes.as<int8_t>().data();
  const int64_t groups = tensor.groups(), group_size = tensor.cols() / groups;
  for (int64_t row = 0; row < tensor.rows(); ++row, codes += tensor.cols()) {
    for (const int32_t column : indices) {
      int8_t expected = 0;
      if (tensor.scheme.mapping == CodeMapping::kZeroPoint) {
        const int64_t group = tensor.scheme.reordered ? tensor.group_index.as<int32_t>()[column] : column / group_size;
        expected = tensor.zero_points.as<int8_t>()[row * groups + group];
      }
      if (codes[column] != expected) {
        fail<NumericError>("{}: the code {} in outlier column {}, where {} stands for nothing", what, codes[column],
                           column, expected);
      }
    }
  }
}

const char* beside_scales(CodeMapping mapping) {
  switch (mapping) {
    case CodeMapping::kSymmetric:
      return "";
    case CodeMapping::kZeroPoint:
      return " with zero points";
    case CodeMapping::kMinimum:
      return " with minima";
  }
  return "";
}

// "int4", or of fewer bits than codes are stored in "int3 weights (as int4 codes)".
std::string name_of_codes(const char* sign, int used_bits, int bits, const char* what) {
  return used_bits == bits ? fmt::format("{}int{} {}", sign, bits, what)
                           : fmt::format("{}int{} {} (as {}int{} codes)", sign, used_bits, what, sign, bits);
}

std::string to_string(ActivationMode mode, int bits) {
  if (!is_static(mode)) return to_string(mode);
  return name_of_codes(mode == ActivationMode::kStaticPerTensor ? "" : "u", bits, 8, "activations") +
         " per tensor, static";
}

}  // namespace

std::string to_string(ActivationMode mode) {
  switch (mode) {
    case ActivationMode::kFloat:
      return "float activations";
    case ActivationMode::kDynamicPerToken:
      return "int8 activations per token, dynamic";
    case ActivationMode::kStaticPerTensor:
      return "int8 activations per tensor, static";
    case ActivationMode::kStaticPerTensorZeroPoint:
      return "uint8 activations per tensor, static";
  }
  return "";
}

std::string to_string(const Scheme& scheme) {
  const WeightScheme& weight = scheme.weight;
  return fmt::format("{} {}{}{}, {}", name_of_codes("", weight.used_bits(), weight.bits, "weights"),
                     weight.group_size == 0 ? "per channel"
                                            : fmt::format("in groups of {}{}", weight.group_size,
                                                          weight.reordered ? " reordered columns" : ""),
                     beside_scales(weight.mapping), weight.outliers ? " and outlier columns in 16 bits" : "",
                     to_string(scheme.activations, scheme.activation_bits));
}

void check(const ActivationScale& scale, ActivationMode mode, const std::string& what) {
  // Written so that NaN fails.
  if (!(scale.scale >= 0x1p-100f) || std::isinf(scale.scale)) {
    fail<NumericError>("{}: the activation scale {}; finite ones from 2^-100 on are supported", what, scale.scale);
  }
  if (scale.bits < 2 || scale.bits > 8)
    fail<NumericError>("{}: activations of {} bits; 2 to 8 are supported", what, scale.bits);
  const int highest = mode == ActivationMode::kStaticPerTensorZeroPoint ? code_range(mode, scale).steps() : 0;
  if (scale.zero_point < 0 || scale.zero_point > highest) {
    fail<NumericError>("{}: the activation zero point {}; {} is what can be had here", what, scale.zero_point,
                       highest == 0 ? "0 (symmetric)" : fmt::format("0 to {}", highest));
  }
}

void check(const WeightScheme& scheme, int64_t inputs, const std::string& what) {
  if (scheme.bits != 8 && scheme.bits != 4)
    fail<ShapeError>("{}: {}-bit codes; 8 or 4 are supported", what, scheme.bits);
  // Any more, and the next narrower codes would hold them.
  if (scheme.unused_bits < 0 || scheme.unused_bits > (scheme.bits == 8 ? 3 : 2)) {
    fail<ShapeError>("{}: {} of {} bits unused; 2 to 8 bits are supported, up to 4 of them in 4-bit codes", what,
                     scheme.unused_bits, scheme.bits);
  }
  if (scheme.bits == 8 && scheme.mapping == CodeMapping::kMinimum) {
    fail<ShapeError>("{}: 8-bit weights{}; they are symmetric or have zero points", what,
                     beside_scales(scheme.mapping));
  }
  const int64_t group = scheme.group_size;
  if (group != 0 && group != 32 && group != 64 && group != 128 && group != 256) {
    fail<ShapeError>("{}: groups of {}; 32, 64, 128, 256 or a whole row are supported", what, group);
  }
  if (group != 0 && inputs % group != 0) {
    fail<ShapeError>("{}: its {} inputs are not a multiple of the group size {}", what, inputs, group);
  }
  if (group == 0 && scheme.reordered) {
    fail<ShapeError>("{}: reordered columns without groups; one scale a row needs no order", what);
  }
}

void check(const QTensor& tensor, const std::string& what) {
  if (tensor.codes.shape().rank() != 2) {
    fail<ShapeError>("{}: codes of shape {}; two dimensions are needed", what, to_string(tensor.codes.shape()));
  }
  check(tensor.scheme, tensor.cols(), what);
  const Shape per_group{tensor.rows(), tensor.groups()};
  if (tensor.scales.shape() != per_group) {
    fail<ShapeError>("{}: scales of shape {}; {} is needed", what, to_string(tensor.scales.shape()),
                     to_string(per_group));
  }
  check_range(tensor.codes.as<int8_t>(), code_range(tensor.scheme), "code", what);
  check_finite(tensor.scales.as<float>(), "scale", what);
  const bool zero_points = tensor.scheme.mapping == CodeMapping::kZeroPoint;
  const bool minima = tensor.scheme.mapping == CodeMapping::kMinimum;
  check_beside_scales(tensor.zero_points, zero_points, per_group, "zero points", what);
  check_beside_scales(tensor.minima, minima, per_group, "minima", what);
  if (zero_points) check_range(tensor.zero_points.as<int8_t>(), code_range(tensor.scheme), "zero point", what);
  if (minima) check_finite(tensor.minima.as<float>(), "minimum", what);
  check_group_index(tensor, tensor.cols(), what);
  check_outliers(tensor, what);
}

void check_outlier_columns(std::span<const int32_t> columns, int64_t inputs, const std::string& what) {
  for (size_t i = 0; i < columns.size(); ++i) {
    if (columns[i] < 0 || columns[i] >= inputs)
      fail<ShapeError>("{}: the outlier column {} of {} columns", what, columns[i], inputs);
    if (i > 0 && columns[i] <= columns[i - 1])
      fail<ShapeError>("{}: the outlier column {} follows {}; they ascend", what, columns[i], columns[i - 1]);
  }
}

QTensor copy_of(const QTensor& tensor) {
  QTensor out{.scheme = tensor.scheme,
              .codes = Tensor::copy_of(tensor.codes.view()),
              .scales = Tensor::copy_of(tensor.scales.view())};
  out.zero_points = Tensor::copy_of(tensor.zero_points.view());
  out.minima = Tensor::copy_of(tensor.minima.view());
  out.group_index = Tensor::copy_of(tensor.group_index.view());
  out.outlier_columns = Tensor::copy_of(tensor.outlier_columns.view());
  out.outliers = Tensor::copy_of(tensor.outliers.view());
  return out;
}

void check_group_index(const QTensor& tensor, int64_t inputs, const std::string& what) {
  if (!tensor.scheme.reordered) {
    if (tensor.group_index.shape().elements() != 0)
      fail<ShapeError>("{}: a weight with a group index by a scheme without", what);
    return;
  }
  if (tensor.group_index.shape() != Shape{inputs}) {
    fail<ShapeError>("{}: a group index of shape {}; {} is needed", what, to_string(tensor.group_index.shape()),
                     to_string(Shape{inputs}));
  }
  const int64_t groups = tensor.scheme.groups(inputs);
  std::vector<int64_t> columns(static_cast<size_t>(groups));
  for (const int32_t group : tensor.group_index.as<int32_t>()) {
    if (group < 0 || group >= groups) fail<ShapeError>("{}: a column of group {}, of {}", what, group, groups);
    ++columns[static_cast<size_t>(group)];
  }
  for (size_t group = 0; group < columns.size(); ++group) {
    if (columns[group] != tensor.scheme.group_size) {
      fail<ShapeError>("{}: {} columns are of group {}; {} are needed", what, columns[group], group,
                       tensor.scheme.group_size);
    }
  }
}

}  // namespace octet

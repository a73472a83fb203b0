// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/qtensor.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

// Codes that a scheme offers.
struct CodeRange {
  int lowest, highest;
};

CodeRange code_range(const WeightScheme& scheme) {
  if (scheme.bits == 8) return {-128, 127};
  return scheme.mapping == CodeMapping::kSymmetric ? CodeRange{-8, 7} : CodeRange{0, 15};
}

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
  return fmt::format("int{} weights {}{}, {}", weight.bits,
                     weight.group_size == 0 ? "per channel"
                                            : fmt::format("in groups of {}{}", weight.group_size,
                                                          weight.reordered ? " reordered columns" : ""),
                     beside_scales(weight.mapping), to_string(scheme.activations));
}

void check(const ActivationScale& scale, ActivationMode mode, const std::string& what) {
  // Written so that NaN fails.
  if (!(scale.scale >= 0x1p-100f) || std::isinf(scale.scale)) {
    fail<NumericError>("{}: the activation scale {}; finite ones from 2^-100 on are supported", what, scale.scale);
  }
  const int highest = mode == ActivationMode::kStaticPerTensorZeroPoint ? 255 : 0;
  if (scale.zero_point < 0 || scale.zero_point > highest) {
    fail<NumericError>("{}: the activation zero point {}; {} is what can be had here", what, scale.zero_point,
                       highest == 0 ? "0 (symmetric)" : "0 to 255");
  }
}

void check(const WeightScheme& scheme, int64_t inputs, const std::string& what) {
  if (scheme.bits != 8 && scheme.bits != 4)
    fail<ShapeError>("{}: {}-bit codes; 8 or 4 are supported", what, scheme.bits);
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

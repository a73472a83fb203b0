// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/qtensor.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"

namespace octet {
namespace {

// Codes that a scheme offers. -128 would break the kernels' bound of 127 · 127 a product.
struct CodeRange {
  int lowest, highest;
};

CodeRange code_range(const WeightScheme& scheme) {
  if (scheme.bits == 8) return {-127, 127};
  return scheme.symmetric ? CodeRange{-8, 7} : CodeRange{0, 15};
}

void check_range(std::span<const int8_t> codes, CodeRange range, const char* kind, const std::string& what) {
  const auto bad = std::find_if(codes.begin(), codes.end(),
                                [range](int8_t code) { return code < range.lowest || code > range.highest; });
  if (bad != codes.end()) {
    fail<NumericError>("{}: holds the {} {}; {}s lie in [{}, {}]", what, kind, *bad, kind, range.lowest, range.highest);
  }
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
                     weight.group_size == 0 ? "per channel" : fmt::format("in groups of {}", weight.group_size),
                     weight.symmetric ? "" : " with zero points", to_string(scheme.activations));
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
  if (scheme.bits == 8 && !scheme.symmetric) fail<ShapeError>("{}: 8-bit weights have no zero points", what);
  const int64_t group = scheme.group_size;
  if (group != 0 && group != 32 && group != 64 && group != 128 && group != 256) {
    fail<ShapeError>("{}: groups of {}; 32, 64, 128, 256 or a whole row are supported", what, group);
  }
  if (group != 0 && inputs % group != 0) {
    fail<ShapeError>("{}: its {} inputs are not a multiple of the group size {}", what, inputs, group);
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
  for (const float scale : tensor.scales.as<float>()) {
    if (!std::isfinite(scale)) fail<NumericError>("{}: a scale is {}", what, scale);
  }
  if (tensor.scheme.symmetric) {
    if (tensor.zero_points.shape().elements() != 0) fail<ShapeError>("{}: a symmetric weight with zero points", what);
    return;
  }
  if (tensor.zero_points.shape() != per_group) {
    fail<ShapeError>("{}: zero points of shape {}; {} is needed", what, to_string(tensor.zero_points.shape()),
                     to_string(per_group));
  }
  check_range(tensor.zero_points.as<int8_t>(), code_range(tensor.scheme), "zero point", what);
}

}  // namespace octet

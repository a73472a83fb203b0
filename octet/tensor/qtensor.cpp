// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/qtensor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "octet/base/error.h"

namespace octet {

std::string to_string(const Scheme& scheme) {
  return fmt::format(
      "int{} weights per channel, {}", scheme.weight.bits,
      scheme.activations == ActivationMode::kFloat ? "float activations" : "int8 activations per token, dynamic");
}

void check(const QTensor& tensor, const std::string& what) {
  if (tensor.scheme.bits != 8) fail<ShapeError>("{}: {}-bit codes; 8 are supported", what, tensor.scheme.bits);
  if (tensor.codes.shape().rank() != 2) {
    fail<ShapeError>("{}: codes of shape {}; two dimensions are needed", what, to_string(tensor.codes.shape()));
  }
  if (tensor.scales.shape().elements() != tensor.rows()) {
    fail<ShapeError>("{}: {} scales for {} output channels", what, tensor.scales.shape().elements(), tensor.rows());
  }
  const auto codes = tensor.codes.as<int8_t>();
  // -128 would break the kernels' bound of 127 · 127 a product.
  if (std::find(codes.begin(), codes.end(), std::numeric_limits<int8_t>::min()) != codes.end()) {
    fail<NumericError>("{}: holds the code -128; codes lie in [-127, 127]", what);
  }
  for (const float scale : tensor.scales.as<float>()) {
    if (!std::isfinite(scale)) fail<NumericError>("{}: a scale is {}", what, scale);
  }
}

}  // namespace octet

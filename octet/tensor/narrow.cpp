// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/narrow.h"

#include <algorithm>

#include "octet/tensor/half.h"

namespace octet {

Tensor narrowed(std::span<const float> values, DType dtype, const Shape& shape) {
  Tensor out(dtype, shape);
  if (dtype == DType::kF16) {
    std::ranges::transform(values, out.mutable_as<Half>().begin(), to_half);
  } else if (dtype == DType::kBF16) {
    std::ranges::transform(values, out.mutable_as<BFloat16>().begin(), to_bfloat16);
  } else {
    std::ranges::copy(values, out.mutable_as<float>().begin());
  }
  return out;
}

}  // namespace octet

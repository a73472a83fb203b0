// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "octet/tensor/tensor.h"

namespace octet {

/// fp32 values as a tensor of `shape`: kF32, or kF16 or kBF16, to which they round to nearest, ties to even. Throws
/// Error for any other dtype.
Tensor narrowed(std::span<const float> values, DType dtype, const Shape& shape);

}  // namespace octet

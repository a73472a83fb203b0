// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "octet/tensor/qtensor.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// The scalar definition of every quantizer. Kernels are tested against these functions, bit for bit.
///
/// s = max(absmax / 127, 2^-100), or 1 where absmax = 0; code = rne(clamp(x · (1/s), -127, 127)). Only the stored scale
/// decides the codes. (The floor keeps 1/s finite: 2^100 is far below the largest float.)
float int8_scale(float absmax) noexcept;

/// The code of x for inverse = 1/s; rounds half to even. x must not be NaN.
int8_t int8_code(float x, float inverse) noexcept;

/// Dynamic INT8 of one row, as an activation: fills `codes` (as many as x) and returns the scale. Throws NumericError
/// for NaN or infinity.
float quantize_row(std::span<const float> x, std::span<int8_t> codes);

/// A float weight [out, in] of any width by `scheme`. Throws NumericError, naming `what` and the channel, where it
/// holds NaN or infinity; ShapeError unless it has two dimensions.
QTensor quantize_weight(ConstTensorView weight, const WeightScheme& scheme, const std::string& what);

/// codes · scales, [out, in] F32.
Tensor dequantize(const QTensor& tensor);

/// ‖W - dequantize(Q)‖ / ‖W‖ in the Frobenius norm; 0 where W is 0. Shapes must agree.
double relative_error(ConstTensorView weight, const QTensor& quantized);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "octet/tensor/qtensor.h"

namespace octet {

/// What the bias of a layer takes to undo the shift that quantizing its weight puts on the mean of its outputs (Nagel,
/// van Baalen, Blankevoort and Welling, 2019, section 4.2):
///
///   Δb = -ΔW · E[x],  ΔW = dequantize(quantized) - W,  E[x] = sum / rows
///
///   weight  [outputs, inputs]  any float dtype
///   sum     [inputs]           Σ x over calibration (InputStatistics::sum)
///   Δb      [outputs]          fp32, of sums in fp64 over ascending inputs
///
/// Throws ShapeError where sizes do not fit, Error where there are no rows, and NumericError where Δb is not finite,
/// naming `what`.
Tensor bias_correction(ConstTensorView weight, const QTensor& quantized, std::span<const double> sum, int64_t rows,
                       const std::string& what);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/bias_correction.h"

#include <cmath>
#include <vector>

#include "octet/base/error.h"
#include "octet/quant/quantize.h"

namespace octet {

Tensor bias_correction(ConstTensorView weight, const QTensor& quantized, std::span<const double> sum, int64_t rows,
                       const std::string& what) {
  const int64_t outputs = quantized.rows(), inputs = quantized.cols();
  if (weight.shape != quantized.codes.shape() || std::ssize(sum) != inputs) {
    fail<ShapeError>("layer '{}': a weight of shape {}, its codes of shape {}, and sums of {} inputs", what,
                     to_string(weight.shape), to_string(quantized.codes.shape()), sum.size());
  }
  if (rows < 1) fail("layer '{}': its bias cannot be corrected, as no calibration data reached it", what);
  const Tensor values = dequantize(quantized);
  Tensor out(DType::kF32, {outputs});
  std::vector<float> row(static_cast<size_t>(inputs));
  for (int64_t output = 0; output < outputs; ++output) {
    read_f32(weight, output * inputs, row);
    const float* const codes = values.as<float>().data() + output * inputs;
    double shift = 0;
    for (int64_t i = 0; i < inputs; ++i) {
      const auto at = static_cast<size_t>(i);
      shift += (double{codes[i]} - double{row[at]}) * (sum[at] / static_cast<double>(rows));
    }
    const auto correction = static_cast<float>(-shift);
    if (!std::isfinite(correction)) {
      fail<NumericError>("layer '{}': the bias of output {} would have to change by {}", what, output, correction);
    }
    out.mutable_as<float>()[static_cast<size_t>(output)] = correction;
  }
  return out;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr float kInt8Limit = 127.0f;
constexpr float kSmallestScale = 0x1p-100f;

// The largest magnitude, or NaN or infinity if there is one: both survive the maximum of the bit patterns, which for
// non-negative floats are ordered as the floats are.
float absmax_of(std::span<const float> x) noexcept {
  uint32_t largest = 0;
  for (const float value : x) largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

// Returns the scale; `absmax` must be finite.
float quantize_finite_row(std::span<const float> x, float absmax, std::span<int8_t> codes) noexcept {
  const float scale = int8_scale(absmax), inverse = 1.0f / scale;
  std::transform(x.begin(), x.end(), codes.begin(), [inverse](float value) { return int8_code(value, inverse); });
  return scale;
}

}  // namespace

float int8_scale(float absmax) noexcept {
  return absmax == 0.0f ? 1.0f : std::max(absmax / kInt8Limit, kSmallestScale);
}

int8_t int8_code(float x, float inverse) noexcept {
  const float clamped = std::clamp(x * inverse, -kInt8Limit, kInt8Limit);
  // 1.5 · 2^23 has ulp 1, so adding it rounds to an integer, half to even, and it can be taken off again exactly.
  constexpr float kRounder = 0x1.8p23f;
  return static_cast<int8_t>(clamped + kRounder - kRounder);
}

float quantize_row(std::span<const float> x, std::span<int8_t> codes) {
  if (x.size() != codes.size()) fail<ShapeError>("{} values into {} codes", x.size(), codes.size());
  const float absmax = absmax_of(x);
  if (!std::isfinite(absmax)) fail<NumericError>("a row to quantize holds {}", absmax);
  return quantize_finite_row(x, absmax, codes);
}

QTensor quantize_weight(ConstTensorView weight, const WeightScheme& scheme, const std::string& what) {
  if (weight.shape.rank() != 2) {
    fail<ShapeError>("{}: shape {}; a weight has two dimensions", what, to_string(weight.shape));
  }
  const int64_t rows = weight.shape[0], cols = weight.shape[1];
  QTensor out{scheme, Tensor(DType::kI8, weight.shape), Tensor(DType::kF32, {rows, 1})};
  const std::span<int8_t> codes = out.codes.mutable_as<int8_t>();
  const std::span<float> scales = out.scales.mutable_as<float>();
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    read_f32(weight, r * cols, row);
    const float absmax = absmax_of(row);
    if (!std::isfinite(absmax)) fail<NumericError>("{}: output channel {} holds {}", what, r, absmax);
    scales[r] = quantize_finite_row(row, absmax, codes.subspan(static_cast<size_t>(r * cols), row.size()));
  }
  return out;
}

Tensor dequantize(const QTensor& tensor) {
  Tensor out(DType::kF32, tensor.codes.shape());
  const std::span<float> values = out.mutable_as<float>();
  const std::span<const int8_t> codes = tensor.codes.as<int8_t>();
  const std::span<const float> scales = tensor.scales.as<float>();
  for (int64_t r = 0, i = 0; r < tensor.rows(); ++r) {
    for (int64_t c = 0; c < tensor.cols(); ++c, ++i) values[i] = static_cast<float>(codes[i]) * scales[r];
  }
  return out;
}

double relative_error(ConstTensorView weight, const QTensor& quantized) {
  if (weight.shape != quantized.codes.shape()) fail<ShapeError>("the error of a weight against one of another shape");
  const int64_t cols = quantized.cols();
  const std::span<const int8_t> codes = quantized.codes.as<int8_t>();
  const std::span<const float> scales = quantized.scales.as<float>();
  std::vector<float> row(static_cast<size_t>(cols));
  double error = 0, norm = 0;
  for (int64_t r = 0; r < quantized.rows(); ++r) {
    read_f32(weight, r * cols, row);
    for (int64_t c = 0; c < cols; ++c) {
      const double value = row[c], difference = value - double{scales[r]} * codes[r * cols + c];
      error += difference * difference;
      norm += value * value;
    }
  }
  return norm > 0 ? std::sqrt(error / norm) : 0.0;
}

}  // namespace octet

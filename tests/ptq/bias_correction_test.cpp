// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/bias_correction.h"

#include <cmath>
#include <random>
#include <vector>

#include "octet/quant/quantize.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::HasSubstr;

// Σ over rows of W x, by outputs.
std::vector<double> summed_outputs(std::span<const float> weight, std::span<const float> rows, int64_t inputs) {
  std::vector<double> sums(weight.size() / inputs, 0.0);
  for (size_t r = 0; r < rows.size() / inputs; ++r) {
    for (size_t o = 0; o < sums.size(); ++o) {
      for (int64_t i = 0; i < inputs; ++i) sums[o] += double{weight[o * inputs + i]} * rows[r * inputs + i];
    }
  }
  return sums;
}

TEST(BiasCorrection, TheMeanOutputIsThatOfTheFloatWeight) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const auto& [outputs, inputs, rows, group] : {std::tuple(3, 64, 11, 32), {7, 19, 1, 0}, {1, 1, 5, 0}}) {
    Tensor weight(DType::kF32, {outputs, inputs});
    for (float& value : weight.mutable_as<float>()) value = normal(random);
    std::vector<float> x(rows * inputs);
    // Far from a mean of 0, as after a ReLU.
    for (float& value : x) value = std::abs(normal(random)) + 0.5f;
    std::vector<double> sum(inputs, 0.0);
    for (size_t i = 0; i < x.size(); ++i) sum[i % inputs] += x[i];
    const QTensor quantized = quantize_weight(weight.view(), {.bits = 4, .group_size = group}, "layer");
    const Tensor correction = bias_correction(weight.view(), quantized, sum, rows, "layer");
    const std::vector<double> wanted = summed_outputs(weight.as<float>(), x, inputs);
    const Tensor values = dequantize(quantized);
    const std::vector<double> got = summed_outputs(values.as<float>(), x, inputs);
    for (int o = 0; o < outputs; ++o) {
      EXPECT_NEAR(got[o] / rows + correction.as<float>()[o], wanted[o] / rows, 1e-5);
      EXPECT_NE(got[o], wanted[o]);
    }
  }
}

TEST(BiasCorrection, WhatCannotBeIsRefused) {
  const Tensor weight = tensor_of<float>({1, 2}, {1, 2});
  const QTensor quantized = quantize_weight(weight.view(), {}, "layer");
  const std::vector<double> sum = {1, 2};
  EXPECT_THROW(bias_correction(weight.view(), quantized, std::vector<double>{1}, 1, "layer"), ShapeError);
  EXPECT_THAT(message_of<Error>([&] { bias_correction(weight.view(), quantized, sum, 0, "layer"); }),
              HasSubstr("'layer'"));
  const std::vector<double> infinite = {INFINITY, 2};
  EXPECT_THROW(bias_correction(weight.view(), quantized, infinite, 1, "layer"), NumericError);
}

}  // namespace
}  // namespace octet

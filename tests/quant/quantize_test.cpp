// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

Tensor matrix(int64_t rows, int64_t cols, const std::vector<float>& values) {
  Tensor tensor(DType::kF32, {rows, cols});
  std::copy(values.begin(), values.end(), tensor.mutable_as<float>().begin());
  return tensor;
}

TEST(Quantize, TheScaleIsAbsmaxOver127) {
  EXPECT_EQ(int8_scale(127.0f), 1.0f);
  EXPECT_EQ(int8_scale(1.0f), 1.0f / 127.0f);
  EXPECT_EQ(int8_scale(std::numeric_limits<float>::max()), std::numeric_limits<float>::max() / 127.0f);
}

TEST(Quantize, ZerosHaveTheScaleOne) {
  EXPECT_EQ(int8_scale(0.0f), 1.0f);
  std::vector<float> row = {0.0f, -0.0f, 0.0f};
  std::vector<int8_t> codes(3, 9);
  EXPECT_EQ(quantize_row(row, codes), 1.0f);
  EXPECT_THAT(codes, Each(0));
}

TEST(Quantize, TheScaleHasAFloorWhoseInverseIsFinite) {
  for (const float tiny :
       {std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::min(), 0x1p-100f, 0x1p-94f}) {
    EXPECT_EQ(int8_scale(tiny), 0x1p-100f) << tiny;
  }
  EXPECT_GT(int8_scale(0x1p-93f), 0x1p-100f);
  std::vector<float> row = {std::numeric_limits<float>::denorm_min(), 0x1p-100f, -0x1p-99f};
  std::vector<int8_t> codes(3);
  EXPECT_EQ(quantize_row(row, codes), 0x1p-100f);
  EXPECT_THAT(codes, ElementsAre(0, 1, -2));
}

TEST(Quantize, CodesRoundHalfToEven) {
  for (int n = -126; n <= 126; ++n) {
    const float half = n + 0.5f;
    EXPECT_EQ(int8_code(half, 1.0f), n % 2 == 0 ? n : n + 1) << half;
    EXPECT_EQ(int8_code(std::nextafter(half, -kInfinity), 1.0f), n) << half;
    EXPECT_EQ(int8_code(std::nextafter(half, kInfinity), 1.0f), n + 1) << half;
    EXPECT_EQ(int8_code(static_cast<float>(n), 1.0f), n);
  }
}

TEST(Quantize, CodesAreClampedTo127OnBothSides) {
  for (const float x : {127.4f, 127.5f, 128.0f, 1e9f, std::numeric_limits<float>::max(), kInfinity}) {
    EXPECT_EQ(int8_code(x, 1.0f), 127) << x;
    EXPECT_EQ(int8_code(-x, 1.0f), -127) << x;
  }
}

TEST(Quantize, CodesComeWithinHalfAStepOfEveryRow) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 200; ++trial) {
    const auto width = std::uniform_int_distribution<size_t>(1, 300)(random);
    const float size = std::ldexp(1.0f, std::uniform_int_distribution(-90, 90)(random));
    std::normal_distribution<float> normal(0.0f, size);
    std::vector<float> row(width);
    for (float& x : row) x = normal(random);
    std::vector<int8_t> codes(width);
    const float scale = quantize_row(row, codes);
    float absmax = 0;
    for (const float x : row) absmax = std::max(absmax, std::abs(x));
    ASSERT_EQ(scale, int8_scale(absmax));
    int largest = 0;
    for (size_t i = 0; i < width; ++i) {
      ASSERT_GE(codes[i], -127);
      ASSERT_EQ(codes[i], int8_code(row[i], 1.0f / scale));
      largest = std::max(largest, std::abs(int{codes[i]}));
      // x · (1/s) is rounded twice, each by at most 2^-24 of 127: far below a thousandth of a step.
      ASSERT_LE(std::abs(double{row[i]} - codes[i] * double{scale}), 0.5001 * scale);
    }
    ASSERT_EQ(largest, 127) << "the largest element takes the largest code";
  }
}

TEST(Quantize, NegationNegatesTheCodes) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  std::vector<float> row(100), negated(100);
  for (size_t i = 0; i < row.size(); ++i) negated[i] = -(row[i] = normal(random));
  std::vector<int8_t> codes(100), negated_codes(100);
  EXPECT_EQ(quantize_row(row, codes), quantize_row(negated, negated_codes));
  for (size_t i = 0; i < row.size(); ++i) EXPECT_EQ(codes[i], -negated_codes[i]);
}

TEST(Quantize, TheLargestFloatsStayFinite) {
  std::vector<float> row = {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max(), 1.0f};
  std::vector<int8_t> codes(3);
  EXPECT_TRUE(std::isfinite(quantize_row(row, codes)));
  EXPECT_THAT(codes, ElementsAre(127, -127, 0));
}

TEST(Quantize, AnEmptyRowIsQuantized) { EXPECT_EQ(quantize_row({}, {}), 1.0f); }

TEST(Quantize, NanAndInfinityInARowAreErrors) {
  for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
    for (size_t place = 0; place < 3; ++place) {
      std::vector<float> row = {1.0f, std::numeric_limits<float>::max(), -2.0f};
      row[place] = bad;
      std::vector<int8_t> codes(3);
      EXPECT_THROW(quantize_row(row, codes), NumericError) << bad << " at " << place;
    }
  }
}

TEST(Quantize, ARowNeedsAsManyCodes) {
  std::vector<float> row(3);
  std::vector<int8_t> codes(2);
  EXPECT_THROW(quantize_row(row, codes), ShapeError);
}

TEST(QuantizeWeight, EachOutputChannelHasItsScale) {
  const Tensor weight = matrix(3, 2, {127, -64, 0, 0, -0.5f, 0.25f});
  const QTensor quantized = quantize_weight(weight.view(), {}, "w");
  EXPECT_THAT(quantized.scales.as<float>(), ElementsAre(1.0f, 1.0f, 0.5f / 127.0f));
  EXPECT_THAT(quantized.codes.as<int8_t>(), ElementsAre(127, -64, 0, 0, -127, 64));
  EXPECT_NO_THROW(check(quantized, "w"));
}

TEST(QuantizeWeight, RowsAreQuantizedAsActivationsAre) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<float> values(7 * 33);
  for (float& value : values) value = normal(random);
  const QTensor quantized = quantize_weight(matrix(7, 33, values).view(), {}, "w");
  for (int64_t r = 0; r < 7; ++r) {
    std::vector<int8_t> codes(33);
    EXPECT_EQ(quantize_row(std::span(values).subspan(r * 33, 33), codes), quantized.scales.as<float>()[r]);
    EXPECT_THAT(quantized.codes.as<int8_t>().subspan(r * 33, 33), testing::ElementsAreArray(codes));
  }
}

TEST(QuantizeWeight, SixteenBitWeightsAreWidenedFirst) {
  const std::vector<float> values = {0.1f, -0.7f, 3.0f, 2.0f};
  Tensor half(DType::kF16, {2, 2}), wide(DType::kF32, {2, 2});
  for (int i = 0; i < 4; ++i) {
    half.mutable_as<Half>()[i] = to_half(values[i]);
    wide.mutable_as<float>()[i] = to_float(to_half(values[i]));
  }
  const QTensor a = quantize_weight(half.view(), {}, "w"), b = quantize_weight(wide.view(), {}, "w");
  EXPECT_THAT(a.codes.as<int8_t>(), testing::ElementsAreArray(b.codes.as<int8_t>()));
  EXPECT_THAT(a.scales.as<float>(), testing::ElementsAreArray(b.scales.as<float>()));
}

TEST(QuantizeWeight, NanNamesTheWeightAndTheChannel) {
  for (const float bad : {kNan, kInfinity}) {
    try {
      quantize_weight(matrix(3, 2, {1, 2, 3, 4, bad, 6}).view(), {}, "encoder.layer.3.output.dense");
      ADD_FAILURE() << bad;
    } catch (const NumericError& error) {
      EXPECT_THAT(error.what(), HasSubstr("encoder.layer.3.output.dense: output channel 2"));
    }
  }
}

TEST(QuantizeWeight, OtherThanTwoDimensionsAreRefused) {
  EXPECT_THROW(quantize_weight(Tensor(DType::kF32, {4}).view(), {}, "w"), ShapeError);
  EXPECT_THROW(quantize_weight(Tensor(DType::kF32, {1, 2, 2}).view(), {}, "w"), ShapeError);
  EXPECT_NO_THROW(quantize_weight(Tensor(DType::kF32, {0, 4}).view(), {}, "w"));
  EXPECT_NO_THROW(quantize_weight(Tensor(DType::kF32, {4, 0}).view(), {}, "w"));
}

TEST(Dequantize, IsCodeTimesScale) {
  const QTensor quantized = quantize_weight(matrix(2, 2, {127, 3, -0.5f, 0.1f}).view(), {}, "w");
  const float scale = 0.5f / 127.0f;
  EXPECT_THAT(dequantize(quantized).as<float>(), ElementsAre(127.0f, 3.0f, -127 * scale, 25 * scale));
}

TEST(RelativeError, IsOfTheFrobeniusNorm) {
  // Codes 127 and 64 at scale 1: the second element is off by 0.4.
  const Tensor weight = matrix(1, 2, {127.0f, 64.4f});
  const QTensor quantized = quantize_weight(weight.view(), {}, "w");
  const double difference = double{64.4f} - 64, norm = std::sqrt(127.0 * 127.0 + double{64.4f} * double{64.4f});
  EXPECT_NEAR(relative_error(weight.view(), quantized), difference / norm, 1e-12);
  const Tensor zeros(DType::kF32, {2, 2});
  EXPECT_EQ(relative_error(zeros.view(), quantize_weight(zeros.view(), {}, "w")), 0.0);
  EXPECT_THROW(relative_error(zeros.view(), quantized), ShapeError);
}

}  // namespace
}  // namespace octet

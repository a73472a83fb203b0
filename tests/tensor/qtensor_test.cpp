// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/qtensor.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

QTensor sample() {
  QTensor tensor{{}, Tensor(DType::kI8, {2, 3}), Tensor(DType::kF32, {2, 1})};
  tensor.codes.mutable_as<int8_t>()[0] = 127;
  tensor.codes.mutable_as<int8_t>()[5] = -127;
  tensor.scales.mutable_as<float>()[1] = -0.5f;
  return tensor;
}

// 4 bits in groups of 32, with zero points.
QTensor grouped_sample() {
  QTensor tensor{{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint},
                 Tensor(DType::kI8, {2, 64}),
                 Tensor(DType::kF32, {2, 2}),
                 Tensor(DType::kI8, {2, 2})};
  tensor.codes.mutable_as<int8_t>()[3] = 15;
  tensor.zero_points.mutable_as<int8_t>()[1] = 15;
  return tensor;
}

// The same with minima.
QTensor sample_with_minima() {
  QTensor tensor = grouped_sample();
  tensor.scheme.mapping = CodeMapping::kMinimum;
  tensor.zero_points = Tensor();
  tensor.minima = Tensor(DType::kF32, {2, 2});
  tensor.minima.mutable_as<float>()[2] = -1e30f;
  return tensor;
}

TEST(QTensor, AWellFormedOnePassesTheCheck) {
  EXPECT_NO_THROW(check(sample(), "a"));
  EXPECT_EQ(sample().rows(), 2);
  EXPECT_EQ(sample().cols(), 3);
  EXPECT_EQ(sample().bytes(), 6 + 8);
  EXPECT_NO_THROW(check(grouped_sample(), "a"));
  EXPECT_EQ(grouped_sample().groups(), 2);
  EXPECT_EQ(grouped_sample().bytes(), 128 + 16 + 4);
  EXPECT_NO_THROW(check(sample_with_minima(), "a"));
  EXPECT_EQ(sample_with_minima().bytes(), 128 + 16 + 16);
}

TEST(QTensor, AGroupIndexHasAsManyColumnsOfEachGroup) {
  QTensor tensor = grouped_sample();
  tensor.scheme.reordered = true;
  EXPECT_THROW(check(tensor, "a"), ShapeError);
  tensor.group_index = Tensor(DType::kI32, {64});
  EXPECT_THROW(check(tensor, "a"), ShapeError);
  for (int32_t i = 0; i < 64; ++i) tensor.group_index.mutable_as<int32_t>()[i] = i % 2;
  EXPECT_NO_THROW(check(tensor, "a"));
  EXPECT_EQ(tensor.bytes(), 128 + 16 + 4 + 256);
  for (const int32_t bad : {-1, 1, 2, 1 << 30}) {
    tensor.group_index.mutable_as<int32_t>()[0] = bad;
    EXPECT_THROW(check(tensor, "a"), ShapeError) << bad;
  }
  tensor.group_index.mutable_as<int32_t>()[0] = 0;
  tensor.scheme.reordered = false;
  EXPECT_THROW(check(tensor, "a"), ShapeError);
  EXPECT_THROW(check(WeightScheme{.bits = 4, .reordered = true}, 64, "a"), ShapeError);
}

TEST(QTensor, EachFaultIsRefusedByName) {
  QTensor bits = sample();
  bits.scheme.bits = 5;
  EXPECT_THROW(check(bits, "a"), ShapeError);
  bits = sample();
  for (const CodeMapping mapping : {CodeMapping::kZeroPoint, CodeMapping::kMinimum}) {
    bits.scheme.mapping = mapping;
    EXPECT_THROW(check(bits, "a"), ShapeError);
  }
  bits.zero_points = Tensor(DType::kI8, {2, 1});
  bits.minima = Tensor(DType::kF32, {2, 1});
  EXPECT_THROW(check(bits, "a"), ShapeError) << "8 bits with minima";
  bits.minima = Tensor();
  bits.scheme.mapping = CodeMapping::kZeroPoint;
  EXPECT_NO_THROW(check(bits, "a"));

  QTensor group = grouped_sample();
  group.scheme.group_size = 128;
  EXPECT_THROW(check(group, "a"), ShapeError);
  group.scheme.group_size = 16;
  EXPECT_THROW(check(group, "a"), ShapeError);

  QTensor zero_point = grouped_sample();
  zero_point.zero_points.mutable_as<int8_t>()[0] = -1;
  EXPECT_THROW(check(zero_point, "a"), NumericError);
  zero_point.zero_points = Tensor();
  EXPECT_THROW(check(zero_point, "a"), ShapeError);

  QTensor minima = sample_with_minima();
  minima.zero_points = Tensor(DType::kI8, {2, 2});
  EXPECT_THROW(check(minima, "a"), ShapeError);
  minima = sample_with_minima();
  minima.minima = Tensor(DType::kF32, {2, 1});
  EXPECT_THROW(check(minima, "a"), ShapeError);
  minima.minima = Tensor();
  EXPECT_THROW(check(minima, "a"), ShapeError);
  for (const float minimum : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    minima = sample_with_minima();
    minima.minima.mutable_as<float>()[3] = minimum;
    EXPECT_THROW(check(minima, "a"), NumericError);
  }
  minima = sample_with_minima();
  minima.codes.mutable_as<int8_t>()[0] = -1;
  EXPECT_THROW(check(minima, "a"), NumericError);
  QTensor unasked = grouped_sample();
  unasked.minima = Tensor(DType::kF32, {2, 2});
  EXPECT_THROW(check(unasked, "a"), ShapeError);

  QTensor nibble = grouped_sample();
  nibble.codes.mutable_as<int8_t>()[0] = 16;
  EXPECT_THROW(check(nibble, "a"), NumericError);

  QTensor rank = sample();
  rank.codes = Tensor(DType::kI8, {2, 3, 1});
  EXPECT_THROW(check(rank, "a"), ShapeError);

  QTensor scales = sample();
  scales.scales = Tensor(DType::kF32, {3});
  EXPECT_THROW(check(scales, "a"), ShapeError);

  QTensor lowest = sample();
  lowest.codes.mutable_as<int8_t>()[2] = -128;
  EXPECT_NO_THROW(check(lowest, "a"));

  for (const float scale : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    QTensor numeric = sample();
    numeric.scales.mutable_as<float>()[0] = scale;
    try {
      check(numeric, "layer.7");
      ADD_FAILURE() << scale;
    } catch (const NumericError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("layer.7"));
    }
  }
}

TEST(Scheme, FewerBitsAreSaidBesideTheCodes) {
  EXPECT_EQ(to_string({{.bits = 4, .unused_bits = 2}, ActivationMode::kStaticPerTensor, 5}),
            "int2 weights (as int4 codes) per channel, int5 activations (as int8 codes) per tensor, static");
  EXPECT_EQ(to_string({{.bits = 8, .unused_bits = 1}, ActivationMode::kStaticPerTensorZeroPoint, 4}),
            "int7 weights (as int8 codes) per channel, uint4 activations (as uint8 codes) per tensor, static");
}

TEST(Scheme, IsDescribedInWords) {
  EXPECT_EQ(to_string(Scheme{}), "int8 weights per channel, float activations");
  EXPECT_EQ(to_string(Scheme{.weight = {}, .activations = ActivationMode::kDynamicPerToken}),
            "int8 weights per channel, int8 activations per token, dynamic");
  EXPECT_EQ(to_string(Scheme{.weight = grouped_sample().scheme}),
            "int4 weights in groups of 32 with zero points, float activations");
  EXPECT_EQ(to_string(Scheme{.weight = sample_with_minima().scheme}),
            "int4 weights in groups of 32 with minima, float activations");
}

}  // namespace
}  // namespace octet

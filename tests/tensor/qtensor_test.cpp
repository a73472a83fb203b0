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
  QTensor tensor{{}, Tensor(DType::kI8, {2, 3}), Tensor(DType::kF32, {2})};
  tensor.codes.mutable_as<int8_t>()[0] = 127;
  tensor.codes.mutable_as<int8_t>()[5] = -127;
  tensor.scales.mutable_as<float>()[1] = -0.5f;
  return tensor;
}

TEST(QTensor, AWellFormedOnePassesTheCheck) {
  EXPECT_NO_THROW(check(sample(), "a"));
  EXPECT_EQ(sample().rows(), 2);
  EXPECT_EQ(sample().cols(), 3);
  EXPECT_EQ(sample().bytes(), 6 + 8);
}

TEST(QTensor, EachFaultIsRefusedByName) {
  QTensor bits = sample();
  bits.scheme.bits = 4;
  EXPECT_THROW(check(bits, "a"), ShapeError);

  QTensor rank = sample();
  rank.codes = Tensor(DType::kI8, {2, 3, 1});
  EXPECT_THROW(check(rank, "a"), ShapeError);

  QTensor scales = sample();
  scales.scales = Tensor(DType::kF32, {3});
  EXPECT_THROW(check(scales, "a"), ShapeError);

  QTensor code = sample();
  code.codes.mutable_as<int8_t>()[2] = -128;
  EXPECT_THROW(check(code, "a"), NumericError);

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

TEST(Scheme, IsDescribedInWords) {
  EXPECT_EQ(to_string(Scheme{}), "int8 weights per channel, float activations");
  EXPECT_EQ(to_string(Scheme{.weight = {}, .activations = ActivationMode::kDynamicPerToken}),
            "int8 weights per channel, int8 activations per token, dynamic");
}

}  // namespace
}  // namespace octet

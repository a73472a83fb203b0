// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/gptq.h"

#include <algorithm>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/safetensors.h"
#include "octet/ptq/output_error.h"
#include "octet/quant/quantize.h"
#include "tests/ptq/correlated_inputs.h"

namespace octet {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

constexpr WeightScheme kGroups32 = {.bits = 4, .group_size = 32};

WeightAlgorithmOptions gptq_options(bool act_order = false) {
  return {.algorithm = WeightAlgorithm::kGptq, .act_order = act_order};
}

template <class T>
void expect_equal(std::span<const T> actual, std::span<const T> expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  const auto [a, b] = std::ranges::mismatch(actual, expected);
  if (a == actual.end()) return;
  ADD_FAILURE() << what << ": first difference at " << a - actual.begin() << ": " << +*a << ", expected " << +*b;
}

void expect_same(const QTensor& actual, const QTensor& expected, const std::string& what) {
  EXPECT_EQ(actual.scheme, expected.scheme) << what;
  expect_equal(actual.codes.as<int8_t>(), expected.codes.as<int8_t>(), what + ", codes");
  expect_equal(actual.scales.as<float>(), expected.scales.as<float>(), what + ", scales");
  if (actual.zero_points.bytes() != 0)
    expect_equal(actual.zero_points.as<int8_t>(), expected.zero_points.as<int8_t>(), what + ", zero points");
  if (actual.minima.bytes() != 0)
    expect_equal(actual.minima.as<float>(), expected.minima.as<float>(), what + ", minima");
  if (actual.scheme.reordered)
    expect_equal(actual.group_index.as<int32_t>(), expected.group_index.as<int32_t>(), what + ", group index");
}

TEST(Gptq, GivesTheCodesOfAnIndependentImplementation) {
  const SafetensorsFile file = SafetensorsFile::open(OCTET_TEST_FILES "/gptq_cases.safetensors");
  const nlohmann::json cases = parse_json(file.metadata().at("cases"), "the test");
  for (size_t i = 0; i < cases.size(); ++i) {
    const nlohmann::json& c = cases[i];
    const auto tensor = [&](const char* name) { return file.tensor(std::to_string(i) + "." + name); };
    const std::string data = c.at("data"), mapping = c.at("mapping");
    const Tensor weight = file.tensor("weight." + data), inputs = file.tensor("inputs." + data);
    const WeightScheme scheme = {.bits = c.at("bits"),
                                 .group_size = c.at("group_size"),
                                 .mapping = mapping == "symmetric"    ? CodeMapping::kSymmetric
                                            : mapping == "zero_point" ? CodeMapping::kZeroPoint
                                                                      : CodeMapping::kMinimum,
                                 .range = c.at("range") == "mse" ? RangeEstimator::kMse : RangeEstimator::kAbsmax};
    const InputStatistics statistics = statistics_of(inputs.as<float>(), inputs.shape()[1]);
    for (const int64_t block_size : {128, 1, 20, 32, 64}) {
      const WeightAlgorithmOptions options = {.algorithm = WeightAlgorithm::kGptq,
                                              .block_size = block_size,
                                              .percdamp = c.at("percdamp"),
                                              .act_order = c.at("act_order"),
                                              .static_groups = c.at("static_groups")};
      const QuantizedWeight made = quantize_weight(weight.view(), scheme, options, &statistics, "layer", 2);
      check(made.tensor, "layer");
      SCOPED_TRACE(json_text(c) + ", blocks of " + std::to_string(block_size));
      expect_equal(made.tensor.codes.as<int8_t>(), tensor("codes").as<int8_t>(), "codes");
      expect_equal(made.tensor.scales.as<float>(), tensor("scales").as<float>(), "scales");
      if (scheme.mapping == CodeMapping::kZeroPoint)
        expect_equal(made.tensor.zero_points.as<int8_t>(), tensor("zero_points").as<int8_t>(), "zero points");
      if (scheme.mapping == CodeMapping::kMinimum)
        expect_equal(made.tensor.minima.as<float>(), tensor("minima").as<float>(), "minima");
      if (made.tensor.scheme.reordered) {
        std::vector<int32_t> group_index(weight.shape()[1]);
        for (size_t k = 0; k < group_index.size(); ++k) group_index[tensor("order").as<int32_t>()[k]] = k / 32;
        expect_equal<int32_t>(made.tensor.group_index.as<int32_t>(), group_index, "group index");
      }
      EXPECT_NEAR(made.output_error, tensor("output_error").as<double>()[0], 1e-9 * made.output_error);
    }
  }
}

TEST(Gptq, BitsDependOnNeitherThreadsNorBlocksNorOtherRows) {
  std::mt19937_64 engine(4);
  for (const int64_t cols : {64, 192}) {
    const int64_t rows = 70;
    const InputStatistics statistics = statistics_of(correlated_inputs(150, cols, 40, engine()), cols);
    const Tensor weight = matrix_of(random_floats(rows * cols, engine(), 0.05f), rows, cols);
    for (const WeightScheme& scheme : {kGroups32, WeightScheme{.bits = 4, .mapping = CodeMapping::kMinimum},
                                       WeightScheme{.bits = 4, .group_size = 64, .mapping = CodeMapping::kZeroPoint}}) {
      if (scheme.group_size != 0 && cols % scheme.group_size != 0) continue;
      for (const bool act_order : {false, true}) {
        WeightAlgorithmOptions options = gptq_options(act_order);
        const QTensor expected = quantize_weight(weight.view(), scheme, options, &statistics, "layer", 1).tensor;
        for (const int threads : {2, 3}) {
          for (const int64_t block_size : {1, 48, 128, 1000}) {
            options.block_size = block_size;
            const QTensor made = quantize_weight(weight.view(), scheme, options, &statistics, "layer", threads).tensor;
            expect_same(made, expected, "blocks of " + std::to_string(block_size));
          }
        }
        const Tensor alone = matrix_of(weight.as<float>().last(cols), 1, cols);
        const QTensor made = quantize_weight(alone.view(), scheme, options, &statistics, "layer", 1).tensor;
        expect_equal(made.codes.as<int8_t>(), expected.codes.as<int8_t>().last(cols), "the last row alone");
      }
    }
  }
}

TEST(Gptq, InputsThatDoNotCorrelateRoundToNearest) {
  const int64_t cols = 64;
  std::vector<float> x(cols * cols);
  for (int64_t i = 0; i < cols; ++i) x[i * cols + i] = 1.0f + static_cast<float>(i % 5);
  const InputStatistics statistics = statistics_of(x, cols);
  const Tensor weight = matrix_of(random_floats(9 * cols, 5), 9, cols);
  expect_same(quantize_weight(weight.view(), kGroups32, gptq_options(), &statistics, "layer").tensor,
              quantize_weight(weight.view(), kGroups32, "layer"), "a diagonal Hessian");
}

TEST(Gptq, LosesLessOfTheOutputsTheMoreItKnows) {
  const int64_t rows = 64, cols = 256;
  const InputStatistics statistics = statistics_of(correlated_inputs(2000, cols, 60, 6), cols);
  const Tensor weight = matrix_of(random_floats(rows * cols, 7, 0.05f), rows, cols);
  WeightScheme scheme = {.bits = 4, .group_size = 64};
  const auto lost = [&](const WeightAlgorithmOptions& options) {
    return quantize_weight(weight.view(), scheme, options, &statistics, "layer").output_error;
  };
  const double absmax = lost({});
  scheme.range = RangeEstimator::kMse;
  const double mse = lost({}), searched = lost({.algorithm = WeightAlgorithm::kHessianScales}),
               plain = lost(gptq_options()), ordered = lost(gptq_options(true));
  EXPECT_LT(mse, absmax);
  EXPECT_LT(searched, mse);
  EXPECT_LT(plain, 0.7 * searched);
  EXPECT_LT(ordered, 0.9 * plain);
}

TEST(Gptq, DeadColumnsRoundToNearestAndDisturbNoOther) {
  const int64_t rows = 8, cols = 64;
  std::vector<float> x = correlated_inputs(100, cols, 10, 8);
  for (size_t i = 0; i < x.size(); ++i) {
    if (i % cols == 3 || i % cols == 40) x[i] = 0.0f;
  }
  const InputStatistics statistics = statistics_of(x, cols);
  Tensor weight = matrix_of(random_floats(rows * cols, 9), rows, cols);
  const QuantizedWeight made = quantize_weight(weight.view(), {.bits = 4}, gptq_options(), &statistics, "layer");
  EXPECT_THAT(made.notes, Contains(HasSubstr("2 dead columns")));
  const QTensor nearest = quantize_weight(weight.view(), {.bits = 4}, "layer");
  for (int64_t r = 0; r < rows; ++r) {
    for (const int64_t c : {3, 40}) {
      EXPECT_EQ(made.tensor.codes.as<int8_t>()[r * cols + c], nearest.codes.as<int8_t>()[r * cols + c]);
      weight.mutable_as<float>()[r * cols + c] *= 0.5f;
    }
  }
  const QuantizedWeight other = quantize_weight(weight.view(), {.bits = 4}, gptq_options(), &statistics, "layer");
  for (int64_t i = 0; i < rows * cols; ++i) {
    if (i % cols == 3 || i % cols == 40) continue;
    // Where the scale is another one's: a dead column may have been a row's largest.
    if (other.tensor.scales.as<float>()[i / cols] != made.tensor.scales.as<float>()[i / cols]) continue;
    EXPECT_EQ(other.tensor.codes.as<int8_t>()[i], made.tensor.codes.as<int8_t>()[i]) << i;
  }
}

TEST(Gptq, SingularHessiansAreDampedUntilTheyHaveAnInverseAndThatIsSaid) {
  const int64_t cols = 96;
  const Tensor weight = matrix_of(random_floats(5 * cols, 10), 5, cols);
  for (const int64_t rows : {1, 2, 20}) {
    const InputStatistics statistics = statistics_of(correlated_inputs(rows, cols, 1, 11), cols);
    WeightAlgorithmOptions options = gptq_options();
    QuantizedWeight made = quantize_weight(weight.view(), kGroups32, options, &statistics, "layer");
    check(made.tensor, "layer");
    EXPECT_THAT(made.notes, Contains(HasSubstr("of calibration for 96 inputs")));
    // One equation for 96 unknowns: nearly every output can be hit.
    if (rows == 1) {
      EXPECT_LT(made.output_error, 1e-4);
    }
    if (rows == 20) continue;
    options.percdamp = 0;
    made = quantize_weight(weight.view(), kGroups32, options, &statistics, "layer");
    check(made.tensor, "layer");
    EXPECT_THAT(made.notes, Contains(HasSubstr("percdamp raised from 0 to ")));
  }
  std::vector<float> nothing(3 * cols);
  const InputStatistics statistics = statistics_of(nothing, cols);
  const QuantizedWeight made = quantize_weight(weight.view(), kGroups32, gptq_options(), &statistics, "layer");
  EXPECT_THAT(made.notes, Contains(HasSubstr("96 dead columns")));
  EXPECT_EQ(made.output_error, 0);
  expect_same(made.tensor, quantize_weight(weight.view(), kGroups32, "layer"), "all dead");
}

TEST(Gptq, ExtremeWeightsAndInputsGiveCodesOfTheScheme) {
  const float largest = std::numeric_limits<float>::max();
  std::mt19937_64 engine(12);
  for (const int64_t cols : {32, 96}) {
    for (const float size : {1e-38f, 1.0f, 1e18f}) {
      std::vector<float> x = correlated_inputs(40, cols, 8, engine());
      for (float& value : x) value *= size;
      x[3] *= 1e6f;
      const InputStatistics statistics = statistics_of(x, cols);
      for (const CodeMapping mapping : {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum}) {
        for (const bool act_order : {false, true}) {
          Tensor weight(DType::kF32, {4, cols});
          const std::span<float> values = weight.mutable_as<float>();
          for (int64_t i = 0; i < cols; ++i) {
            values[i] = i % 2 == 0 ? largest : -largest;
            values[cols + i] = std::numeric_limits<float>::denorm_min() * static_cast<float>(i);
            values[2 * cols + i] = i == 5 ? largest : 1.0f;
          }
          for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse}) {
            const WeightScheme scheme = {.bits = 4, .group_size = 32, .mapping = mapping, .range = range};
            check(quantize_weight(weight.view(), scheme, gptq_options(act_order), &statistics, "layer").tensor,
                  "layer");
          }
        }
      }
    }
  }
}

TEST(Gptq, WhatCannotBeIsRefusedByName) {
  const int64_t cols = 64;
  const InputStatistics statistics = statistics_of(random_floats(10 * cols, 13), cols), other(32), empty(cols);
  Tensor weight = matrix_of(random_floats(2 * cols, 14), 2, cols);
  const auto made = [&](const WeightAlgorithmOptions& options, const InputStatistics* from) {
    return quantize_weight(weight.view(), kGroups32, options, from, "h.3.mlp", 1);
  };
  EXPECT_THAT([&] { made(gptq_options(), nullptr); },
              ThrowsMessage<UsageError>(HasSubstr("h.3.mlp: GPTQ needs calibration")));
  EXPECT_THAT([&] { made(gptq_options(), &other); }, ThrowsMessage<ShapeError>(HasSubstr("statistics of 32 inputs")));
  EXPECT_THAT([&] { made(gptq_options(), &empty); }, ThrowsMessage<UsageError>(HasSubstr("no rows")));
  WeightAlgorithmOptions options = gptq_options();
  options.block_size = 0;
  EXPECT_THAT([&] { made(options, &statistics); }, ThrowsMessage<UsageError>(HasSubstr("blocks of 0 columns")));
  for (const double percdamp : {-0.1, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    options = gptq_options();
    options.percdamp = percdamp;
    EXPECT_THAT([&] { made(options, &statistics); }, ThrowsMessage<UsageError>(HasSubstr("percdamp is")));
  }
  weight.mutable_as<float>()[cols + 7] = std::nanf("");
  EXPECT_THAT([&] { made(gptq_options(), &statistics); },
              ThrowsMessage<NumericError>(HasSubstr("h.3.mlp: output channel 1 holds")));
}

}  // namespace
}  // namespace octet

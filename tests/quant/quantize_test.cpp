// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/tensor/half.h"

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

// A quantized weight against the scalar functions, group by group; `share` as a search would have it.
void expect_codes_of_absmax(std::span<const float> values, const QTensor& quantized) {
  const WeightScheme& scheme = quantized.scheme;
  const int64_t cols = quantized.cols(), groups = quantized.groups(), width = groups == 0 ? 0 : cols / groups;
  for (int64_t at = 0; at < quantized.rows() * groups; ++at) {
    const auto group = values.subspan(static_cast<size_t>(at * width), static_cast<size_t>(width));
    float low = 0, high = 0;
    for (const float x : group) low = std::min(low, x), high = std::max(high, x);
    const float absmax = std::max(-low, high), scale = quantized.scales.as<float>()[at];
    const int bits = scheme.used_bits();
    int8_t zero_point = 0;
    float minimum = 0;
    switch (scheme.mapping) {
      case CodeMapping::kSymmetric:
        ASSERT_EQ(scale, scheme.bits == 8 ? int8_scale(absmax, bits) : int4_scale(absmax, bits));
        break;
      case CodeMapping::kZeroPoint:
        zero_point = quantized.zero_points.as<int8_t>()[at];
        if (scheme.bits == 8) {
          ASSERT_EQ(scale, uint8_scale(low, high, bits).scale);
          ASSERT_EQ(zero_point, uint8_scale(low, high, bits).zero_point - (1 << (bits - 1)));
        } else {
          ASSERT_EQ(scale, uint4_scale(low, high, bits).scale);
          ASSERT_EQ(zero_point, uint4_scale(low, high, bits).zero_point);
        }
        break;
      case CodeMapping::kMinimum:
        minimum = quantized.minima.as<float>()[at];
        ASSERT_EQ(minimum, *std::ranges::min_element(group));
        ASSERT_EQ(scale, minimum_scale(minimum, *std::ranges::max_element(group), bits));
        break;
    }
    for (int64_t i = 0; i < width; ++i) {
      const float x = group[i], inverse = 1 / scale;
      const int8_t code = quantized.codes.as<int8_t>()[at * width + i];
      const bool shifted = scheme.mapping == CodeMapping::kZeroPoint;
      const int half = 1 << (bits - 1);
      ASSERT_EQ(code, scheme.bits == 8 && shifted ? uint8_code(x, inverse, zero_point + half, bits) - half
                      : scheme.bits == 8          ? int8_code(x, inverse, bits)
                      : scheme.mapping == CodeMapping::kSymmetric ? int4_code(x, inverse, bits)
                      : scheme.mapping == CodeMapping::kZeroPoint ? uint4_code(x, inverse, zero_point, bits)
                                                                  : minimum_code(x, inverse, minimum, bits))
          << to_string({scheme, ActivationMode::kFloat}) << ", group " << at << ", value " << i << " = " << x;
    }
  }
}

// Every scheme there is, with absmax.
std::vector<WeightScheme> schemes() {
  std::vector<WeightScheme> all;
  for (const int64_t group_size : {0, 32, 64, 128, 256}) {
    for (const CodeMapping mapping : {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum}) {
      for (int bits = 2; bits <= (mapping == CodeMapping::kMinimum ? 4 : 8); ++bits) {
        const int stored = bits <= 4 ? 4 : 8;
        all.push_back({.bits = stored, .group_size = group_size, .mapping = mapping, .unused_bits = stored - bits});
      }
    }
  }
  return all;
}

// Rows of every kind that has gone wrong somewhere: sizes far apart, one outlier, all equal, zeros, one sign only, a
// range that no float holds.
std::vector<float> odd_rows(int64_t rows, int64_t cols) {
  std::mt19937 random(static_cast<unsigned>(rows * 1000 + cols));
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (int64_t row = 0; row < rows; ++row) {
    const std::span<float> x = std::span(values).subspan(static_cast<size_t>(row * cols), static_cast<size_t>(cols));
    for (float& value : x) value = normal(random);
    const auto scale_by = [&x](float factor) {
      for (float& value : x) value *= factor;
    };
    switch (row % 9) {
      case 0:
        break;
      case 1:
        scale_by(0x1p100f);
        break;
      case 2:
        scale_by(0x1p-100f);
        break;
      case 3:
        scale_by(0x1p-140f);
        break;  // subnormal
      case 4:
        x[x.size() / 2] = -1000.0f;
        break;
      case 5:
        std::fill(x.begin(), x.end(), -0.3f);
        break;
      case 6:
        std::fill(x.begin(), x.end(), 0.0f);
        break;
      case 7:
        std::transform(x.begin(), x.end(), x.begin(), [](float v) { return std::abs(v); });
        break;
      case 8:
        x.back() = std::numeric_limits<float>::max();
        break;
    }
  }
  return values;
}

TEST(QuantizeWeight, EveryGroupHasItsScaleAndZeroPointOrMinimum) {
  for (const WeightScheme& scheme : schemes()) {
    for (const int64_t cols : {256, 768}) {
      const std::vector<float> values = odd_rows(19, cols);
      const QTensor quantized = quantize_weight(matrix(19, cols, values).view(), scheme, "w");
      EXPECT_NO_THROW(check(quantized, "w"));
      expect_codes_of_absmax(values, quantized);
    }
  }
}

// By plain formulas in double, on values spread over their range; no code but the allowed ones, and each of these.
TEST(QuantizeWeight, OfAllBitsExactlyTheirCodesAreUsed) {
  for (const WeightScheme& scheme : schemes()) {
    if (scheme.group_size > 32) continue;
    const int bits = scheme.used_bits();
    const bool symmetric = scheme.mapping == CodeMapping::kSymmetric, bytes = scheme.bits == 8;
    const int count = 1 << bits, half = count / 2;
    const int lowest = bytes && symmetric ? 1 - half : bytes || symmetric ? -half : 0;
    const int highest = bytes || symmetric ? half - 1 : count - 1;
    for (const int64_t cols : {64, 1056, 4128}) {
      std::vector<float> values(static_cast<size_t>(cols));
      for (int64_t i = 0; i < cols; ++i) {
        const double share = static_cast<double>(i * 797 % cols) / static_cast<double>(cols - 1);
        values[static_cast<size_t>(i)] = static_cast<float>(symmetric ? 4 * share - 2 : 4 * share - 1);
      }
      const QTensor made = quantize_weight(matrix(1, cols, values).view(), scheme, "w");
      EXPECT_NO_THROW(check(made, "w"));
      const int64_t width = cols / made.groups();
      std::vector<bool> met(static_cast<size_t>(count), false);
      for (int64_t i = 0; i < cols; ++i) {
        const auto group =
            std::span(values).subspan(static_cast<size_t>(i / width * width), static_cast<size_t>(width));
        const auto [least, most] = std::ranges::minmax(group);
        const bool minimum = scheme.mapping == CodeMapping::kMinimum;
        const double low = minimum ? least : std::min(least, 0.0f), high = minimum ? most : std::max(most, 0.0f);
        const double absmax = std::max(-low, high), x = values[static_cast<size_t>(i)];
        double place = x / (absmax / (bytes ? half - 1 : half - 0.5));
        if (!symmetric) {
          const double step = (high - low) / (count - 1);
          place = minimum ? (x - low) / step : x / step + std::nearbyint(-low / step) + lowest;
        }
        const int code = made.codes.as<int8_t>()[i];
        EXPECT_LE(std::abs(code - std::clamp<double>(place, lowest, highest)), 0.5001) << to_string({scheme}) << i;
        ASSERT_GE(code, lowest);
        ASSERT_LE(code, highest);
        met[static_cast<size_t>(code - lowest)] = true;
      }
      // The lowest of these symmetric ones begins where the range ends, which a rounded scale may put beyond it.
      if (symmetric && !bytes) met[0] = true;
      if (width > 4 * count) {
        EXPECT_EQ(std::ranges::count(met, true), highest - lowest + 1)
            << to_string({scheme}) << ", " << cols << " columns";
      }
    }
    QTensor foreign = quantize_weight(matrix(1, 32, std::vector<float>(32, 1.0f)).view(), scheme, "w");
    foreign.codes.mutable_as<int8_t>()[3] = static_cast<int8_t>(highest + 1);
    if (bits < 8) {
      EXPECT_THROW(check(foreign, "w"), NumericError);
    }
  }
}

TEST(QuantizeWeight, BitsThatNoCodesHaveAreRefused) {
  const Tensor weight = matrix(1, 32, std::vector<float>(32, 1.0f));
  for (const auto& [bits, unused] : {std::pair{4, 3}, {4, -1}, {8, 4}, {8, -1}, {2, 0}})
    EXPECT_THROW(quantize_weight(weight.view(), {.bits = bits, .unused_bits = unused}, "w"), ShapeError) << bits;
}

TEST(QuantizeWeight, WholeRowsMayHaveAnyWidth) {
  for (const WeightScheme& scheme : schemes()) {
    if (scheme.group_size != 0) continue;
    for (const int64_t cols : {1, 2, 7, 33, 65}) {
      const std::vector<float> values = odd_rows(9, cols);
      const QTensor quantized = quantize_weight(matrix(9, cols, values).view(), scheme, "w");
      EXPECT_NO_THROW(check(quantized, "w"));
      expect_codes_of_absmax(values, quantized);
    }
  }
}

TEST(QuantizeWeight, EveryValueIsWithinHalfAStepOfItsOwn) {
  for (const WeightScheme& scheme : schemes()) {
    const std::vector<float> values = odd_rows(19, 256);
    const Tensor weight = matrix(19, 256, values);
    const QTensor quantized = quantize_weight(weight.view(), scheme, "w");
    for (int64_t i = 0; i < 19 * 256; ++i) {
      const int64_t group = i / (256 / quantized.groups());
      const double scale = quantized.scales.as<float>()[group];
      const bool shifted = scheme.mapping == CodeMapping::kZeroPoint;
      const int zero_point = shifted ? quantized.zero_points.as<int8_t>()[group] : 0;
      const double minimum = scheme.mapping == CodeMapping::kMinimum ? quantized.minima.as<float>()[group] : 0.0f;
      const double value = scale * (quantized.codes.as<int8_t>()[i] - zero_point) + minimum;
      // A zero point is rounded by up to half a step, which moves the ends of the range by as much.
      const double bound = shifted ? 1.0001 : 0.5001;
      ASSERT_LE(std::abs(values[i] - value), bound * scale)
          << to_string({scheme, ActivationMode::kFloat}) << ", value " << i << " = " << values[i];
    }
  }
}

double squared_error_of(std::span<const float> x, const QTensor& quantized) {
  double sum = 0;
  const Tensor back = dequantize(quantized);
  for (size_t i = 0; i < x.size(); ++i) sum += std::pow(double{x[i]} - back.as<float>()[i], 2);
  return sum;
}

TEST(QuantizeWeight, TheSearchFindsTheShareWithTheLeastError) {
  for (WeightScheme scheme : schemes()) {
    if (scheme.group_size != 0) continue;
    scheme.range = RangeEstimator::kMse;
    for (const int64_t cols : {1, 3, 33, 256}) {
      const std::vector<float> values = odd_rows(9, cols);
      for (int64_t row = 0; row < 8; ++row) {  // of the last, squares overflow
        const auto x = std::span(values).subspan(static_cast<size_t>(row * cols), static_cast<size_t>(cols));
        const Tensor weight = matrix(1, cols, {x.begin(), x.end()});
        const QTensor found = quantize_weight(weight.view(), scheme, "w");
        EXPECT_NO_THROW(check(found, "w"));
        const double least = squared_error_of(x, found);
        float low = 0, high = 0;
        for (const float value : x) low = std::min(low, value), high = std::max(high, value);
        const float smallest = *std::ranges::min_element(x), largest = *std::ranges::max_element(x);
        bool offered = false;
        const int bits = scheme.used_bits();
        for (int hundredths = 100; hundredths >= (bits < 4 ? 20 : 50); --hundredths) {
          const float share = static_cast<float>(hundredths) / 100.0f, absmax = std::max(-low, high);
          WeightScheme by_absmax = scheme;
          by_absmax.range = RangeEstimator::kAbsmax;
          QTensor other = quantize_weight(weight.view(), by_absmax, "w");
          float& scale = other.scales.mutable_as<float>()[0];
          if (scheme.mapping == CodeMapping::kSymmetric) {
            scale = scheme.bits == 8 ? int8_scale(absmax * share, bits) : int4_scale(absmax * share, bits);
          } else if (scheme.mapping == CodeMapping::kMinimum) {
            const float cut = (largest * 0.5f - smallest * 0.5f) * (static_cast<float>(100 - hundredths) / 100.0f);
            scale = minimum_scale(smallest + cut, largest - cut, bits);
            other.minima.mutable_as<float>()[0] = smallest + cut;
          } else if (scheme.bits == 8) {
            const ActivationScale grid = uint8_scale(low * share, high * share, bits);
            scale = grid.scale;
            other.zero_points.mutable_as<int8_t>()[0] = static_cast<int8_t>(grid.zero_point - (1 << (bits - 1)));
          } else {
            const ScaleAndZeroPoint grid = uint4_scale(low * share, high * share, bits);
            scale = grid.scale;
            other.zero_points.mutable_as<int8_t>()[0] = grid.zero_point;
          }
          offered = offered || scale == found.scales.as<float>()[0];
          other.codes = quantize_codes(weight.view(), other, "w");
          // The search takes differences from the minimum, whose rounding is not that of the dequantized values.
          // Of the subnormal row halves are rounded too.
          const double slack = scheme.mapping != CodeMapping::kMinimum ? 1e-12 : row == 3 ? 1e-2 : 1e-5;
          ASSERT_GE(squared_error_of(x, other) * (1 + slack), least)
              << to_string({scheme, ActivationMode::kFloat}) << ", row " << row << ", share " << share;
        }
        EXPECT_TRUE(offered) << "the scale is of one of the shares";
      }
    }
  }
}

TEST(QuantizeWeight, OfEqualErrorsTheLargestShareIsTaken) {
  // Zeros, and one value that every range holds exactly.
  const WeightScheme scheme{.bits = 4, .range = RangeEstimator::kMse};
  EXPECT_EQ(quantize_weight(matrix(1, 2, {0, 0}).view(), scheme, "w").scales.as<float>()[0], 1.0f);
  const QTensor one =
      quantize_weight(matrix(1, 1, {15.0f}).view(),
                      {.bits = 4, .mapping = CodeMapping::kZeroPoint, .range = RangeEstimator::kMse}, "w");
  EXPECT_EQ(one.scales.as<float>()[0], 1.0f);
  EXPECT_EQ(one.codes.as<int8_t>()[0], 15);
}

// A sum of uniforms is near enough to a bell. What SAWB finds without a search loses little beside the search at 4
// bits, and the largest magnitude loses much; on that magnitude the range never grows.
TEST(QuantizeWeight, SawbFitsBellShapedWeights) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(8 * 4096);
  for (float& value : values) {
    value = 0;
    for (int i = 0; i < 12; ++i) value += uniform(random);
  }
  const Tensor weight = matrix(8, 4096, values);
  const auto error_of = [&](RangeEstimator range) {
    return relative_error(weight.view(), quantize_weight(weight.view(), {.bits = 4, .range = range}, "w"));
  };
  EXPECT_LT(error_of(RangeEstimator::kSawb), 1.05 * error_of(RangeEstimator::kMse));
  EXPECT_GT(error_of(RangeEstimator::kAbsmax), 1.2 * error_of(RangeEstimator::kSawb));

  double squares = 0, magnitudes = 0, absmax = 0;
  for (size_t i = 0; i < 4096; ++i) {
    const double magnitude = std::abs(values[i]);
    squares += magnitude * magnitude, magnitudes += magnitude, absmax = std::max(absmax, magnitude);
  }
  struct Fitted {
    int bits, unused_bits;
    double c1, c2, limit;
  };
  for (const auto& [bits, unused, c1, c2, limit] : {Fitted{4, 2, 3.12, 2.064, 1.5}, Fitted{4, 1, 7.509, 6.892, 3.5},
                                                    Fitted{8, 3, 17.74, 18.64, 15}, Fitted{8, 1, 28.24, 30.81, 63}}) {
    const WeightScheme scheme{.bits = bits, .range = RangeEstimator::kSawb, .unused_bits = unused};
    const QTensor made = quantize_weight(weight.view(), scheme, "w");
    const double clip = std::min(absmax, c1 * std::sqrt(squares / 4096) - c2 * magnitudes / 4096);
    EXPECT_NEAR(made.scales.as<float>()[0], clip / limit, 1e-5) << bits << " " << unused;
    const QTensor by_absmax = quantize_weight(weight.view(), {.bits = bits, .unused_bits = unused}, "w");
    EXPECT_LE(relative_error(weight.view(), made), relative_error(weight.view(), by_absmax)) << bits << " " << unused;
  }
  EXPECT_THROW(quantize_weight(weight.view(), {.range = RangeEstimator::kSawb, .unused_bits = 2}, "w"), ShapeError);

  const WeightScheme sawb{.bits = 8, .range = RangeEstimator::kSawb};
  for (const std::vector<float>& flat : {std::vector<float>(64, 3.0f), std::vector<float>(64, 0.0f)}) {
    const Tensor row = matrix(1, 64, flat);
    EXPECT_EQ(quantize_weight(row.view(), sawb, "w").scales.as<float>()[0],
              quantize_weight(row.view(), {.bits = 8}, "w").scales.as<float>()[0]);
  }
  // By hand: 31.76 · √(2.5) - 35.04 · 1.5 = -2.3 is no range, so 2 is; of 0, 0, 0, 1 it is 7.12, beyond 1.
  EXPECT_EQ(quantize_weight(matrix(1, 2, {1, -2}).view(), sawb, "w").scales.as<float>()[0], int8_scale(2));
  EXPECT_EQ(quantize_weight(matrix(1, 4, {0, 0, 0, 1}).view(), sawb, "w").scales.as<float>()[0], int8_scale(1));
  std::vector<float> peak(256, 0.5f);  // 31.76 · √((255 · 0.25 + 100) / 256) - 35.04 · (127.5 + 10) / 256
  peak[17] = -10;
  EXPECT_NEAR(quantize_weight(matrix(1, 256, peak).view(), sawb, "w").scales.as<float>()[0],
              (31.76 * std::sqrt((255 * 0.25 + 100) / 256) - 35.04 * 137.5 / 256) / 127, 1e-6);
}

TEST(QuantizeWeight, GroupsOfOneValueAreThatMinimum) {
  for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse}) {
    for (const float value : {0.0f, -0.3f, 1e-40f, 1e30f, -std::numeric_limits<float>::max()}) {
      const Tensor weight = matrix(2, 32, std::vector<float>(64, value));
      const QTensor quantized = quantize_weight(
          weight.view(), {.bits = 4, .group_size = 32, .mapping = CodeMapping::kMinimum, .range = range}, "w");
      EXPECT_THAT(quantized.scales.as<float>(), Each(1.0f));
      EXPECT_THAT(quantized.minima.as<float>(), Each(value));
      EXPECT_THAT(quantized.codes.as<int8_t>(), Each(0));
      EXPECT_THAT(dequantize(quantized).as<float>(), Each(value));
      EXPECT_EQ(relative_error(weight.view(), quantized), 0.0);
    }
  }
}

TEST(QuantizeWeight, ARangeThatNoFloatHoldsIsCoveredFromItsMinimum) {
  const float largest = std::numeric_limits<float>::max();
  std::vector<float> values;
  for (int i = 0; i < 32; ++i) values.push_back(static_cast<float>(double{largest} * (2.0 * i / 31 - 1)));
  const Tensor weight = matrix(1, 32, values);
  for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse}) {
    const QTensor quantized =
        quantize_weight(weight.view(), {.bits = 4, .mapping = CodeMapping::kMinimum, .range = range}, "w");
    EXPECT_NO_THROW(check(quantized, "w"));
    const double scale = quantized.scales.as<float>()[0];
    const Tensor back = dequantize(quantized);
    for (int i = 0; i < 32; ++i) EXPECT_LE(std::abs(double{back.as<float>()[i]} - values[i]), 1.1 * scale) << i;
    // Of values spread evenly over ±L in steps of 2 L / 15: (2 L / 15 / √12) / (L / √3).
    EXPECT_LT(relative_error(weight.view(), quantized), 1.0 / 15);
  }
}

TEST(QuantizeWeight, AMinimumServesGroupsFarFromZeroBest) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(3.0f, 0.1f);
  std::vector<float> values(1024);
  for (float& value : values) value = normal(random);
  const Tensor weight = matrix(4, 256, values);
  const auto error = [&](CodeMapping mapping) {
    return relative_error(weight.view(),
                          quantize_weight(weight.view(), {.bits = 4, .group_size = 32, .mapping = mapping}, "w"));
  };
  EXPECT_LT(error(CodeMapping::kMinimum) * 5, error(CodeMapping::kZeroPoint));
  EXPECT_LT(error(CodeMapping::kMinimum) * 5, error(CodeMapping::kSymmetric));
}

TEST(QuantizeWeight, TheSearchClipsAnOutlierThatCostsTheOthersTooMuch) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values(256);
  for (float& value : values) value = normal(random);
  values[100] = 12.0f;
  const Tensor weight = matrix(1, 256, values);
  for (const CodeMapping mapping : {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum}) {
    WeightScheme scheme{.bits = 4, .group_size = 256, .mapping = mapping};
    const double absmax = relative_error(weight.view(), quantize_weight(weight.view(), scheme, "w"));
    scheme.range = RangeEstimator::kMse;
    EXPECT_LT(relative_error(weight.view(), quantize_weight(weight.view(), scheme, "w")), 0.95 * absmax)
        << to_string({scheme, ActivationMode::kFloat});
  }
}

TEST(QuantizeWeight, ThreadsDoNotChangeTheBits) {
  for (WeightScheme scheme : schemes()) {
    for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse}) {
      scheme.range = range;
      const Tensor weight = matrix(300, 256, odd_rows(300, 256));
      const QTensor one = quantize_weight(weight.view(), scheme, "w", 1);
      for (const int threads : {0, 2, 3}) {
        const QTensor several = quantize_weight(weight.view(), scheme, "w", threads);
        ASSERT_THAT(several.codes.as<int8_t>(), testing::ElementsAreArray(one.codes.as<int8_t>()));
        ASSERT_THAT(several.scales.as<float>(), testing::ElementsAreArray(one.scales.as<float>()));
        ASSERT_THAT(several.minima.as<float>(), testing::ElementsAreArray(one.minima.as<float>()));
      }
    }
  }
}

TEST(QuantizeWeight, GroupsMustDivideTheInputs) {
  const Tensor weight(DType::kF32, {2, 96});
  EXPECT_NO_THROW(quantize_weight(weight.view(), {.bits = 4, .group_size = 32}, "w"));
  EXPECT_THROW(quantize_weight(weight.view(), {.bits = 4, .group_size = 64}, "w"), ShapeError);
  EXPECT_THROW(quantize_weight(weight.view(), {.bits = 4, .group_size = 48}, "w"), ShapeError);
  EXPECT_THROW(quantize_weight(weight.view(), {.bits = 8, .mapping = CodeMapping::kMinimum}, "w"), ShapeError);
  EXPECT_THROW(quantize_weight(weight.view(), {.bits = 3}, "w"), ShapeError);
}

TEST(QuantizeWeight, TheFirstBadChannelIsNamedWhateverTheThreads) {
  std::vector<float> values(1000 * 256, 1.0f);
  for (const int64_t row : {999, 700, 123}) values[row * 256 + 5] = kNan;
  const Tensor weight = matrix(1000, 256, values);
  for (const WeightScheme& scheme : schemes()) {
    for (const int threads : {1, 3}) {
      try {
        quantize_weight(weight.view(), scheme, "model.layers.0.mlp.up_proj", threads);
        ADD_FAILURE() << "accepted";
      } catch (const NumericError& error) {
        EXPECT_THAT(error.what(), HasSubstr("model.layers.0.mlp.up_proj: output channel 123 holds nan"));
      }
    }
  }
}

TEST(QuantizeCodes, AreTheCodesThatQuantizingGave) {
  for (WeightScheme scheme : schemes()) {
    for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse, RangeEstimator::kSawb}) {
      const bool sawb = scheme.mapping == CodeMapping::kSymmetric && has_sawb(scheme.used_bits());
      if (range == RangeEstimator::kSawb && !sawb) continue;
      scheme.range = range;
      const Tensor weight = matrix(19, 256, odd_rows(19, 256));
      QTensor quantized = quantize_weight(weight.view(), scheme, "w");
      const Tensor codes = std::exchange(quantized.codes, Tensor());
      EXPECT_THAT(quantize_codes(weight.view(), quantized, "w").as<int8_t>(),
                  testing::ElementsAreArray(codes.as<int8_t>()));
    }
  }
}

TEST(QuantizeCodes, TheGridMustFitTheWeight) {
  const QTensor grid = quantize_weight(matrix(2, 2, {1, 2, 3, 4}).view(), {}, "w");
  EXPECT_THROW(quantize_codes(matrix(3, 1, {1, 2, 3}).view(), grid, "w"), ShapeError);
  EXPECT_THROW(quantize_codes(matrix(2, 1, {1, kNan}).view(), grid, "w"), NumericError);
  EXPECT_NO_THROW(quantize_codes(matrix(2, 3, {1, 2, 3, 4, 5, 6}).view(), grid, "w"));
  QTensor minima =
      quantize_weight(matrix(2, 2, {1, 2, 3, 4}).view(), {.bits = 4, .mapping = CodeMapping::kMinimum}, "w");
  minima.minima = Tensor(DType::kF32, {1, 1});
  EXPECT_THROW(quantize_codes(matrix(2, 2, {1, 2, 3, 4}).view(), minima, "w"), ShapeError);
}

TEST(Dequantize, GroupsAndZeroPointsCount) {
  QTensor tensor{{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint},
                 Tensor(DType::kI8, {1, 64}),
                 Tensor(DType::kF32, {1, 2}),
                 Tensor(DType::kI8, {1, 2})};
  tensor.codes.mutable_as<int8_t>()[31] = 15;
  tensor.codes.mutable_as<int8_t>()[32] = 15;
  tensor.scales.mutable_as<float>()[0] = 0.5f;
  tensor.scales.mutable_as<float>()[1] = -2.0f;
  tensor.zero_points.mutable_as<int8_t>()[0] = 3;
  tensor.zero_points.mutable_as<int8_t>()[1] = 15;
  const Tensor values = dequantize(tensor);
  EXPECT_EQ(values.as<float>()[0], -1.5f);
  EXPECT_EQ(values.as<float>()[31], 6.0f);
  EXPECT_EQ(values.as<float>()[32], 0.0f);
  EXPECT_EQ(values.as<float>()[63], 30.0f);
}

TEST(Dequantize, ColumnsOfAReorderedWeightBelongToTheGroupsOfItsIndex) {
  // Columns 0, 2, 4, … are group 1, the others group 0, whose scale is ten times as large.
  QTensor tensor = make_qtensor({.bits = 4, .group_size = 32, .reordered = true}, 2, 64);
  std::vector<float> values(128);
  for (int32_t i = 0; i < 64; ++i) tensor.group_index.mutable_as<int32_t>()[i] = 1 - i % 2;
  for (int64_t i = 0; i < 128; ++i) values[i] = static_cast<float>(i % 7) * (i % 2 == 0 ? 0.1f : 1.0f);
  for (int64_t row = 0; row < 2; ++row) {
    set_group_grid(tensor, row, 0, {.scale = 1.0f});
    set_group_grid(tensor, row, 1, {.scale = 0.1f});
  }
  const Tensor weight = matrix(2, 64, values);
  tensor.codes = quantize_codes(weight.view(), tensor, "w");
  check(tensor, "w");
  EXPECT_EQ(tensor.codes.as<int8_t>()[5], 5);
  EXPECT_EQ(tensor.codes.as<int8_t>()[6], 6);
  EXPECT_THAT(dequantize(tensor).as<float>(), testing::Pointwise(testing::FloatEq(), values));
  EXPECT_LT(relative_error(weight.view(), tensor), 1e-6);
  tensor.group_index.mutable_as<int32_t>()[0] = 2;
  EXPECT_THROW(quantize_codes(weight.view(), tensor, "w"), ShapeError);
  EXPECT_THROW(quantize_weight(weight.view(), tensor.scheme, "w"), ShapeError);
}

TEST(Dequantize, MinimaAreAddedWithOneRounding) {
  QTensor tensor{{.bits = 4, .group_size = 32, .mapping = CodeMapping::kMinimum},
                 Tensor(DType::kI8, {1, 64}),
                 Tensor(DType::kF32, {1, 2})};
  tensor.minima = Tensor(DType::kF32, {1, 2});
  tensor.codes.mutable_as<int8_t>()[1] = 3;
  tensor.codes.mutable_as<int8_t>()[32] = 15;
  tensor.scales.mutable_as<float>()[0] = 0.1f;
  tensor.scales.mutable_as<float>()[1] = 0x1p125f;
  tensor.minima.mutable_as<float>()[0] = -0.3f;
  tensor.minima.mutable_as<float>()[1] = -0x1.ep127f;
  const Tensor values = dequantize(tensor);
  EXPECT_EQ(values.as<float>()[0], -0.3f);
  EXPECT_EQ(values.as<float>()[1], std::fma(3.0f, 0.1f, -0.3f));
  EXPECT_NE(values.as<float>()[1], 3.0f * 0.1f - 0.3f);
  EXPECT_EQ(values.as<float>()[32], 0x1.ep127f) << "15 · 2^125 alone would overflow";
  EXPECT_EQ(values.as<float>()[63], -0x1.ep127f);
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

// Values of a [rows, cols] matrix without some columns.
Tensor without(const Tensor& weight, std::span<const int32_t> columns) {
  const int64_t rows = weight.shape()[0], cols = weight.shape()[1];
  std::vector<float> kept;
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<float> rest = without_outliers(weight.as<float>().subspan(row * cols, cols), 0, columns);
    kept.insert(kept.end(), rest.begin(), rest.end());
  }
  return matrix(rows, cols - std::ssize(columns), kept);
}

TEST(QuantizeWeight, OutlierColumnsStayOutOfEveryGrid) {
  const int64_t rows = 5, cols = 64;
  std::vector<float> values;
  for (int64_t i = 0; i < rows * cols; ++i) values.push_back(std::sin(static_cast<float>(i * i)) + 0.5f);
  const std::vector<int32_t> columns = {3, 31, 32, 63};
  for (const int32_t column : columns) {
    for (int64_t row = 0; row < rows; ++row) values[row * cols + column] *= 100;
  }
  const Tensor weight = matrix(rows, cols, values), rest = without(weight, columns);
  for (const CodeMapping mapping : {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum}) {
    for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse}) {
      WeightScheme scheme{.bits = 4, .mapping = mapping, .range = range};
      const QTensor expected = quantize_weight(rest.view(), scheme, "w");
      scheme.outliers = true;
      const QTensor made = quantize_weight(weight.view(), scheme, "w", 2, columns);
      check(made, "w");
      EXPECT_EQ(made.outliers.dtype(), DType::kF16);
      EXPECT_THAT(made.outlier_indices(), testing::ElementsAreArray(columns));
      const std::vector<int32_t> place = outlier_places(made);
      const Tensor back = dequantize(made), expected_back = dequantize(expected);
      size_t at = 0;
      for (int64_t i = 0; i < rows * cols; ++i) {
        const int32_t outlier = place[i % cols];
        if (outlier < 0) {
          ASSERT_EQ(made.codes.as<int8_t>()[i], expected.codes.as<int8_t>()[at]) << i;
          ASSERT_EQ(back.as<float>()[i], expected_back.as<float>()[at++]);
        } else {
          ASSERT_EQ(back.as<float>()[i], to_float(to_half(values[i]))) << i;
        }
      }
      scheme.group_size = 32;
      check(quantize_weight(weight.view(), scheme, "w", 1, columns), "w");
      scheme.group_size = 0;
      EXPECT_THROW(quantize_weight(weight.view(), scheme, "w"), ShapeError);
      scheme.outliers = false;
      EXPECT_THROW(quantize_weight(weight.view(), scheme, "w", 1, columns), ShapeError);
    }
  }
  const std::vector<int32_t> all = {0, 1};
  const WeightScheme scheme{.bits = 8, .outliers = true};
  const QTensor nothing_left = quantize_weight(matrix(2, 2, {1, -2, 3, 4}).view(), scheme, "w", 1, all);
  EXPECT_THAT(dequantize(nothing_left).as<float>(), ElementsAre(1, -2, 3, 4));
  EXPECT_EQ(relative_error(matrix(2, 2, {1, -2, 3, 4}).view(), nothing_left), 0);
}

TEST(QuantizeWeight, OutliersTakeTheSixteenBitsThatHaveRoomForThem) {
  const std::vector<int32_t> columns = {1};
  const WeightScheme scheme{.bits = 8, .outliers = true};
  const auto outliers = [&](ConstTensorView weight) {
    return quantize_weight(weight, scheme, "w", 1, columns).outliers.dtype();
  };
  EXPECT_EQ(outliers(matrix(2, 2, {1e30f, 65504, 1, 0}).view()), DType::kF16);
  EXPECT_EQ(outliers(matrix(2, 2, {1, 2, 1, 65520}).view()), DType::kBF16);
  EXPECT_THROW(outliers(matrix(1, 2, {1, std::numeric_limits<float>::max()}).view()), NumericError);
  Tensor brain(DType::kBF16, {1, 2});
  brain.mutable_as<BFloat16>()[1] = to_bfloat16(0x1.02p-20f);  // a subnormal fp16 has too few bits for it
  EXPECT_EQ(outliers(brain.view()), DType::kBF16);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
// Numbers and rows of them: scales, zero points, minima and codes. quantize_test.cpp has whole weights.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

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

TEST(Quantize, Int4CoversTheRangeWithAllSixteenCodes) {
  EXPECT_EQ(int4_scale(7.5f), 1.0f);
  EXPECT_EQ(int4_scale(0.0f), 1.0f);
  EXPECT_EQ(int4_scale(std::numeric_limits<float>::denorm_min()), 0x1p-100f);
  for (const float x : {7.4f, 7.5f, 8.0f, 1e30f, kInfinity}) EXPECT_EQ(int4_code(x, 1.0f), 7) << x;
  for (const float x : {-7.6f, -8.0f, -8.5f, -1e30f, -kInfinity}) EXPECT_EQ(int4_code(x, 1.0f), -8) << x;
  for (int n = -8; n <= 6; ++n) {
    const float half = n + 0.5f;
    EXPECT_EQ(int4_code(half, 1.0f), n % 2 == 0 ? n : n + 1) << half;
    EXPECT_EQ(int4_code(static_cast<float>(n), 1.0f), n);
  }
}

TEST(Quantize, ZeroPointsGiveZeroACodeOfItsOwn) {
  struct Case {
    float low, high, scale;
    int zero_point;
  };
  const float largest = std::numeric_limits<float>::max();
  const std::vector<Case> cases = {
      {0, 15, 1, 0},                               // nothing negative
      {-15, 0, 1, 15},                             // nothing positive
      {-5, 10, 1, 5},                              //
      {-5.5f, 9.5f, 1, 6},                         // half to even
      {-6.5f, 8.5f, 1, 6},                         //
      {0, 0, 1, 0},                                // zeros
      {-0x1p-149f, 0, 0x1p-100f, 0},               // subnormal: the floor
      {-largest, 0, largest / 15, 15},             //
      {-largest, largest, 2 * (largest / 15), 8},  // high - low overflows; 7.5 is rounded to 8
  };
  for (const Case& c : cases) {
    const auto [scale, zero_point] = uint4_scale(c.low, c.high);
    EXPECT_EQ(scale, c.scale) << c.low << " to " << c.high;
    EXPECT_EQ(zero_point, c.zero_point) << c.low << " to " << c.high;
    EXPECT_EQ(uint4_code(0.0f, 1.0f / scale, zero_point), zero_point);
  }
  // clamp(rne(x · (1/s)) + z, 0, 15) as it is written.
  for (int zero_point = 0; zero_point <= 15; ++zero_point) {
    for (float x = -40; x <= 40; x += 0.25f) {
      EXPECT_EQ(uint4_code(x, 1.0f, static_cast<int8_t>(zero_point)),
                std::clamp(static_cast<int>(std::nearbyint(x)) + zero_point, 0, 15))
          << x << " + " << zero_point;
    }
    EXPECT_EQ(uint4_code(kInfinity, 1.0f, static_cast<int8_t>(zero_point)), 15);
    EXPECT_EQ(uint4_code(-kInfinity, 1.0f, static_cast<int8_t>(zero_point)), 0);
  }
}

TEST(Quantize, AMinimumIsTheCodeZero) {
  struct Case {
    float low, high, scale;
  };
  const float largest = std::numeric_limits<float>::max();
  const std::vector<Case> cases = {
      {0, 15, 1},
      {-15, 0, 1},
      {100, 115, 1},  // 0 lies outside
      {-31, -1, 2},
      {7, 7, 1},  // nothing but one value
      {1, std::nextafter(1.0f, 2.0f), 0x1p-23f / 15},
      {0, 0x1p-149f, 0x1p-100f},                // subnormal: the floor
      {-largest, largest, 2 * (largest / 15)},  // high - low overflows
  };
  for (const Case& c : cases) {
    const float scale = minimum_scale(c.low, c.high), inverse = 1 / scale;
    EXPECT_EQ(scale, c.scale) << c.low << " to " << c.high;
    EXPECT_EQ(minimum_code(c.low, inverse, c.low), 0) << c.low << " to " << c.high;
    EXPECT_EQ(minimum_code(c.high, inverse, c.low), c.low == c.high || scale == 0x1p-100f ? 0 : 15)
        << c.low << " to " << c.high;
  }
  // rne(clamp((x - m) · (1/s), 0, 15)) as it is written.
  for (const float minimum : {-20.0f, -0.25f, 0.0f, 3.5f}) {
    for (float x = -40; x <= 40; x += 0.25f) {
      EXPECT_EQ(minimum_code(x, 2.0f, minimum), std::nearbyint(std::clamp((x - minimum) * 2, 0.0f, 15.0f)))
          << x << " above " << minimum;
    }
    EXPECT_EQ(minimum_code(kInfinity, 1.0f, minimum), 15);
    EXPECT_EQ(minimum_code(-kInfinity, 1.0f, minimum), 0);
  }
  // x - m overflows from 0.5 · largest on, and its code is still the nearest.
  const float scale = minimum_scale(-largest, largest);
  for (int code = 0; code <= 15; ++code) {
    const auto x = static_cast<float>(double{scale} * code - double{largest});
    EXPECT_EQ(minimum_code(x, 1 / scale, -largest), code) << x;
  }
}

TEST(Quantize, HalvingTheDifferenceChangesNoCode) {
  std::mt19937 random(12);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 20'000; ++trial) {
    const float size = std::ldexp(1.0f, std::uniform_int_distribution(-140, 120)(random));
    const float x = normal(random) * size, minimum = normal(random) * size;
    const float scale = minimum_scale(minimum, minimum + std::abs(normal(random)) * size);
    const float steps = std::clamp((x - minimum) * (1 / scale), 0.0f, 15.0f);
    ASSERT_EQ(minimum_code(x, 1 / scale, minimum), std::nearbyint(steps)) << x << " above " << minimum;
  }
}

}  // namespace
}  // namespace octet

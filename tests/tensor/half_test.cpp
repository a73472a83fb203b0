// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/half.h"

#include <bit>
#include <cmath>
#include <limits>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Half half(int bits) { return Half{static_cast<uint16_t>(bits)}; }
BFloat16 bfloat16(int bits) { return BFloat16{static_cast<uint16_t>(bits)}; }

// (1 + fraction / 2^10) · 2^(exponent - 15), in double.
double half_by_definition(int bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Half, EveryFiniteValueWidensByDefinitionAndNarrowsBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    if (((bits >> 10) & 31) == 31) continue;
    const float wide = to_float(half(bits));
    ASSERT_EQ(wide, half_by_definition(bits)) << bits;
    ASSERT_EQ(std::signbit(wide), (bits & 0x8000) != 0) << bits;
    ASSERT_EQ(to_half(wide).bits, bits);
  }
}

TEST(Half, InfinityAndNanStayWhatTheyAre) {
  EXPECT_EQ(to_float(half(0x7c00)), kInfinity);
  EXPECT_EQ(to_float(half(0xfc00)), -kInfinity);
  EXPECT_EQ(to_half(kInfinity).bits, 0x7c00);
  EXPECT_EQ(to_half(-kInfinity).bits, 0xfc00);
  for (int fraction = 1; fraction < 1024; ++fraction) {
    EXPECT_TRUE(std::isnan(to_float(half(0x7c00 | fraction))));
    EXPECT_TRUE(std::isnan(to_float(half(0xfc00 | fraction))));
  }
  // A NaN whose payload lies only in bits that a half does not have.
  EXPECT_TRUE(std::isnan(to_float(to_half(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Half, NarrowingRoundsToNearestTiesToEven) {
  // Between each two neighbours: just below the middle goes down, the middle to the even one, just above goes up.
  for (int bits = 0; bits < 0x7bff; ++bits) {
    const double low = half_by_definition(bits), high = half_by_definition(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(middle, (low + high) / 2) << "a float holds the middle exactly";
    ASSERT_EQ(to_half(std::nextafter(middle, 0.0f)).bits, bits);
    ASSERT_EQ(to_half(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(to_half(std::nextafter(middle, kInfinity)).bits, bits + 1);
    ASSERT_EQ(to_half(-middle).bits, 0x8000 | (bits % 2 == 0 ? bits : bits + 1));
  }
}

TEST(Half, OverflowGivesInfinity) {
  EXPECT_EQ(to_half(65504.0f).bits, 0x7bff);
  EXPECT_EQ(to_half(std::nextafter(65520.0f, 0.0f)).bits, 0x7bff);
  EXPECT_EQ(to_half(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_half(std::numeric_limits<float>::max()).bits, 0x7c00);
  EXPECT_EQ(to_half(-1e30f).bits, 0xfc00);
}

TEST(Half, UnderflowGivesASignedZero) {
  EXPECT_EQ(to_half(0x1p-25f).bits, 0);  // halfway to the smallest half, and 0 is even
  EXPECT_EQ(to_half(std::nextafter(0x1p-25f, 1.0f)).bits, 1);
  EXPECT_EQ(to_half(-0x1p-26f).bits, 0x8000);
  EXPECT_EQ(to_half(std::numeric_limits<float>::denorm_min()).bits, 0);
}

// How many of all 2^16 draws take `value` to which bits.
template <class Narrow>
std::map<uint16_t, int> outcomes(float value, Narrow narrow) {
  std::map<uint16_t, int> counts;
  for (int random = 0; random < 65536; ++random) ++counts[narrow(value, static_cast<uint16_t>(random)).bits];
  return counts;
}

TEST(Half, StochasticRoundingIsAsLikelyAsItIsNear) {
  using testing::ElementsAre;
  using testing::Pair;
  EXPECT_THAT(outcomes(1.5f, to_half_stochastically), ElementsAre(Pair(0x3e00, 65536))) << "what a half is";
  EXPECT_THAT(outcomes(1 + 0x1p-12f, to_half_stochastically), ElementsAre(Pair(0x3c00, 49152), Pair(0x3c01, 16384)));
  EXPECT_THAT(outcomes(-1 - 0x1p-12f, to_half_stochastically), ElementsAre(Pair(0xbc00, 49152), Pair(0xbc01, 16384)));
  EXPECT_THAT(outcomes(0x1p-24f * 2.125f, to_half_stochastically), ElementsAre(Pair(2, 57344), Pair(3, 8192)));
  EXPECT_THAT(outcomes(0x1p-26f, to_half_stochastically), ElementsAre(Pair(0, 49152), Pair(1, 16384)));
  EXPECT_THAT(outcomes(2 - 0x1p-12f, to_half_stochastically), ElementsAre(Pair(0x3fff, 16384), Pair(0x4000, 49152)));
  EXPECT_THAT(outcomes(65504 + 8, to_half_stochastically), ElementsAre(Pair(0x7bff, 49152), Pair(0x7c00, 16384)));
  EXPECT_THAT(outcomes(1e9f, to_half_stochastically), ElementsAre(Pair(0x7c00, 65536)));
  EXPECT_TRUE(std::isnan(to_float(to_half_stochastically(std::bit_cast<float>(0x7f800001u), 0xffff))));
}

TEST(BFloat16, StochasticRoundingIsAsLikelyAsItIsNear) {
  using testing::ElementsAre;
  using testing::Pair;
  EXPECT_THAT(outcomes(1.5f, to_bfloat16_stochastically), ElementsAre(Pair(0x3fc0, 65536)));
  EXPECT_THAT(outcomes(-1 - 0x1p-10f, to_bfloat16_stochastically),
              ElementsAre(Pair(0xbf80, 57344), Pair(0xbf81, 8192)));
  EXPECT_THAT(outcomes(2 - 0x1p-9f, to_bfloat16_stochastically), ElementsAre(Pair(0x3fff, 16384), Pair(0x4000, 49152)));
  EXPECT_THAT(outcomes(kInfinity, to_bfloat16_stochastically), ElementsAre(Pair(0x7f80, 65536)));
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16_stochastically(std::bit_cast<float>(0x7f800001u), 0xffff))));
}

TEST(BFloat16, EveryValueWidensToItsBitsAndNarrowsBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float wide = to_float(bfloat16(bits));
    ASSERT_EQ(std::bit_cast<uint32_t>(wide), static_cast<uint32_t>(bits) << 16);
    if (std::isnan(wide)) {
      ASSERT_TRUE(std::isnan(to_float(to_bfloat16(wide)))) << bits;
    } else {
      ASSERT_EQ(to_bfloat16(wide).bits, bits);
    }
  }
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(BFloat16, NarrowingRoundsToNearestTiesToEven) {
  for (int bits = 0; bits < 0x7f80; ++bits) {
    const uint32_t middle = (static_cast<uint32_t>(bits) << 16) | 0x8000u;
    ASSERT_EQ(to_bfloat16(std::bit_cast<float>(middle - 1)).bits, bits);
    ASSERT_EQ(to_bfloat16(std::bit_cast<float>(middle)).bits, bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(to_bfloat16(std::bit_cast<float>(middle + 1)).bits, bits + 1);
  }
}

}  // namespace
}  // namespace octet

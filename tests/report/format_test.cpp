// SPDX-License-Identifier: Apache-2.0
#include "octet/report/format.h"

#include <limits>

#include <gtest/gtest.h>

namespace octet {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();

TEST(Format, CountsHaveThousandsSeparators) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(22'713'216), "22,713,216");
  EXPECT_EQ(format_count(-123'456), "-123,456");
  EXPECT_EQ(format_count(-999), "-999");
  EXPECT_EQ(format_count(kLeast), "-9,223,372,036,854,775,808");
}

TEST(Format, NumbersKeepTheirDigitsThroughRounding) {
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_number(1.5), "1.50");
  EXPECT_EQ(format_number(9.994), "9.99");
  EXPECT_EQ(format_number(9.996), "10.0");
  EXPECT_EQ(format_number(0.00912), "0.00912");
  EXPECT_EQ(format_number(0.09996), "0.100");
  EXPECT_EQ(format_number(99.96), "100");
  EXPECT_EQ(format_number(1234.5), "1,234");
  EXPECT_EQ(format_number(-1234567.8, 8), "-1,234,567.8");
  EXPECT_EQ(format_number(0.5, 1), "0.5");
  EXPECT_EQ(format_number(kNan), "nan");
  EXPECT_EQ(format_number(-std::numeric_limits<double>::infinity()), "-inf");
}

TEST(Format, BytesHaveDecimalUnitsAndThreeDigits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(45'432'112), "45.4 MB");
  EXPECT_EQ(format_bytes(999'499), "999 kB");
  EXPECT_EQ(format_bytes(999'500), "1.00 MB");
  EXPECT_EQ(format_bytes(129'000'000'000), "129 GB");
  EXPECT_EQ(format_bytes(-45'432'112), "-45.4 MB");
  EXPECT_EQ(format_bytes(kMost), "9.22 EB");
  EXPECT_EQ(format_bytes(kLeast), "-9.22 EB");
}

TEST(Format, TimesAndSharesCarryUnits) {
  EXPECT_EQ(format_ms(0.41234), "0.412 ms");
  EXPECT_EQ(format_ms(12.34), "12.3 ms");
  EXPECT_EQ(format_ms(1234.4), "1,234 ms");
  EXPECT_EQ(format_ms(kNan), "nan ms");
  EXPECT_EQ(format_percent(0.0091), "0.9 %");
  EXPECT_EQ(format_percent(0.99714, 2), "99.71 %");
  EXPECT_EQ(format_percent(1, 0), "100 %");
  EXPECT_EQ(format_percent(-12.5), "-1,250.0 %");
}

}  // namespace
}  // namespace octet

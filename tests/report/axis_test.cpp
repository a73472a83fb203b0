// SPDX-License-Identifier: Apache-2.0
#include "octet/report/axis.h"

#include <cmath>
#include <limits>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using enum Axis::Scale;
using enum Axis::Ends;

std::vector<std::string> labels(const Axis& axis) {
  std::vector<std::string> out;
  for (const double tick : axis.ticks()) out.push_back(axis.label(tick));
  return out;
}

TEST(Axis, TicksAreRoundNumbersWithTheDigitsThatTellThemApart) {
  EXPECT_THAT(labels(Axis(0, 1, kLinear, kAsGiven, 5)), testing::ElementsAre("0", "0.2", "0.4", "0.6", "0.8", "1.0"));
  EXPECT_THAT(labels(Axis(-10.5, 9.5, kLinear, kAsGiven, 4)), testing::ElementsAre("-10", "-5", "0", "5"));
  EXPECT_THAT(labels(Axis(0, 2500, kLinear, kAsGiven, 5)),
              testing::ElementsAre("0", "500", "1,000", "1,500", "2,000", "2,500"));
}

TEST(Axis, PaddedEndsAreTicksAndDoNotCrossZero) {
  const Axis axis(116, 269, kLinear, kPadded, 8);
  EXPECT_EQ(axis.low(), 100);
  EXPECT_EQ(axis.high(), 280);
  EXPECT_EQ(Axis(1, 9, kLinear, kPadded, 5).low(), 0);
  EXPECT_LT(Axis(-1, 9, kLinear, kPadded, 5).low(), -1);
}

TEST(Axis, LogarithmicTicksArePowersOfTenOrBetweenThem) {
  EXPECT_THAT(labels(Axis(0.0001, 1000, kLogarithmic, kAsGiven, 8)),
              testing::ElementsAre("0.0001", "0.001", "0.01", "0.1", "1", "10", "100", "1,000"));
  EXPECT_THAT(labels(Axis(0.01, 0.5, kLogarithmic, kAsGiven)),
              testing::ElementsAre("0.01", "0.02", "0.05", "0.1", "0.2", "0.5"));
  EXPECT_DOUBLE_EQ(Axis(1, 100, kLogarithmic, kAsGiven).share(10), 0.5);
}

TEST(Axis, AnyEndsHaveAFewTicksInsideThem) {
  for (const double low : {-3e5, -1.0, 0.0, 1e-9, 0.37, 7.0, 1e6}) {
    for (const double length : {0.0, 1e-7, 0.3, 1.0, 123.4, 1e9}) {
      for (const Axis::Scale scale : {kLinear, kLogarithmic}) {
        for (const Axis::Ends ends : {kAsGiven, kPadded}) {
          if (scale == kLogarithmic && low <= 0) continue;
          const Axis axis(low, low + length, scale, ends);
          SCOPED_TRACE(testing::Message() << low << " + " << length << (scale == kLinear ? " linear" : " log"));
          EXPECT_LE(axis.low(), low);
          EXPECT_GE(axis.high(), low + length);
          EXPECT_LE(axis.ticks().size(), 40u);
          for (const double tick : axis.ticks()) {
            EXPECT_GE(axis.share(tick), -1e-6);
            EXPECT_LE(axis.share(tick), 1 + 1e-6);
            EXPECT_TRUE(std::isfinite(tick));
          }
        }
      }
    }
  }
}

TEST(Axis, EndsThatNoAxisHasAreRefused) {
  EXPECT_THROW(Axis(2, 1, kLinear, kAsGiven), NumericError);
  EXPECT_THROW(Axis(0, 1, kLogarithmic, kAsGiven), NumericError);
  EXPECT_THROW(Axis(0, std::numeric_limits<double>::infinity(), kLinear, kAsGiven), NumericError);
  EXPECT_THROW(Axis(std::nan(""), 1, kLinear, kPadded), NumericError);
}

}  // namespace
}  // namespace octet

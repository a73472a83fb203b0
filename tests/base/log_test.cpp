// SPDX-License-Identifier: Apache-2.0
#include "octet/base/log.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "octet/base/philox.h"

namespace octet {
namespace {

TEST(LogOfPositive, IsWithinItsBoundOfTheExactLogarithm) {
  double relative = 0, absolute = 0;
  for (uint32_t i = 0; i < 200'000; ++i) {
    const auto bits = philox({i, 0, 0, 0}, 11);
    // Half of them over all exponents, half around 1.
    const double mantissa = 1 + uniform_double(bits[0], bits[1]);
    const double x = i % 2 == 0 ? std::ldexp(mantissa, static_cast<int>(bits[2] % 2000) - 1000) : mantissa / 1.5;
    const long double exact = std::log(static_cast<long double>(x));
    const auto error = static_cast<double>(std::abs(log_of_positive(x) - exact));
    if (std::abs(exact) > 0.5L) {
      relative = std::max(relative, static_cast<double>(error / std::abs(exact)));
    } else {
      absolute = std::max(absolute, error);
    }
  }
  EXPECT_LT(relative, 4e-16);
  EXPECT_LT(absolute, 2e-16);
  EXPECT_EQ(log_of_positive(1), 0);
  for (const double end : {std::numeric_limits<double>::min(), std::numeric_limits<double>::max()})
    EXPECT_NEAR(log_of_positive(end) / std::log(end), 1, 4e-16);
}

}  // namespace
}  // namespace octet

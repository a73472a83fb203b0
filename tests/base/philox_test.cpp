// SPDX-License-Identifier: Apache-2.0
#include "octet/base/philox.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "octet/base/exp.h"

namespace octet {
namespace {

using testing::ElementsAre;

// The known answers that the authors' library, Random123, publishes.
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_THAT(philox({0, 0, 0, 0}, 0), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(Philox, UniformNumbersLieFromZeroToBelowOne) {
  EXPECT_EQ(uniform_double(0, 0), 0);
  EXPECT_EQ(uniform_double(0, 1 << 11), 0x1p-53);
  EXPECT_EQ(uniform_double(0x80000000, 0), 0.5);
  EXPECT_EQ(uniform_double(0xffffffff, 0xffffffff), 1 - 0x1p-53);
  double sum = 0, squares = 0;
  constexpr int kDraws = 100'000;
  for (uint32_t i = 0; i < kDraws; ++i) {
    const auto bits = philox({i, 0, 0, 0}, 42);
    const double u = uniform_double(bits[0], bits[1]);
    sum += u, squares += u * u;
  }
  // Four standard errors of the mean of u, 1 / sqrt(12 n), and of u², sqrt(4 / 45 / n).
  EXPECT_NEAR(sum / kDraws, 0.5, 4 / std::sqrt(12.0 * kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 4 * std::sqrt(4.0 / 45 / kDraws));
}

TEST(ExpOfNonpositive, IsWithinItsBoundOfExp) {
  double worst = 0;
  for (double x = 0; x > -708; x -= 0.000'917) {
    const auto exact = static_cast<double>(std::exp(static_cast<long double>(x)));
    worst = std::max(worst, std::abs(exp_of_nonpositive(x) - exact) / exact);
  }
  EXPECT_LT(worst, 4e-16);
  EXPECT_EQ(exp_of_nonpositive(0), 1);
  EXPECT_EQ(exp_of_nonpositive(-0.0), 1);
  EXPECT_EQ(exp_of_nonpositive(-709), 0);
  EXPECT_EQ(exp_of_nonpositive(-INFINITY), 0);
  EXPECT_TRUE(std::isnan(exp_of_nonpositive(NAN)));
}

}  // namespace
}  // namespace octet

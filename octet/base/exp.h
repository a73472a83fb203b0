// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

namespace octet {

/// e^x for x ≤ 0 in double precision by a fixed sequence of IEEE operations, so that what is computed with it is the
/// same on every machine and with every C library; 0 below -708, NaN for NaN. Relative error below 4e-16. A loop over
/// it vectorizes.
inline double exp_of_nonpositive(double x) noexcept {
  constexpr double kLog2E = 1.4426950408889634074;
  // ln 2 in two parts: n · kLn2High is exact for |n| < 2^11, as its last 21 bits are zero.
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  constexpr double kRounder = 0x1.8p52;  // adding and subtracting it rounds to a whole number
  const double clamped = x < -708.0 ? -708.0 : x;
  const double shifted = clamped * kLog2E + kRounder;
  const double n = shifted - kRounder;
  const double r = (clamped - n * kLn2High) - n * kLn2Low;  // |r| ≤ ln 2 / 2, so that r^14 / 14! < 5e-18
  double sum = 1.0 / 6227020800.0;
  sum = sum * r + 1.0 / 479001600.0;
  sum = sum * r + 1.0 / 39916800.0;
  sum = sum * r + 1.0 / 3628800.0;
  sum = sum * r + 1.0 / 362880.0;
  sum = sum * r + 1.0 / 40320.0;
  sum = sum * r + 1.0 / 5040.0;
  sum = sum * r + 1.0 / 720.0;
  sum = sum * r + 1.0 / 120.0;
  sum = sum * r + 1.0 / 24.0;
  sum = sum * r + 1.0 / 6.0;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  // 2^n, n ≥ -1022: the low bits of `shifted` hold n as a two's complement number.
  const auto exponent = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  return x < -708.0 ? 0.0 : sum * std::bit_cast<double>(exponent);
}

}  // namespace octet

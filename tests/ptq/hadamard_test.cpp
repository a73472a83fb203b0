// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/hadamard.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

// Q, row by row: the images of unit vectors.
std::vector<std::vector<double>> matrix_of(const HadamardRotation& rotation) {
  std::vector<std::vector<double>> rows;
  for (int64_t i = 0; i < rotation.width(); ++i) {
    std::vector<double> row(rotation.width(), 0.0);
    row[i] = 1;
    rotation.apply(row.data());
    rows.push_back(std::move(row));
  }
  return rows;
}

TEST(Hadamard, RowsOfPaleysMatricesAreOrthogonal) {
  // 28 = 2 (13 + 1) and 36 = 2 (17 + 1) are of the second kind; 92 is of neither.
  for (const int64_t order : {1, 2, 4, 8, 12, 20, 24, 28, 32, 36, 44, 60, 68, 76, 84, 108, 140, 152, 172}) {
    const std::vector<int8_t> h = prime_hadamard(order);
    if (order == 172 || order == 76) {
      // 2 (37 + 1) is 76; 171 and 85 are no primes.
      ASSERT_EQ(h.empty(), order == 172);
      if (h.empty()) continue;
    }
    ASSERT_EQ(h.size(), order * order) << order;
    for (int64_t a = 0; a < order; ++a) {
      for (int64_t b = 0; b <= a; ++b) {
        int64_t product = 0;
        for (int64_t k = 0; k < order; ++k) product += h[a * order + k] * h[b * order + k];
        ASSERT_EQ(product, a == b ? order : 0) << order << ": rows " << a << ", " << b;
      }
    }
  }
  for (const int64_t order : {0, 3, 6, 10, 92, 100}) EXPECT_TRUE(prime_hadamard(order).empty()) << order;
}

TEST(Hadamard, TheLargestDivisorThatHasAMatrixIsMixed) {
  const std::map<int64_t, int64_t> blocks = {{1, 1},     {2, 2},     {7, 1},       {64, 64},     {72, 72},
                                             {100, 20},  {128, 128}, {384, 384},   {576, 576},   {768, 768},
                                             {896, 896}, {960, 960}, {1536, 1536}, {2560, 2560}, {11008, 256}};
  for (const auto& [width, block] : blocks) EXPECT_EQ(HadamardRotation(width, 0).block(), block) << width;
  EXPECT_THROW(HadamardRotation(0, 0), ShapeError);
}

TEST(Hadamard, RotationsAreOrthogonalAndSpreadEveryColumnEvenly) {
  for (const int64_t width : {1, 2, 9, 12, 24, 100, 144, 576}) {
    const HadamardRotation rotation(width, 3);
    const std::vector<std::vector<double>> q = matrix_of(rotation);
    const double even = 1 / std::sqrt(static_cast<double>(rotation.block()));
    for (int64_t a = 0; a < width; ++a) {
      for (int64_t b = 0; b <= a; ++b) {
        double product = 0;
        for (int64_t k = 0; k < width; ++k) product += q[a][k] * q[b][k];
        ASSERT_NEAR(product, a == b ? 1 : 0, 1e-12) << width;
      }
      for (int64_t k = 0; k < width; ++k) {
        ASSERT_NEAR(std::abs(q[a][k]), a / rotation.block() == k / rotation.block() ? even : 0, 1e-12) << width;
      }
    }
  }
}

TEST(Hadamard, SignsFollowTheSeedAndValuesMayLieApart) {
  EXPECT_NE(matrix_of(HadamardRotation(12, 1)), matrix_of(HadamardRotation(12, 2)));
  const HadamardRotation rotation(12, 1);
  std::vector<double> x(12), apart(12 * 3, 7.0);
  for (int i = 0; i < 12; ++i) apart[3 * i] = x[i] = i * i - 20;
  rotation.apply(x.data());
  rotation.apply(apart.data(), 3);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(apart[3 * i], x[i]);
    EXPECT_EQ(apart[3 * i + 1], 7.0);
  }
}

}  // namespace
}  // namespace octet

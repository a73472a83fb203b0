// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/double_products.h"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace octet {
namespace {

std::vector<double> random_doubles(int64_t count, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = normal(engine);
  return values;
}

TEST(DoubleProducts, EveryElementIsOneSumInAscendingOrder) {
  std::mt19937_64 engine(2);
  for (int trial = 0; trial < 60; ++trial) {
    const auto below = [&](int64_t limit) { return static_cast<int64_t>(engine() % limit); };
    const int64_t rows = below(20), cols = below(40), depth = below(600), gap = below(5);
    const bool transposed = trial % 2 == 0;
    const std::vector<double> a = random_doubles(rows * (depth + gap), engine()),
                              b = random_doubles((depth + gap) * (cols + gap), engine()),
                              start = random_doubles(rows * (cols + gap), engine());
    std::vector<double> c = start, expected = start;
    const int64_t b_depth = transposed ? 1 : cols + gap, b_col = transposed ? depth + gap : 1;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < cols; ++j) {
        for (int64_t k = 0; k < depth; ++k) {
          expected[r * (cols + gap) + j] += a[r * (depth + gap) + k] * b[k * b_depth + j * b_col];
        }
      }
    }
    add_product({rows, cols, depth, a.data(), depth + gap, b.data(), b_depth, b_col, c.data(), cols + gap});
    ASSERT_EQ(c, expected) << rows << "x" << cols << "x" << depth;
  }
}

TEST(DoubleProducts, ReferenceAndVectorTilesGiveTheSameBits) {
  constexpr int kColumns = DoubleTile::kColumns;
  for (int rows = 1; rows <= DoubleTile::kRows; ++rows) {
    for (const int64_t depth : {0, 1, 2, 257}) {
      // fp32 numbers, whose products are exact.
      std::vector<double> a = random_doubles(depth * 4, 3), b = random_doubles(depth * kColumns, 4);
      for (double& value : a) value = static_cast<float>(value);
      for (double& value : b) value = static_cast<float>(value);
      const std::vector<double> start = random_doubles(rows * (kColumns + 1), 5);
      const auto run = [&](void (*add)(const DoubleTile&)) {
        std::vector<double> c = start;
        add({rows, depth, a.data(), 1, 4, b.data(), c.data(), kColumns + 1});
        return c;
      };
      const std::vector<double> expected = run(reference_double_tiles().add);
      EXPECT_EQ(run(double_tiles().add), expected);
      EXPECT_EQ(run(double_tiles().add_exact), expected);
    }
  }
}

// A = G · Gᵀ + I
std::vector<double> positive_definite(int64_t n, uint64_t seed) {
  const std::vector<double> g = random_doubles(n * n, seed);
  std::vector<double> a(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t k = 0; k < n; ++k) a[i * n + j] += g[i * n + k] * g[j * n + k];
    }
    a[i * n + i] += 1;
  }
  return a;
}

TEST(DoubleProducts, CholeskyAndTheInverseOfItsFactorAreThoseOfTheDefinition) {
  for (const int64_t n : {1, 2, 3, 47, 48, 49, 97, 150, 211}) {
    const std::vector<double> a = positive_definite(n, static_cast<uint64_t>(n));
    std::vector<double> lower = a, inverse(a.size(), -7.0);
    ASSERT_TRUE(cholesky(lower.data(), n, 1));
    invert_lower_triangle(lower.data(), inverse.data(), n, 1);
    double largest = 0, off = 0, from_identity = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double product = 0, identity = 0;
        for (int64_t k = 0; k < n; ++k) {
          product += lower[i * n + k] * lower[j * n + k];
          identity += lower[i * n + k] * inverse[k * n + j];
        }
        largest = std::max(largest, std::fabs(a[i * n + j]));
        off = std::max(off, std::fabs(product - a[i * n + j]));
        from_identity = std::max(from_identity, std::fabs(identity - (i == j ? 1 : 0)));
        if (j > i) {
          ASSERT_EQ(lower[i * n + j], 0);
          ASSERT_EQ(inverse[i * n + j], 0);
        }
      }
    }
    EXPECT_LT(off, 1e-14 * largest * static_cast<double>(n)) << n;
    EXPECT_LT(from_identity, 1e-11) << n;
    for (const int threads : {2, 3}) {
      std::vector<double> other = a, other_inverse(a.size());
      ASSERT_TRUE(cholesky(other.data(), n, threads));
      invert_lower_triangle(other.data(), other_inverse.data(), n, threads);
      EXPECT_EQ(other, lower) << n;
      EXPECT_EQ(other_inverse, inverse) << n;
    }
  }
}

TEST(DoubleProducts, CholeskyRefusesWhatIsNotPositiveDefinite) {
  for (const int64_t bad : {0, 50, 99}) {
    std::vector<double> a = positive_definite(100, 9);
    a[bad * 100 + bad] = -1e-3;
    EXPECT_FALSE(cholesky(a.data(), 100, 2));
    a = positive_definite(100, 9);
    a[bad * 100 + bad] = std::nan("");
    EXPECT_FALSE(cholesky(a.data(), 100, 2));
  }
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/input_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/ptq/correlated_inputs.h"

namespace octet {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// The definition: one row after another.
struct Plain {
  std::vector<double> hessian, abs_sum, sum;
  std::vector<float> absmax;

  Plain(std::span<const float> rows, int64_t inputs)
      : hessian(inputs * inputs), abs_sum(inputs), sum(inputs), absmax(inputs) {
    for (int64_t r = 0; r < std::ssize(rows) / inputs; ++r) {
      const float* x = rows.data() + r * inputs;
      for (int64_t i = 0; i < inputs; ++i) {
        for (int64_t j = 0; j < inputs; ++j) hessian[i * inputs + j] += double{x[i]} * x[j];
        abs_sum[i] += std::fabs(x[i]);
        sum[i] += x[i];
        absmax[i] = std::max(absmax[i], std::fabs(x[i]));
      }
    }
  }
};

TEST(InputStatistics, AreTheBitsOfTheDefinitionWhateverThreadsAndPortions) {
  std::mt19937_64 engine(1);
  for (const int64_t inputs : {1, 2, 11, 12, 13, 48, 97, 200, 385}) {
    for (const int64_t rows : {1, 3, 255, 256, 257, 700}) {
      const std::vector<float> x = correlated_inputs(rows, inputs, 5, engine());
      const Plain expected(x, inputs);
      for (const int threads : {1, 2, 3}) {
        InputStatistics statistics(inputs, threads);
        for (int64_t first = 0; first < rows;) {
          const int64_t count = threads == 1 ? rows : std::min<int64_t>(rows - first, engine() % 300);
          statistics.add(std::span(x).subspan(first * inputs, count * inputs));
          first += count;
        }
        ASSERT_EQ(statistics.rows(), rows);
        ASSERT_TRUE(std::ranges::equal(statistics.hessian(), expected.hessian)) << inputs << " " << rows;
        ASSERT_TRUE(std::ranges::equal(statistics.abs_sum(), expected.abs_sum)) << inputs << " " << rows;
        ASSERT_TRUE(std::ranges::equal(statistics.sum(), expected.sum)) << inputs << " " << rows;
        ASSERT_TRUE(std::ranges::equal(statistics.absmax(), expected.absmax)) << inputs << " " << rows;
      }
    }
  }
}

TEST(InputStatistics, ExtremeInputsNeitherOverflowNorVanish) {
  const float largest = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
  const std::vector<float> x = {largest, least, -largest, least};
  const InputStatistics statistics = statistics_of(x, 2);
  EXPECT_EQ(statistics.hessian()[0], 2 * (double{largest} * largest));
  EXPECT_EQ(statistics.hessian()[3], 2 * (double{least} * least));
  EXPECT_EQ(statistics.hessian()[1], 0);
  EXPECT_EQ(statistics.sum()[0], 0);
}

TEST(InputStatistics, NameTheFirstPlaceThatIsNotFiniteAndAddNothing) {
  InputStatistics statistics(3);
  statistics.add(std::vector<float>{1, 2, 3});
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(
        [&] {
          statistics.add(std::vector<float>{1, 2, 3, 4, bad, 5});
        },
        ThrowsMessage<NumericError>(HasSubstr("row 1, column 1 of the inputs is")));
  }
  EXPECT_THROW(statistics.add(std::vector<float>{1, 2}), ShapeError);
  EXPECT_EQ(statistics.rows(), 1);
  EXPECT_EQ(statistics.hessian()[8], 9);
  EXPECT_THROW(InputStatistics(0), ShapeError);
}

}  // namespace
}  // namespace octet

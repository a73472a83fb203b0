// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/paused_batch.h"

#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/error.h"

namespace octet {
namespace {

// A matrix of fp32 with numbers in it.
struct Matrix {
  explicit Matrix(int64_t rows, int64_t cols, float first = 1)
      : values(static_cast<size_t>(rows * cols)),
        x{{reinterpret_cast<std::byte*>(values.data()), rows * cols * 4}, rows, cols, cols} {
    std::iota(values.begin(), values.end(), first);
  }
  std::vector<float> values;
  Activation x;
};

using Known = KnownValues::Known;

TEST(KnownValues, TellsColumnsOfOneMatrixApart) {
  const Matrix m(3, 10);
  KnownValues known;
  EXPECT_EQ(known.find(m.x), Known::kNo);
  known.add(m.x.columns(2, 4));
  EXPECT_EQ(known.find(m.x.columns(2, 4)), Known::kYes);
  EXPECT_EQ(known.find(m.x.columns(3, 2).row_range(1, 2)), Known::kYes);
  EXPECT_EQ(known.find(m.x.columns(4, 4)), Known::kPart);
  EXPECT_EQ(known.find(m.x), Known::kPart);
  // Interleaved rows cannot be told from shared ones by where they begin and end.
  EXPECT_EQ(known.find(m.x.columns(7, 2)), Known::kPart);
  known.add(m.x);
  EXPECT_EQ(known.find(m.x.columns(7, 2)), Known::kYes);
  EXPECT_EQ(known.find(Matrix(3, 10).x), Known::kNo);
}

TEST(PausedBatch, GivesBackWhatWasReadAndNotWritten) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend({});
  const Matrix before(4, 6), whole(4, 9, 100), made(4, 6);
  PausedBatch paused(5);
  paused.keep(*cpu, before.x);
  paused.wrote(made.x);
  paused.keep(*cpu, made.x);
  paused.keep(*cpu, before.x);
  paused.keep(*cpu, whole.x.columns(3, 2));
  ASSERT_TRUE(paused);
  EXPECT_EQ(paused.bytes(), (4 * 6 + 4 * 2) * 4);

  // Somewhere else.
  Matrix x(4, 6, 0), y(4, 9, 0), z(4, 6, 0);
  paused.rewind();
  paused.restore(*cpu, x.x);
  paused.wrote(z.x);
  paused.restore(*cpu, z.x);
  paused.restore(*cpu, x.x);
  paused.restore(*cpu, y.x.columns(3, 2));
  EXPECT_EQ(x.values, before.values);
  EXPECT_EQ(z.values, Matrix(4, 6, 0).values);
  for (size_t i = 0; i < y.values.size(); ++i) {
    const bool kept = i % 9 == 3 || i % 9 == 4;
    EXPECT_EQ(y.values[i], kept ? whole.values[i] : static_cast<float>(i)) << i;
  }
  EXPECT_THROW(paused.restore(*cpu, Matrix(1, 1).x), Error);
}

TEST(PausedBatch, IsEmptyWhereItCannotTell) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend({});
  const Matrix m(2, 4);
  EXPECT_FALSE(PausedBatch());
  PausedBatch mixed(1);
  mixed.wrote(m.x.columns(0, 1));
  mixed.keep(*cpu, m.x);
  EXPECT_FALSE(mixed);
  PausedBatch codes(1);
  Activation of_codes = m.x;
  of_codes.codes = StaticCodes();
  codes.keep(*cpu, of_codes);
  EXPECT_FALSE(codes);
}

}  // namespace
}  // namespace octet

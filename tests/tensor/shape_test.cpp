// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/shape.h"

#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

TEST(Shape, CountsItsElements) {
  EXPECT_EQ((Shape{2, 3, 4}).elements(), 24);
  EXPECT_EQ((Shape{2, 3, 4}).rank(), 3);
  EXPECT_EQ((Shape{2, 3, 4})[1], 3);
  EXPECT_EQ((Shape{2, 0}).elements(), 0);
  EXPECT_EQ((Shape{kLargest}).elements(), kLargest);
}

TEST(Shape, AScalarHasRankZeroAndOneElement) {
  EXPECT_EQ(Shape{}.rank(), 0);
  EXPECT_EQ(Shape{}.elements(), 1);
  EXPECT_EQ(to_string(Shape{}), "[]");
}

TEST(Shape, EqualityComparesRankAndExtents) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{2}), (Shape{2, 1}));
  EXPECT_NE((Shape{0}), Shape{});
}

TEST(Shape, PrintsAsAList) { EXPECT_EQ(to_string(Shape{1536, 384}), "[1536, 384]"); }

TEST(Shape, ImpossibleExtentsAreRefused) {
  EXPECT_THROW((Shape{-1}), ShapeError);
  EXPECT_THROW((Shape{2, -3}), ShapeError);
  EXPECT_THROW((Shape{0, -3}), ShapeError);
  EXPECT_THROW((Shape{int64_t{1} << 32, int64_t{1} << 31}), ShapeError);
  EXPECT_THROW((Shape{kLargest, 2}), ShapeError);
  EXPECT_THROW((Shape{std::numeric_limits<int64_t>::min(), -1}), ShapeError);
}

TEST(Shape, MoreThanEightDimensionsAreRefused) {
  EXPECT_EQ((Shape{1, 1, 1, 1, 1, 1, 1, 1}).rank(), Shape::kMaxRank);
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
  EXPECT_THROW(Shape(std::vector<int64_t>(1'000'000, 1)), ShapeError);
}

}  // namespace
}  // namespace octet

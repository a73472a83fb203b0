// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/sample_overlap.h"

#include <numeric>

#include <gtest/gtest.h>

namespace octet {
namespace {

// Tokens first, first + 1, …
std::vector<int32_t> tokens(int32_t first, size_t count) {
  std::vector<int32_t> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

TEST(SampleOverlap, TokensInRunsThatBothHaveAreCounted) {
  TextSample sample;
  sample.batches.resize(2);
  sample.batches[0].add(tokens(0, 100));
  sample.batches[1].add(tokens(1000, 100));
  TokenBatch calibration;
  EXPECT_EQ(sample_overlap(sample, calibration), 0);
  calibration.add(tokens(5000, 200));
  EXPECT_EQ(sample_overlap(sample, calibration), 0);
  calibration.add(tokens(50, 200));  // 50 to 99, cut elsewhere
  EXPECT_EQ(sample_overlap(sample, calibration), 0.25);
  calibration.add(tokens(1000, 20));  // a phrase
  EXPECT_EQ(sample_overlap(sample, calibration), 0.25);
  calibration.add(tokens(0, 2000));
  EXPECT_EQ(sample_overlap(sample, calibration), 1);
}

}  // namespace
}  // namespace octet

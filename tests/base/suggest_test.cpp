// SPDX-License-Identifier: Apache-2.0
#include "octet/base/suggest.h"

#include <vector>

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(DidYouMean, NamesTheNearestOrListsAll) {
  const std::vector<std::string> known = {"bits", "group_size", "symmetric"};
  EXPECT_EQ(did_you_mean("groupsize", known), " Did you mean 'group_size'?");
  EXPECT_EQ(did_you_mean("bit", known), " Did you mean 'bits'?");
  EXPECT_EQ(did_you_mean("elephant", known), " Known: bits, group_size, symmetric.");
  EXPECT_EQ(did_you_mean(std::string(100'000, 'x'), known), " Known: bits, group_size, symmetric.");
  EXPECT_EQ(did_you_mean("x", {}), "");
}

}  // namespace
}  // namespace octet

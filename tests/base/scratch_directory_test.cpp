// SPDX-License-Identifier: Apache-2.0
#include "octet/base/scratch_directory.h"

#include <fstream>

#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

TEST(ScratchDirectory, GoesWithAllThatItHolds) {
  const fs::path parent = testing::TempDir();
  fs::path first;
  {
    const ScratchDirectory scratch(parent), other(parent);
    first = scratch.path();
    EXPECT_EQ(first.parent_path(), fs::path(parent / "x").parent_path());
    EXPECT_NE(first, other.path());
    fs::create_directory(first / "folder");
    std::ofstream(first / "folder" / "file") << "text";
  }
  EXPECT_FALSE(fs::exists(first));
  EXPECT_THROW(ScratchDirectory(parent / "no such folder"), Error);
}

}  // namespace
}  // namespace octet

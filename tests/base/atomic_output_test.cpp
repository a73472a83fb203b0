// SPDX-License-Identifier: Apache-2.0
#include "octet/base/atomic_output.h"

#include <fstream>

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

class AtomicOutput : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directory(folder_);
  }
  int entries() const { return static_cast<int>(std::distance(fs::directory_iterator(folder_), {})); }

  fs::path folder_;
};

TEST_F(AtomicOutput, AFileHasItsNameOnlyAfterCommit) {
  {
    OutputFile file(folder_ / "a.txt");
    file.write("half");
    EXPECT_FALSE(fs::exists(folder_ / "a.txt"));
  }
  EXPECT_EQ(entries(), 0);
  OutputFile file(folder_ / "a.txt");
  file.write("whole");
  file.commit();
  EXPECT_EQ(read_text_file(folder_ / "a.txt", 100), "whole");
  EXPECT_EQ(entries(), 1);
}

TEST_F(AtomicOutput, AFolderThatIsNotThereIsAnError) {
  EXPECT_THROW(OutputFile(folder_ / "no" / "such" / "folder"), Error);
  EXPECT_THROW(OutputDirectory(folder_ / "no" / "such" / "folder"), Error);
}

TEST_F(AtomicOutput, AFolderAppearsWholeOrNotAtAll) {
  {
    OutputDirectory directory(folder_ / "out");
    std::ofstream(directory.path() / "file") << "x";
  }
  EXPECT_EQ(entries(), 0);
  OutputDirectory directory(folder_ / "out/");
  std::ofstream(directory.path() / "file") << "x";
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  directory.commit();
  EXPECT_TRUE(fs::exists(folder_ / "out" / "file"));
  EXPECT_EQ(entries(), 1);
}

TEST_F(AtomicOutput, AnExistingFolderIsRefusedAndKept) {
  fs::create_directory(folder_ / "out");
  EXPECT_THROW(OutputDirectory(folder_ / "out"), Error);
  EXPECT_TRUE(fs::exists(folder_ / "out"));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/base/atomic_output.h"

#include <csignal>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

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

TEST_F(AtomicOutput, APlaceInAFileIsWrittenWhereItIs) {
  OutputFile file(folder_ / "a.txt");
  const std::string_view later = "later";
  file.write("head ");
  file.write_at(8, std::as_bytes(std::span(later)));
  file.write("mid");
  file.commit();
  EXPECT_EQ(read_text_file(folder_ / "a.txt", 100), "head midlater");
}

TEST_F(AtomicOutput, AFolderThatIsNotThereIsAnError) {
  EXPECT_THROW(OutputFile(folder_ / "no" / "such" / "folder"), Error);
  EXPECT_THROW(ResumableDirectory(folder_ / "no" / "such" / "folder", "a job"), Error);
}

TEST_F(AtomicOutput, AFolderAppearsWholeOrNotAtAll) {
  {
    ResumableDirectory directory(folder_ / "out", "a job");
    std::ofstream(directory.path() / "file") << "x";
  }
  EXPECT_EQ(entries(), 0);
  ResumableDirectory directory(folder_ / "out/", "a job");
  std::ofstream(directory.path() / "file") << "x";
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  directory.commit();
  EXPECT_TRUE(fs::exists(folder_ / "out" / "file"));
  EXPECT_EQ(entries(), 1);
}

TEST_F(AtomicOutput, AnExistingFolderIsRefusedAndKept) {
  fs::create_directory(folder_ / "out");
  EXPECT_THROW(ResumableDirectory(folder_ / "out", "a job"), Error);
  EXPECT_TRUE(fs::exists(folder_ / "out"));
}

class Resumable : public AtomicOutput {
 protected:
  static void make(const ResumableDirectory& directory, const std::string& name, const std::string& text) {
    std::ofstream(directory.path() / name) << text;
  }
  // A process that is killed when it has finished one file and half of another.
  void start_and_die() {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ResumableDirectory directory(folder_ / "out", "a job");
      make(directory, "first", "1");
      directory.finish("first", "a note");
      make(directory, "second", "half");
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }
};

TEST_F(Resumable, WhatAKilledRunHasFinishedIsTakenUp) {
  start_and_die();
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  ResumableDirectory directory(folder_ / "out", "a job");
  EXPECT_EQ(directory.finished("first"), "a note");
  EXPECT_EQ(directory.finished("second"), std::nullopt);
  EXPECT_FALSE(fs::exists(directory.path() / "second")) << "half a file must not be taken for a whole one";
  make(directory, "second", "2");
  directory.finish("second", "");
  directory.commit();
  EXPECT_EQ(read_text_file(folder_ / "out" / "first", 10), "1");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "out"), {}), 2);
  EXPECT_EQ(entries(), 1);
}

TEST_F(Resumable, AnotherJobStartsAnew) {
  start_and_die();
  ResumableDirectory directory(folder_ / "out", "another job");
  EXPECT_EQ(directory.finished("first"), std::nullopt);
  EXPECT_FALSE(fs::exists(directory.path() / "first"));
}

TEST_F(Resumable, ADamagedStateStartsAnew) {
  for (const char* state :
       {"", "{", "[]", "null", R"({"job": 3})", R"({"job": "a job", "files": [1]})",
        R"({"job": "a job", "files": {"first": 1}})", R"({"job": "a job", "files": {"none": ""}})"}) {
    start_and_die();
    std::ofstream(folder_ / ".out.partial" / ".octet_state.json") << state;
    const ResumableDirectory directory(folder_ / "out", "a job");
    EXPECT_EQ(directory.finished("first"), std::nullopt) << state;
    EXPECT_EQ(directory.finished("none"), std::nullopt) << state;
    EXPECT_FALSE(fs::exists(directory.path() / "first"));
  }
}

TEST_F(Resumable, AnExceptionLeavesNothing) {
  start_and_die();
  try {
    const ResumableDirectory directory(folder_ / "out", "a job");
    throw Error("a full disk");
  } catch (const Error&) {
  }
  EXPECT_EQ(entries(), 0);
}

TEST_F(Resumable, TwoAtOnceAreRefusedAndTheFirstGoesOn) {
  ResumableDirectory directory(folder_ / "out", "a job");
  make(directory, "first", "1");
  EXPECT_THROW(ResumableDirectory(folder_ / "out", "a job"), Error);
  directory.commit();
  EXPECT_TRUE(fs::exists(folder_ / "out" / "first"));
  EXPECT_THROW(ResumableDirectory(folder_ / "out", "a job"), Error) << "it exists now";
}

}  // namespace
}  // namespace octet

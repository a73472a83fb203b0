// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/workspace.h"

#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/error.h"

namespace octet {
namespace {

class WorkspaceTest : public testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = make_cpu_backend({.threads = 1, .isa = "ref"});
  Workspace workspace_{*backend_};
};

TEST_F(WorkspaceTest, SpansAreAlignedAndDoNotOverlap) {
  const Workspace::Scope scope(workspace_);
  std::vector<DeviceSpan> spans;
  for (const int64_t bytes : {1, 64, 63, 1000, 0, 100'000, 5, 3'000'000, 1}) spans.push_back(workspace_.take(bytes));
  for (size_t i = 0; i < spans.size(); ++i) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(spans[i].address()) % 64, 0);
    std::memset(spans[i].address(), static_cast<int>(i), spans[i].bytes());
  }
  for (size_t i = 0; i < spans.size(); ++i) {
    for (int64_t b = 0; b < spans[i].bytes(); ++b) ASSERT_EQ(static_cast<size_t>(spans[i].address()[b]), i);
  }
}

TEST_F(WorkspaceTest, AScopeGivesItsMemoryBack) {
  const Workspace::Scope outer(workspace_);
  workspace_.take(1'000'000);
  std::byte* first = nullptr;
  {
    const Workspace::Scope inner(workspace_);
    first = workspace_.take(100).address();
  }
  EXPECT_EQ(workspace_.take(100).address(), first);
}

TEST_F(WorkspaceTest, TheSecondPassOfAShapeTakesTheSameMemory) {
  const auto pass = [&] {
    const Workspace::Scope scope(workspace_);
    for (int i = 0; i < 10; ++i) {
      workspace_.take(10'000);
      const Workspace::Scope inner(workspace_);
      workspace_.take(70'000 * (i % 3));
    }
  };
  pass();
  pass();
  const int64_t bytes = workspace_.bytes();
  std::set<std::byte*> places;
  for (int i = 0; i < 3; ++i) {
    pass();
    const Workspace::Scope scope(workspace_);
    places.insert(workspace_.take(1).address());
  }
  EXPECT_EQ(workspace_.bytes(), bytes);
  EXPECT_EQ(places.size(), 1);
}

TEST_F(WorkspaceTest, AfterThePassItHoldsWhatThePassTook) {
  {
    const Workspace::Scope scope(workspace_);
    for (const int64_t bytes : {1000, 3000, 9000, 500'000}) workspace_.take(bytes);
    EXPECT_THROW(workspace_.take(int64_t{1} << 60), Error);
  }
  EXPECT_EQ(workspace_.bytes(), 1024 + 3008 + 9024 + 500'032);
}

TEST_F(WorkspaceTest, MemoryOutsideAScopeOrBeyondReasonIsRefused) {
  EXPECT_THROW(workspace_.take(1), Error);
  const Workspace::Scope scope(workspace_);
  EXPECT_THROW(workspace_.take_matrix(int64_t{1} << 40, int64_t{1} << 40), Error);
  EXPECT_THROW(workspace_.take(int64_t{1} << 60), Error);
}

}  // namespace
}  // namespace octet

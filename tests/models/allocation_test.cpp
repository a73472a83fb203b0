// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/benchmark.h"
#include "tests/models/counting_new.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

TEST(Allocation, ASecondForwardPassAllocatesNothing) {
  if (allocation_count() == 0) GTEST_SKIP() << "sanitizer build: allocations are not counted";
  for (const char* recipe : {"", "w8a16", "w8a8_dynamic"}) {
    for (const int threads : {1, 2}) {
      const std::optional<Recipe> chosen = *recipe == 0 ? std::nullopt : std::optional(Recipe::load(recipe, {}));
      Session session(golden("bert_base"), {.recipe = chosen, .cpu = {.threads = threads, .isa = {}}});
      const TokenBatch batch = random_batch(session.model().info(), 3, 50);
      const auto pass = [&] {
        const Workspace::Scope scope(session.workspace());
        Context context = session.context();
        session.model().forward(context, upload(context, batch));
      };
      pass();
      const int64_t before = allocation_count();
      const int64_t bytes = session.workspace().bytes();
      pass();
      EXPECT_EQ(allocation_count() - before, 0) << recipe << ", " << threads << " threads";
      EXPECT_EQ(session.workspace().bytes(), bytes);
    }
  }
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/benchmark.h"
#include "tests/models/counting_new.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

TEST(Allocation, ASecondForwardPassAllocatesNothing) {
  if (allocation_count() == 0) GTEST_SKIP() << "sanitizer build: allocations are not counted";
  const std::vector<std::string> with_attention = {"attention=8"};
  const std::pair<const char*, std::vector<std::string>> recipes[] = {
      {"", {}}, {"w8a16", {}}, {"w8a8_dynamic", {}}, {"w8a8_dynamic", with_attention}};
  for (const auto& [recipe, settings] : recipes) {
    for (const int threads : {1, 2}) {
      const std::optional<Recipe> chosen = *recipe == 0 ? std::nullopt : std::optional(Recipe::load(recipe, settings));
      for (const char* model : {"bert_base", "roberta"}) {
        Session session(golden(model), {.recipe = chosen, .cpu = {.threads = threads, .isa = {}}});
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
        EXPECT_EQ(allocation_count() - before, 0)
            << model << " " << recipe << " " << settings.size() << ", " << threads << " threads";
        EXPECT_EQ(session.workspace().bytes(), bytes);
      }
    }
  }
}

}  // namespace
}  // namespace octet

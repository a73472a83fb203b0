// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/product_timing.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"

namespace octet {
namespace {

using testing::HasSubstr;

class ProductTiming : public testing::Test {
 protected:
  void SetUp() override {
    // Of this test alone: others may run beside it.
    folder_ = std::filesystem::path(testing::TempDir()) /
              (std::string("product_timing_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    file_ = folder_ / "deeper" / "times.json";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& text) {
    std::filesystem::create_directories(file_.parent_path());
    std::ofstream(file_) << text;
  }

  std::filesystem::path folder_, file_;
};

TEST_F(ProductTiming, TimesAreKeptAndFoundAgain) {
  {
    TimingCache cache(file_);
    EXPECT_FALSE(cache.find("k", "p"));
    cache.add("machine | kernels 1", "p", 0.25);
    cache.add("machine | kernels 1", "q", 3);
    cache.add("other machine | kernels 0", "p", 5);
    cache.save();
    EXPECT_TRUE(cache.notes().empty());
  }
  TimingCache cache(file_);
  EXPECT_EQ(cache.find("machine | kernels 1", "p"), 0.25);
  EXPECT_EQ(cache.find("machine | kernels 1", "q"), 3);
  EXPECT_FALSE(cache.find("machine | kernels 2", "p"));
  // Those of other kernels of the machine are gone, those of other machines stay.
  cache.add("machine | kernels 2", "p", 1);
  cache.save();
  const TimingCache again(file_);
  EXPECT_FALSE(again.find("machine | kernels 1", "p"));
  EXPECT_EQ(again.find("machine | kernels 2", "p"), 1);
  EXPECT_EQ(again.find("other machine | kernels 0", "p"), 5);
}

TEST_F(ProductTiming, ADamagedCacheIsNotUsedAndSaid) {
  for (const char* text : {"", "{", "[1]", "{\"k\": 1}", "{\"k\": {\"p\": \"fast\"}}", "{\"k\": {\"p\": -1}}",
                           "{\"k\": {\"p\": 0}}", "{\"k\": {\"q\": 1, \"p\": null}}", "\xff\xfe"}) {
    SCOPED_TRACE(text);
    write(text);
    TimingCache cache(file_);
    ASSERT_EQ(cache.notes().size(), 1);
    EXPECT_THAT(cache.notes()[0], HasSubstr("damaged"));
    EXPECT_FALSE(cache.find("k", "q"));
    cache.add("k", "p", 2);
    cache.save();
    EXPECT_EQ(TimingCache(file_).find("k", "p"), 2);
  }
}

TEST_F(ProductTiming, ACacheThatCannotBeWrittenIsSaid) {
  write("{}");
  TimingCache cache(file_ / "not a folder" / "times.json");
  cache.add("k", "p", 1);
  cache.save();
  ASSERT_EQ(cache.notes().size(), 1);
  EXPECT_THAT(cache.notes()[0], HasSubstr("could not be kept"));
}

TEST_F(ProductTiming, EveryKindOfProductIsTimedOnce) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  std::vector<ProductShape> shapes = {
      {.rows = 3, .inputs = 64, .outputs = 40, .scheme = {}},
      {.rows = 3, .inputs = 64, .outputs = 40, .scheme = {}, .float_dtype = DType::kF16}};
  for (const CodeMapping mapping : {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum}) {
    for (const ActivationMode mode : {ActivationMode::kFloat, ActivationMode::kDynamicPerToken}) {
      for (const int64_t group : {0, 32}) {
        for (const int bits : {8, 4}) {
          if (bits == 8 && mapping != CodeMapping::kSymmetric) continue;
          shapes.push_back({.rows = 1,
                            .inputs = 64,
                            .outputs = 33,
                            .scheme = Scheme{{.bits = bits, .group_size = group, .mapping = mapping}, mode}});
        }
      }
    }
  }
  TimingCache cache(file_);
  ProductTimer timer(*backend, &cache);
  for (const ProductShape& shape : shapes) EXPECT_GT(timer.time(shape), 0);
  EXPECT_EQ(timer.measured(), std::ssize(shapes));
  cache.save();
  TimingCache read(file_);
  ProductTimer again(*backend, &read);
  for (const ProductShape& shape : shapes) EXPECT_EQ(again.time(shape), timer.time(shape));
  EXPECT_EQ(again.measured(), 0);
}

}  // namespace
}  // namespace octet

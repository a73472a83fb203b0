// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/cpu.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

namespace octet {
namespace {

using testing::HasSubstr;

// Sets OCTET_ISA for a test and puts back what was there.
class ForcedIsa {
 public:
  explicit ForcedIsa(const char* value) {
    if (const char* before = std::getenv("OCTET_ISA")) before_ = before;
    value != nullptr ? setenv("OCTET_ISA", value, 1) : unsetenv("OCTET_ISA");
  }
  ForcedIsa(const ForcedIsa&) = delete;
  ~ForcedIsa() { before_.empty() ? unsetenv("OCTET_ISA") : setenv("OCTET_ISA", before_.c_str(), 1); }

 private:
  std::string before_;
};

std::string message_of(const CpuBackendOptions& options) {
  try {
    make_cpu_backend(options);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Isa, TheBestOneIsChosenUnlessOneIsForced) {
  {
    const ForcedIsa none(nullptr);
    EXPECT_THAT(make_cpu_backend({.threads = 1})->describe(), HasSubstr(cpu_isas().back()));
  }
  const ForcedIsa ref("ref");
  EXPECT_EQ(make_cpu_backend({.threads = 1})->describe(), "cpu ref, 1 thread");
  EXPECT_EQ(make_cpu_backend({.threads = 3, .isa = cpu_isas().back()})->describe(),
            "cpu " + cpu_isas().back() + ", 3 threads");
}

TEST(Isa, TheListStartsWithRefAndHoldsWhatTheProcessorRuns) {
  const std::vector<std::string> isas = cpu_isas();
  EXPECT_EQ(isas.front(), "ref");
#if defined(__x86_64__)
  EXPECT_EQ(testing::Value(isas, testing::Contains("avx2")), cpu_features().avx2);
#endif
}

TEST(Isa, AnUnknownNameIsAUsageErrorThatListsWhatThereIs) {
  const std::string by_option = message_of({.threads = 1, .isa = "avx3"});
  EXPECT_THAT(by_option, HasSubstr("'avx3'"));
  EXPECT_THAT(by_option, HasSubstr("ref"));
  EXPECT_THAT(by_option, HasSubstr(cpu_isas().back()));
  const ForcedIsa wrong("neon9");
  EXPECT_THAT(message_of({.threads = 1}), HasSubstr("OCTET_ISA"));
  EXPECT_THAT(message_of({.threads = 1}), HasSubstr("'neon9'"));
}

TEST(Isa, NoThreadsMeansAllOfTheProcess) {
  EXPECT_THAT(make_cpu_backend({})->describe(), HasSubstr(std::to_string(available_threads()) + " thread"));
}

}  // namespace
}  // namespace octet

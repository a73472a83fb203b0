// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/isa.h"

#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/cpu.h"
#include "octet/base/error.h"

namespace octet {
namespace cpu {
namespace {

// What is built in and runs here, from the plainest to the best.
std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables = {ref_kernels()};
#ifdef OCTET_HAS_AVX2
  if (cpu_features().avx2) tables.push_back(avx2_kernels());
#endif
#ifdef OCTET_HAS_AVX512
  if (cpu_features().avx512_vnni) tables.push_back(avx512_vnni_kernels());
#endif
  return tables;
}

}  // namespace

const KernelTable& kernels(std::string_view name) {
  const std::vector<const KernelTable*> tables = usable_tables();
  std::string_view source = "the option";
  if (name.empty()) {
    const char* forced = std::getenv("OCTET_ISA");
    if (forced == nullptr || *forced == '\0') return *tables.back();
    name = forced;
    source = "OCTET_ISA";
  }
  for (const KernelTable* table : tables) {
    if (name == table->name) return *table;
  }
  const std::vector<std::string> known = cpu_isas();
  fail<UsageError>(
      "{} asks for the instruction set '{}', which this build has not or this processor does not run. "
      "Available here: {}.",
      source, name, fmt::join(known, ", "));
}

}  // namespace cpu

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const cpu::KernelTable* table : cpu::usable_tables()) names.emplace_back(table->name);
  return names;
}

}  // namespace octet

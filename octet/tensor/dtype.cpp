// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/dtype.h"

namespace octet {
namespace {

struct Entry {
  std::string_view name;
  int64_t bytes;
};

// In the order of the enumeration.
constexpr Entry kEntries[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                              {"I32", 4}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}};

}  // namespace

int64_t byte_size(DType dtype) noexcept { return kEntries[static_cast<int>(dtype)].bytes; }
std::string_view name(DType dtype) noexcept { return kEntries[static_cast<int>(dtype)].name; }

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "octet/base/error.h"
#include "octet/data/table.h"

// Reads the input as a .csv and as a .jsonl.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto parse : {octet::parse_csv, octet::parse_json_rows}) {
    try {
      const octet::Table table = parse(text, "input");
      if (table.rows.empty() || table.rows.size() != table.lines.size()) std::abort();
      for (const auto& row : table.rows) {
        for (const octet::Table::Field& field : row) {
          if (field.column >= table.names.size()) std::abort();
        }
      }
    } catch (const octet::FormatError&) {
    }
  }
  return 0;
}

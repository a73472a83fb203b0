// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <string_view>

#include "octet/base/error.h"
#include "octet/data/questions.h"

// Reads the input as a line of a file of questions, and of passages.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  for (const auto read : {+[](std::string_view text) { octet::parse_multiple_choice(text, "line 1"); },
                          +[](std::string_view text) { octet::parse_passage(text, "line 1"); }}) {
    try {
      read(line);
    } catch (const octet::FormatError&) {
    }
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "octet/base/error.h"
#include "octet/data/token_documents.h"

// The input is FILE.npy.json, a zero byte and FILE.npy. What is taken for tokens must lie in the array.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), size);
  const std::string_view array = input.substr(std::min(zero + 1, size));
  try {
    const octet::TokenFileFacts facts =
        octet::parse_token_file(std::as_bytes(std::span(array)), input.substr(0, zero), "input.npy");
    if (facts.first_byte + static_cast<size_t>(facts.tokens * facts.bytes_per_token) != array.size()) std::abort();
  } catch (const octet::FormatError&) {
  }
  return 0;
}

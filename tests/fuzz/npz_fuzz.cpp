// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <span>

#include "octet/base/error.h"
#include "octet/tensor/npz.h"

// Whatever it is, it is read or refused, within the limit.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    octet::parse_npz(std::as_bytes(std::span(data, size)), "input.npz", 1 << 20);
  } catch (const octet::FormatError&) {
  }
  return 0;
}

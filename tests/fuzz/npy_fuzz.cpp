// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <span>

#include "octet/base/error.h"
#include "octet/tensor/npy.h"

// What can be read must be the same when it is written and read again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const octet::Tensor tensor = octet::parse_npy(std::as_bytes(std::span(data, size)), "input.npy");
    const octet::Tensor again = octet::parse_npy(octet::to_npy_bytes(tensor.view()), "again.npy");
    if (again.dtype() != tensor.dtype() || again.shape() != tensor.shape()) std::abort();
    for (int64_t i = 0; i < tensor.bytes(); ++i) {
      if (again.view().data[i] != tensor.view().data[i]) std::abort();
    }
  } catch (const octet::FormatError&) {
  }
  return 0;
}

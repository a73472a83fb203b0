// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "octet/base/error.h"
#include "octet/io/safetensors.h"

// Opens the input as a safetensors file and reads every byte of every tensor.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = ::memfd_create("input.safetensors", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (::ftruncate(file, 0) != 0 || ::pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  try {
    const octet::SafetensorsFile tensors = octet::SafetensorsFile::open(path);
    int64_t bytes = 0;
    unsigned sum = 0;
    for (const std::string& name : tensors.names()) {
      const octet::Tensor tensor = tensors.tensor(name);
      const octet::ConstTensorView view = tensor.view();
      for (int64_t i = 0; i < view.bytes(); ++i) sum += static_cast<unsigned>(view.data[i]);
      bytes += view.bytes();
    }
    // Without the sum the compiler would not read.
    volatile unsigned sink = sum;
    static_cast<void>(sink);
    if (bytes != tensors.bytes() || bytes > static_cast<int64_t>(size)) std::abort();
  } catch (const octet::FormatError&) {
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "octet/base/error.h"
#include "octet/io/gguf_model.h"
#include "octet/text/gguf_tokenizer.h"
#include "octet/text/tokenizer.h"

namespace {

// What may end in a FormatError and in nothing else.
template <class Action>
void attempt(Action action) {
  try {
    action();
  } catch (const octet::FormatError&) {
  }
}

}  // namespace

// Opens the input as a GGUF file: every block is decoded, as are the tensors and codes of the model that it may be, and
// its tokenizer encodes a text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int memory = ::memfd_create("input.gguf", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(memory);
  if (::ftruncate(memory, 0) != 0 || ::pwrite(memory, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  attempt([&] {
    const octet::GgufFile file = octet::GgufFile::open(path);
    float sum = 0;
    for (const auto& [name, entry] : file.tensors()) {
      if (!octet::code_scheme(entry.type) && octet::plain_dtype(entry.type).has_value()) continue;
      if (entry.type == octet::GgufType::kI16) continue;
      std::vector<float> values(static_cast<size_t>(entry.shape.elements()));
      octet::decode_values(entry.type, file.blocks(entry), values);
      for (const float value : values) sum += value;
    }
    // Without the sum the compiler would not read.
    volatile float sink = sum;
    static_cast<void>(sink);
    attempt([&] {
      const octet::Tokenizer tokenizer = octet::Tokenizer::from_gguf(file);
      tokenizer.decode(tokenizer.encode("a 1 b<s>").ids);
      octet::gguf_tokenizer_files(file);
    });
  });
  attempt([&] {
    const octet::GgufModel model = octet::GgufModel::open(path);
    for (const std::string& name : model.names()) {
      attempt([&] {
        if (model.tensor(name).shape() != model.describe(name).shape) std::abort();
      });
      attempt([&] {
        if (model.scheme_of(name)) model.codes(name);
      });
    }
  });
  return 0;
}

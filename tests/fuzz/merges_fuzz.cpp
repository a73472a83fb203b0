// SPDX-License-Identifier: Apache-2.0
// A vocab.json, a merges.txt, a tokenizer_config.json and a text, with NUL bytes between them: they are refused with a
// FormatError, or the text can be encoded and decoded.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "octet/base/error.h"
#include "octet/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  std::array<std::string_view, 4> parts;
  for (std::string_view& part : parts) {
    part = input.substr(0, input.find('\0'));
    input.remove_prefix(part.size() < input.size() ? part.size() + 1 : input.size());
  }
  const auto& [vocabulary, merges, config, text] = parts;
  try {
    const octet::Tokenizer tokenizer =
        octet::Tokenizer::from_vocab_and_merges(vocabulary, "vocab.json", merges, "merges.txt", config, "config.json");
    const octet::Encoding encoding = tokenizer.encode(text);
    for (const auto& [begin, end] : encoding.offsets) {
      if (begin < 0 || begin > end || end > static_cast<int64_t>(text.size())) std::abort();
    }
    tokenizer.decode(encoding.ids, octet::SpecialTokens::kWith);
  } catch (const octet::FormatError&) {
  }
  return 0;
}

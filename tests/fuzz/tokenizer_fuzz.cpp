// SPDX-License-Identifier: Apache-2.0
// A tokenizer file and a text, with a NUL byte between them (JSON has none): the file is refused with a FormatError, or
// every text can be encoded, cut into windows and decoded. A file that does not begin with '{' is read as a vocab.txt.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "octet/base/error.h"
#include "octet/text/tokenizer.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void exercise(const octet::Tokenizer& tokenizer, std::string_view text) {
  using octet::Encoding;
  const std::string_view first = text.substr(0, text.size() / 2), second = text.substr(text.size() / 2);
  const auto check = [&](const Encoding& encoding) {
    const size_t size = encoding.ids.size();
    require(encoding.type_ids.size() == size && encoding.offsets.size() == size && encoding.word_ids.size() == size);
    require(encoding.special_tokens_mask.size() == size);
    for (const auto& [begin, end] : encoding.offsets) {
      require(0 <= begin && begin <= end && end <= static_cast<int64_t>(text.size()));
    }
    tokenizer.decode(encoding.ids, octet::SpecialTokens::kWith);
    tokenizer.decode(encoding.ids, octet::SpecialTokens::kWithout);
  };
  check(tokenizer.encode(text));
  check(tokenizer.encode_pair(first, second));
  octet::Truncation truncation = tokenizer.truncation().value_or(octet::Truncation{});
  for (const int64_t max_length : {truncation.max_length, int64_t{5}}) {
    truncation.max_length = max_length;
    const octet::EncodeOptions options{octet::SpecialTokens::kWith, truncation};
    try {
      check(tokenizer.encode_pair(first, second, options));
      for (const Encoding& window : tokenizer.encode_windows(text, options)) check(window);
    } catch (const octet::UsageError&) {
      // This text cannot be cut that way.
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t separator = input.find('\0');
  const std::string_view file = input.substr(0, separator);
  const std::string_view text = separator == std::string_view::npos ? std::string_view() : input.substr(separator + 1);
  try {
    exercise(file.starts_with('{') ? octet::Tokenizer::from_json(file, "tokenizer.json")
                                   : octet::Tokenizer::from_vocab_txt(file, "vocab.txt", "", ""),
             text);
  } catch (const octet::FormatError&) {
  }
  return 0;
}

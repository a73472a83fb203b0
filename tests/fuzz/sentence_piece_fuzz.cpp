// SPDX-License-Identifier: Apache-2.0
// A text of up to 255 bytes, whose length is the first byte, and a SentencePiece model: the model is refused with a
// FormatError, or the text can be encoded and decoded, at once and id by id.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "octet/base/error.h"
#include "octet/text/stream_decoder.h"
#include "octet/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const size_t length = static_cast<unsigned char>(input[0]);
  const std::string_view text = input.substr(1, length);
  input.remove_prefix(1 + text.size());
  try {
    const octet::Tokenizer tokenizer = octet::Tokenizer::from_sentence_piece(input, "tokenizer.model", "", "");
    const octet::Encoding encoding = tokenizer.encode(text);
    for (const auto& [begin, end] : encoding.offsets) {
      if (begin < 0 || begin > end || end > static_cast<int64_t>(text.size())) std::abort();
    }
    octet::StreamDecoder decoder(tokenizer);
    std::string decoded;
    for (const int32_t id : encoding.ids) decoded += decoder.push(id);
    decoded += decoder.finish();
    if (decoded != tokenizer.decode(encoding.ids)) std::abort();
  } catch (const octet::FormatError&) {
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/aligned_text.h"

#include <limits>

#include "octet/base/error.h"
#include "octet/text/unicode.h"

namespace octet {

AlignedText align(std::string_view text) {
  if (text.size() > std::numeric_limits<uint32_t>::max()) {
    fail("a text of {} bytes is too long to tokenize at once; split it (the limit is 4 GiB)", text.size());
  }
  AlignedText aligned;
  aligned.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const auto begin = static_cast<uint32_t>(position);
    const char32_t code = unicode::decode_utf8(text, position);
    aligned.push_back({code, begin, static_cast<uint32_t>(position)});
  }
  return aligned;
}

std::string to_utf8(std::span<const AlignedChar> text) {
  std::string utf8;
  utf8.reserve(text.size());
  for (const AlignedChar& c : text) unicode::append_utf8(utf8, c.code);
  return utf8;
}

}  // namespace octet

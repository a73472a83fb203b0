// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// A character of a text while it is being normalized, and the bytes [begin, end) of the original text that it came
/// from.
struct AlignedChar {
  char32_t code;
  uint32_t begin, end;
};

using AlignedText = std::vector<AlignedChar>;

/// A stretch [begin, end) of an AlignedText, in characters.
struct CharRange {
  size_t begin, end;
};

/// The characters of `text`. Bytes that are not UTF-8 become U+FFFD and keep their place. Throws Error for a text of 4
/// GiB or more, whose offsets would not fit.
AlignedText align(std::string_view text);

std::string to_utf8(std::span<const AlignedChar> text);

}  // namespace octet

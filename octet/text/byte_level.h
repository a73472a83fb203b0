// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "octet/text/regex.h"

/// Byte-level BPE (Radford et al., 2019, GPT-2) writes each byte as a character that can be seen: those of Latin-1 that
/// can, as they are; the 68 others, in order, from U+0100 on (the space is Ġ).
namespace octet::byte_level {

char32_t character_of(unsigned char byte);
/// The byte that a character stands for; none if it stands for none.
std::optional<unsigned char> byte_of(char32_t c);

/// GPT-2's pattern for words: contractions, letters, numbers, other characters, each with a space before it, and
/// whitespace.
const Regex& words();

/// How many characters at the beginning or at the end of a token are spaces, written Ġ or not.
size_t leading_spaces(std::string_view token);
size_t trailing_spaces(std::string_view token);

}  // namespace octet::byte_level

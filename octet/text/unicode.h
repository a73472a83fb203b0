// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

/// Characters as the Hugging Face `tokenizers` library sees them. Every function takes any code point.
namespace octet::unicode {

inline constexpr char32_t kReplacement = 0xFFFD;  ///< stands for bytes that are not UTF-8

/// The property White_Space: 25 code points.
bool is_whitespace(char32_t c);
/// What BERT's cleaning removes: U+FFFD, and Cc, Cf and Co of Unicode 8 but for tab, line feed and carriage return.
/// Unassigned code points stay.
bool is_control(char32_t c);
/// ASCII punctuation, or a category P* of Unicode 8.
bool is_punctuation(char32_t c);
/// The CJK ideographs that BERT sets apart with spaces (not kana, not Hangul).
bool is_cjk(char32_t c);
/// Category Mn of Unicode 8.
bool is_nonspacing_mark(char32_t c);
/// Mn, Mc or Me.
bool is_mark(char32_t c);
/// \w: alphabetic, mark, decimal digit, connector punctuation or join control.
bool is_word(char32_t c);
/// A digit of any script, or another number: ½, ④, Ⅷ.
bool is_numeric(char32_t c);

/// One code point's lowercase, without regard to its neighbours (so Σ is σ at the end of a word too). Only İ expands.
struct Lowercase {
  std::array<char32_t, 2> codes;
  int count;
};
Lowercase to_lowercase(char32_t c);

enum class Decomposition { kCanonical, kCompatibility };
/// The full decomposition of `c`, or `c` itself; Unicode's longest has 18 code points.
struct Decomposed {
  std::array<char32_t, 20> codes;
  int count;
};
Decomposed decompose(char32_t c, Decomposition kind);
/// The canonical combining class: 0 for everything that marks do not move past.
int combining_class(char32_t c);
/// The primary composite of two code points, or 0 where there is none.
char32_t compose(char32_t first, char32_t second);

/// Decodes the character of `text` (not empty) at `position` and moves `position` behind it. Bytes that are not UTF-8
/// give U+FFFD, one for each maximal part of a sequence that was begun well (the Unicode Standard, section 3.9, and
/// Python's errors="replace").
char32_t decode_utf8(std::string_view text, size_t& position);
/// How many bytes at the end of `text` begin a character that more bytes could complete.
size_t unfinished_bytes(std::string_view text);
void append_utf8(std::string& text, char32_t c);
/// The bytes of `c` in UTF-8.
constexpr size_t utf8_size(char32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

}  // namespace octet::unicode

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/unicode.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include <utf8proc.h>

#include "octet/text/regex_tables.h"
#include "octet/text/unicode_tables.h"

namespace octet::unicode {
namespace {

constexpr char32_t kCodePoints = 0x110000;

enum Class : uint8_t {
  kControl = 1,
  kNonspacingMark = 2,
  kMark = 4,
  kPunctuation = 8,
  kWord = 16,
  kCanonicalDecomposition = 32,
  kCompatibilityDecomposition = 64,
  kCombining = 128,
};

/// One byte of classes a code point: 1.1 MB that answer every question in one load.
std::vector<uint8_t> make_classes() {
  std::vector<uint8_t> classes(kCodePoints);
  const auto mark = [&](std::span<const CodePointRange> ranges, Class value) {
    for (const CodePointRange& range : ranges) {
      for (char32_t c = range.first; c <= range.last; ++c) classes[c] = static_cast<uint8_t>(classes[c] | value);
    }
  };
  mark(tables::control(), kControl);
  mark(tables::nonspacing_marks(), kNonspacingMark);
  mark(tables::marks(), kMark);
  mark(tables::punctuation(), kPunctuation);
  mark(tables::word(), kWord);
  mark(tables::canonical_decompositions(), kCanonicalDecomposition);
  mark(tables::compatibility_decompositions(), kCompatibilityDecomposition);
  mark(tables::combining_classes(), kCombining);
  return classes;
}

bool has(char32_t c, Class value) {
  static const std::vector<uint8_t> classes = make_classes();
  return c < kCodePoints && (classes[c] & value) != 0;
}

// Hangul syllables compose by arithmetic (the Unicode Standard, section 3.12).
constexpr char32_t kHangulS = 0xAC00, kHangulL = 0x1100, kHangulV = 0x1161, kHangulT = 0x11A7;
constexpr char32_t kHangulLs = 19, kHangulVs = 21, kHangulTs = 28;

uint64_t pair_key(char32_t first, char32_t second) { return uint64_t{first} << 32 | second; }

/// (first, second) → primary composite. utf8proc only gives full decompositions; all but the last code point of one is
/// itself the decomposition of `first`, which is found by composing those, shortest decompositions first.
std::unordered_map<uint64_t, char32_t> make_compositions() {
  struct Entry {
    char32_t composite;
    Decomposed parts;
  };
  std::vector<std::vector<Entry>> by_length(std::tuple_size_v<decltype(Decomposed::codes)> + 1);
  for (const CodePointRange& range : tables::canonical_decompositions()) {
    for (char32_t c = range.first; c <= range.last; ++c) {
      if (c >= kHangulS && c < kHangulS + kHangulLs * kHangulVs * kHangulTs) continue;
      if (utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->comp_exclusion) continue;
      const Decomposed parts = decompose(c, Decomposition::kCanonical);
      by_length[static_cast<size_t>(parts.count)].push_back({c, parts});
    }
  }
  std::unordered_map<uint64_t, char32_t> compositions;
  for (size_t length = 2; length < by_length.size(); ++length) {
    for (const Entry& entry : by_length[length]) {
      char32_t first = entry.parts.codes[0];
      for (size_t i = 1; i + 1 < length && first != 0; ++i) {
        const auto found = compositions.find(pair_key(first, entry.parts.codes[i]));
        first = found == compositions.end() ? 0 : found->second;
      }
      // A composite must begin with a starter; the others (U+0344) are excluded from composition by rule.
      if (first == 0 || combining_class(first) != 0 || combining_class(entry.composite) != 0) continue;
      compositions.emplace(pair_key(first, entry.parts.codes[length - 1]), entry.composite);
    }
  }
  return compositions;
}

}  // namespace

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x9 && c <= 0xD);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_control(char32_t c) { return has(c, kControl); }
bool is_punctuation(char32_t c) { return has(c, kPunctuation); }
bool is_nonspacing_mark(char32_t c) { return has(c, kNonspacingMark); }
bool is_mark(char32_t c) { return has(c, kMark); }
bool is_word(char32_t c) { return has(c, kWord); }

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const std::span<const CodePointRange> ranges = tables::numeric();
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), c,
                                      [](char32_t code, const CodePointRange& range) { return code < range.first; });
  return after != ranges.begin() && c <= (after - 1)->last;
}

bool is_cjk(char32_t c) {
  if (c < 0x3400) return false;
  // The blocks as the library has them: it begins Extension E at U+2B920, not at its true U+2B820.
  return c <= 0x4DBF || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

Lowercase to_lowercase(char32_t c) {
  if (c < 0x80) return {{c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c, 0}, 1};
  if (c == 0x130) return {{'i', 0x307}, 2};
  for (const LowercaseRange& range : tables::lowercase()) {
    if (c < range.first) break;
    if (c <= range.last) return {{static_cast<char32_t>(static_cast<int32_t>(c) + range.offset), 0}, 1};
  }
  return {{static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), 0}, 1};
}

Decomposed decompose(char32_t c, Decomposition kind) {
  Decomposed result{{c}, 1};
  if (!has(c, kind == Decomposition::kCanonical ? kCanonicalDecomposition : kCompatibilityDecomposition)) return result;
  std::array<utf8proc_int32_t, std::tuple_size_v<decltype(Decomposed::codes)>> codes{};
  const int options = UTF8PROC_DECOMPOSE | (kind == Decomposition::kCompatibility ? UTF8PROC_COMPAT : 0);
  int boundary_class = 0;
  const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), codes.data(),
                                                         static_cast<utf8proc_ssize_t>(codes.size()),
                                                         static_cast<utf8proc_option_t>(options), &boundary_class);
  if (count < 1 || count > static_cast<utf8proc_ssize_t>(codes.size())) return result;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) result.codes[i] = static_cast<char32_t>(codes[i]);
  result.count = static_cast<int>(count);
  return result;
}

int combining_class(char32_t c) {
  return has(c, kCombining) ? utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class : 0;
}

char32_t compose(char32_t first, char32_t second) {
  if (first >= kHangulL && first < kHangulL + kHangulLs && second >= kHangulV && second < kHangulV + kHangulVs) {
    return kHangulS + ((first - kHangulL) * kHangulVs + (second - kHangulV)) * kHangulTs;
  }
  if (first >= kHangulS && first < kHangulS + kHangulLs * kHangulVs * kHangulTs &&
      (first - kHangulS) % kHangulTs == 0 && second > kHangulT && second < kHangulT + kHangulTs) {
    return first + (second - kHangulT);
  }
  static const std::unordered_map<uint64_t, char32_t> compositions = make_compositions();
  const auto found = compositions.find(pair_key(first, second));
  return found == compositions.end() ? 0 : found->second;
}

char32_t decode_utf8(std::string_view text, size_t& position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(position++);
  if (lead < 0x80) return lead;
  // The second byte's bounds keep out overlong forms, surrogates and code points above U+10FFFF (the Unicode Standard,
  // table 3-7); the bytes after it are 80…BF.
  int more = 0;
  unsigned char low = 0x80, high = 0xBF;
  char32_t code = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    more = 1;
    code = lead & 0x1Fu;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    more = 2;
    code = lead & 0x0Fu;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    more = 3;
    code = lead & 0x07u;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return kReplacement;
  }
  for (; more > 0; --more) {
    if (position == text.size() || byte(position) < low || byte(position) > high) return kReplacement;
    code = code << 6 | (byte(position++) & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return code;
}

size_t unfinished_bytes(std::string_view text) {
  for (size_t count = 1; count <= std::min<size_t>(3, text.size()); ++count) {
    const auto lead = static_cast<unsigned char>(text[text.size() - count]);
    if (lead < 0xC0) {
      if (lead < 0x80) return 0;
      continue;
    }
    const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || count >= size) return 0;
    // It has begun well where the decoder goes on to the end.
    size_t position = text.size() - count;
    decode_utf8(text, position);
    return position == text.size() ? count : 0;
  }
  return 0;
}

void append_utf8(std::string& text, char32_t c) {
  const auto push = [&](char32_t value) { text.push_back(static_cast<char>(value)); };
  if (c < 0x80) {
    push(c);
  } else if (c < 0x800) {
    push(0xC0 | c >> 6);
    push(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    push(0xE0 | c >> 12);
    push(0x80 | (c >> 6 & 0x3F));
    push(0x80 | (c & 0x3F));
  } else {
    push(0xF0 | c >> 18);
    push(0x80 | (c >> 12 & 0x3F));
    push(0x80 | (c >> 6 & 0x3F));
    push(0x80 | (c & 0x3F));
  }
}

}  // namespace octet::unicode

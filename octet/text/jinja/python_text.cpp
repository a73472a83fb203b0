// SPDX-License-Identifier: Apache-2.0
#include "octet/text/jinja/python_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <utf8proc.h>

#include "octet/text/jinja/budget.h"
#include "octet/text/jinja/value.h"
#include "octet/text/unicode.h"

namespace octet::jinja {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_printable(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

char32_t character_at(std::string_view text, size_t place) { return unicode::decode_utf8(text, place); }

size_t begin_of_last(std::string_view text) {
  size_t place = text.size() - 1;
  while ((static_cast<unsigned char>(text[place]) & 0xC0) == 0x80) --place;
  return place;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t place = 0; place < text.size();) unicode::append_utf8(result, unicode::decode_utf8(text, place));
  return result;
}

size_t next_character(std::string_view text, size_t begin) {
  unicode::decode_utf8(text, begin);
  return begin;
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::u32string to_code_points(std::string_view text) {
  std::u32string codes;
  codes.reserve(text.size());
  for (size_t place = 0; place < text.size();) codes.push_back(unicode::decode_utf8(text, place));
  return codes;
}

std::string to_utf8(std::u32string_view text) {
  std::string result;
  for (const char32_t c : text) unicode::append_utf8(result, c);
  return result;
}

bool is_space(char32_t c) { return unicode::is_whitespace(c) || (c >= 0x1C && c <= 0x1F); }

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> characters) {
  const std::u32string set = characters ? to_code_points(*characters) : std::u32string();
  const auto goes = [&](char32_t c) { return characters ? set.find(c) != set.npos : is_space(c); };
  if (side != Side::kRight) {
    while (!text.empty() && goes(character_at(text, 0))) text.remove_prefix(next_character(text, 0));
  }
  if (side != Side::kLeft) {
    while (!text.empty() && goes(character_at(text, begin_of_last(text)))) text = text.substr(0, begin_of_last(text));
  }
  return text;
}

namespace {

std::vector<std::string_view> split_at_space(std::string_view text, int64_t most, Side from) {
  std::vector<std::string_view> parts;
  if (from == Side::kRight) {
    text = strip(text, Side::kRight);
    while (!text.empty()) {
      if (std::cmp_equal(parts.size(), most)) {
        parts.push_back(text);
        break;
      }
      size_t begin = text.size();
      while (begin > 0) {
        const size_t last = begin_of_last(text.substr(0, begin));
        if (is_space(character_at(text, last))) break;
        begin = last;
      }
      parts.push_back(text.substr(begin));
      text = strip(text.substr(0, begin), Side::kRight);
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  text = strip(text, Side::kLeft);
  while (!text.empty()) {
    if (std::cmp_equal(parts.size(), most)) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size() && !is_space(character_at(text, end))) end = next_character(text, end);
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), Side::kLeft);
  }
  return parts;
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator, int64_t most,
                                    Side from) {
  if (!separator) return split_at_space(text, most, from);
  std::vector<std::string_view> parts;
  while (!std::cmp_equal(parts.size(), most)) {
    const size_t place = from == Side::kRight ? text.rfind(*separator) : text.find(*separator);
    if (place == text.npos) break;
    if (from == Side::kRight) {
      parts.push_back(text.substr(place + separator->size()));
      text = text.substr(0, place);
    } else {
      parts.push_back(text.substr(0, place));
      text.remove_prefix(place + separator->size());
    }
  }
  parts.push_back(text);
  if (from == Side::kRight) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t place = 0; place < text.size();) {
    const size_t end = place;
    const char32_t c = unicode::decode_utf8(text, place);
    const bool ends = (c >= 0xA && c <= 0xD) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!ends) continue;
    if (c == '\r' && place < text.size() && text[place] == '\n') ++place;
    lines.push_back(text.substr(begin, (keep_ends ? place : end) - begin));
    begin = place;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

namespace {

// Calls visit(begin) for each place where `old` is replaced; returns how many there were.
template <class Visit>
int64_t for_each_part(std::string_view text, std::string_view old, int64_t most, const Visit& visit) {
  int64_t count = 0;
  for (size_t place = 0; most < 0 || count < most;) {
    const size_t found = old.empty() ? place : text.find(old, place);
    if (found == text.npos) break;
    visit(found);
    ++count;
    if (old.empty()) {
      if (place == text.size()) break;
      place = next_character(text, place);
    } else {
      place = found + old.size();
    }
  }
  return count;
}

}  // namespace

std::string replace(std::string_view text, std::string_view old, std::string_view with, int64_t most) {
  std::string result;
  size_t copied = 0;
  for_each_part(text, old, most, [&](size_t found) {
    result += text.substr(copied, found - copied);
    result += with;
    copied = found + old.size();
  });
  result += text.substr(copied);
  return result;
}

size_t replaced_size(std::string_view text, std::string_view old, std::string_view with, int64_t most) {
  const auto count = static_cast<size_t>(for_each_part(text, old, most, [](size_t) {}));
  return text.size() - count * old.size() + count * with.size();
}

int64_t count_parts(std::string_view text, std::string_view part) {
  return for_each_part(text, part, -1, [](size_t) {});
}

bool is_all(std::string_view text, CharacterClass of) {
  bool cased = false;
  for (const char32_t c : to_code_points(text)) {
    const utf8proc_category_t kind = category(c);
    const bool letter = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
    // isdigit adds the superscripts and circled digits to isdecimal, isnumeric all other numbers.
    const bool decimal = kind == UTF8PROC_CATEGORY_ND;
    const bool digit = decimal || c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) ||
                       (c >= 0x2080 && c <= 0x2089) || (c >= 0x2460 && c <= 0x2468);
    const bool numeric = unicode::is_numeric(c);
    bool is = false;
    switch (of) {
      case CharacterClass::kAlpha:
        is = letter;
        break;
      case CharacterClass::kAlphanumeric:
        is = letter || decimal || digit || numeric;
        break;
      case CharacterClass::kDecimal:
        is = decimal;
        break;
      case CharacterClass::kDigit:
        is = digit;
        break;
      case CharacterClass::kNumeric:
        is = numeric;
        break;
      case CharacterClass::kSpace:
        is = is_space(c);
        break;
      case CharacterClass::kUpper:
      case CharacterClass::kLower: {
        // Characters without case do not count.
        const bool up = kind == UTF8PROC_CATEGORY_LU, low = kind == UTF8PROC_CATEGORY_LL;
        is = of == CharacterClass::kUpper ? !low && kind != UTF8PROC_CATEGORY_LT : !up && kind != UTF8PROC_CATEGORY_LT;
        cased = cased || up || low;
        break;
      }
    }
    if (!is) return false;
  }
  return (of == CharacterClass::kUpper || of == CharacterClass::kLower) ? cased : !text.empty();
}

std::string quote(std::string_view text) {
  const bool doubled = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char mark = doubled ? '"' : '\'';
  std::string result(1, mark);
  for (const char32_t c : to_code_points(text)) {
    if (c == static_cast<char32_t>(mark) || c == '\\') {
      result += '\\';
      result += static_cast<char>(c);
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c == '\t') {
      result += "\\t";
    } else if (is_printable(c)) {
      unicode::append_utf8(result, c);
    } else if (c <= 0xFF) {
      result += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    } else if (c <= 0xFFFF) {
      result += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      result += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
  }
  return result + mark;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 32> buffer{};
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<size_t>(end - buffer.data()));
  // d.ddde±xx
  const size_t e = text.find('e');
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  int exponent = 0;
  const std::string_view power = text.substr(e + 1 + (text[e + 1] == '+' ? 1 : 0));
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  std::string result = text.front() == '-' ? "-" : "";
  const int count = static_cast<int>(digits.size());
  // Python writes exponents below -4 and from 16 on.
  if (exponent < -4 || exponent >= 16) {
    result += digits.substr(0, 1);
    if (count > 1) result += fmt::format(".{}", digits.substr(1));
    return result + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return result + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1)
    return result + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  const size_t whole = static_cast<size_t>(exponent) + 1;
  return result + digits.substr(0, whole) + "." + digits.substr(whole);
}

namespace {

// Digits with single underscores between them taken out; none where one is elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      plain += text[i];
      continue;
    }
    const auto digit = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
    if (i == 0 || i + 1 == text.size() || !digit(text[i - 1]) || !digit(text[i + 1])) return std::nullopt;
  }
  return plain;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  text = strip(text, Side::kBoth);
  bool negative = false;
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    negative = text.front() == '-';
    text.remove_prefix(1);
  }
  const auto prefix_base = [&]() -> int64_t {
    if (text.size() < 2 || text[0] != '0') return 0;
    const char c = static_cast<char>(text[1] | 0x20);
    return c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
  }();
  bool prefixed = false;
  if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
    base = prefix_base;
    prefixed = true;
    text.remove_prefix(2);
  } else if (base == 0) {
    if (text.size() > 1 && text.front() == '0' && text.find_first_not_of("0_") != text.npos) return std::nullopt;
    base = 10;
  }
  if (base < 2 || base > 36) return std::nullopt;
  if (prefixed && !text.empty() && text.front() == '_') text.remove_prefix(1);
  const std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits->data(), digits->data() + digits->size(), value, static_cast<int>(base));
  if (end != digits->data() + digits->size() || error == std::errc::invalid_argument) return std::nullopt;
  const uint64_t most = (uint64_t{1} << 63) - (negative ? 0 : 1);
  if (error == std::errc::result_out_of_range || value > most) make_integer(std::nullopt);
  return static_cast<int64_t>(negative ? 0 - value : value);
}

std::optional<double> parse_float(std::string_view text) {
  text = strip(text, Side::kBoth);
  const std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  std::string_view number = *digits;
  const bool negative = number.front() == '-';
  if (negative || number.front() == '+') number.remove_prefix(1);
  // from_chars takes a sign of its own and "nan(…)"; Python does not.
  if (number.empty() || number.front() == '-' || number.find('(') != number.npos) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (end != number.data() + number.size() || error == std::errc::invalid_argument) return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    // Too large or too small: by the sign of the exponent.
    const size_t e = number.find_first_of("eE");
    const bool small = e != number.npos && e + 1 < number.size() ? number[e + 1] == '-'
                                                                 : number.front() == '0' || number.front() == '.';
    value = small ? 0 : INFINITY;
  }
  return negative ? -value : value;
}

std::string escape_markup(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '\'':
        result += "&#39;";
        break;
      case '"':
        result += "&#34;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace octet::jinja

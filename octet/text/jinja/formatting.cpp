// SPDX-License-Identifier: Apache-2.0
// Python's two ways to put values into a string: "%s" % value and "{}".format(value).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "octet/base/error.h"
#include "octet/text/jinja/operations.h"
#include "octet/text/jinja/python_text.h"
#include "octet/text/unicode.h"

namespace octet::jinja {
namespace {

// More than a person asks for; a number of a thousand digits is formatted at once.
constexpr int64_t kWidest = 1000;

struct Specification {
  bool left = false, zero = false, plus = false, space = false, alternate = false, comma = false;
  std::string fill = " ";
  char align = '\0';  // of {}: < > ^ =
  int64_t width = 0;
  std::optional<int64_t> precision;
  char type = '\0';
};

int64_t take_number(std::string_view text, size_t& place) {
  int64_t number = 0;
  for (; place < text.size() && text[place] >= '0' && text[place] <= '9'; ++place) {
    number = number * 10 + (text[place] - '0');
    if (number > kWidest) fail<OperationError>("a field of a format is wider than {}", kWidest);
  }
  return number;
}

std::string pad(std::string_view text, const Specification& of, char align) {
  const auto count = static_cast<int64_t>(count_characters(text));
  if (count >= of.width) return std::string(text);
  const int64_t missing = of.width - count;
  const int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string result;
  for (int64_t i = 0; i < before; ++i) result += of.fill;
  result += text;
  for (int64_t i = before; i < missing; ++i) result += of.fill;
  return result;
}

// With the sign at the edge and zeros behind it where they fill the width.
std::string pad_number(const std::string& digits, bool is_negative, std::string_view prefix, const Specification& of,
                       char align) {
  std::string sign = is_negative ? "-" : of.plus ? "+" : of.space ? " " : "";
  sign += prefix;
  if (align != '=') return pad(sign + digits, of, align);
  const auto size = static_cast<int64_t>(sign.size() + digits.size());
  std::string filling;
  for (int64_t i = size; i < of.width; ++i) filling += of.fill;
  return sign + filling + digits;
}

std::string float_digits(double value, const Specification& of, char type) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : "inf";
  const std::string format = fmt::format("%{}.*{}", of.alternate ? "#" : "", type);
  std::array<char, 1500> buffer{};  // 309 digits before the point, kWidest behind it
  const int size =
      std::snprintf(buffer.data(), buffer.size(), format.c_str(), static_cast<int>(of.precision.value_or(6)), value);
  return {buffer.data(), static_cast<size_t>(size)};
}

std::string in_base(uint64_t value, int base, bool upper_case) {
  std::string digits;
  do {
    digits += (upper_case ? "0123456789ABCDEF" : "0123456789abcdef")[value % static_cast<unsigned>(base)];
    value /= static_cast<unsigned>(base);
  } while (value > 0);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

uint64_t magnitude(int64_t value) {
  return value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
}

std::string with_commas(std::string_view digits) {
  const size_t whole = std::min(digits.find_first_of(".e%"), digits.size());
  std::string result;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && i < whole && (whole - i) % 3 == 0) result += ',';
    result += digits[i];
  }
  return result;
}

std::string first_characters(std::string_view text, const std::optional<int64_t>& count) {
  if (!count) return std::string(text);
  size_t end = 0;
  for (int64_t i = 0; i < *count && end < text.size(); ++i) end = next_character(text, end);
  return std::string(text.substr(0, end));
}

std::string percent_field(Budget& budget, const Value& value, Specification of) {
  const char align = of.left ? '<' : '>';
  switch (of.type) {
    case 's':
      return pad(first_characters(to_str(budget, value), of.precision), of, align);
    case 'r':
      return pad(first_characters(to_repr(budget, value), of.precision), of, align);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      const bool decimal = of.type == 'd' || of.type == 'i' || of.type == 'u';
      std::optional<int64_t> number = defined(value).integer();
      if (!number && decimal && value.is_float()) {
        const double whole = std::trunc(value.floating());
        if (!(std::fabs(whole) < 0x1p63)) make_integer(std::nullopt);
        number = static_cast<int64_t>(whole);
      }
      if (!number)
        fail<OperationError>("'%{}' needs a number where a value of type '{}' is given", of.type, value.type_name());
      std::string digits = in_base(magnitude(*number), decimal ? 10 : of.type == 'o' ? 8 : 16, of.type == 'X');
      if (of.precision && std::cmp_less(digits.size(), *of.precision))
        digits.insert(0, static_cast<size_t>(*of.precision) - digits.size(), '0');
      const std::string prefix = !of.alternate || decimal ? "" : of.type == 'o' ? "0o" : of.type == 'x' ? "0x" : "0X";
      if (of.zero && !of.left) of.fill.assign(1, '0');
      return pad_number(digits, *number < 0, prefix, of, of.zero && !of.left ? '=' : align);
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      const auto number = defined(value).number();
      if (!number)
        fail<OperationError>("'%{}' needs a number where a value of type '{}' is given", of.type, value.type_name());
      const bool zeros = of.zero && !of.left;
      if (zeros) of.fill.assign(1, '0');
      return pad_number(float_digits(std::fabs(*number), of, of.type), std::signbit(*number) && !std::isnan(*number),
                        "", of, zeros ? '=' : align);
    }
    case 'c': {
      std::string character;
      if (value.text() != nullptr) {
        character = value.text()->bytes;
        if (count_characters(character) != 1) throw OperationError("'%c' needs one character");
      } else {
        const int64_t code = integer_argument("%c", value);
        if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
          throw OperationError("'%c' needs one character");
        unicode::append_utf8(character, static_cast<char32_t>(code));
      }
      return pad(character, of, align);
    }
    default:
      fail<OperationError>("the format '%{}' is not supported", of.type);
  }
}

}  // namespace

std::string format_percent(Budget& budget, std::string_view text, const Value& values) {
  const Sequence* tuple =
      values.sequence() != nullptr && values.sequence()->kind == Sequence::Kind::kTuple ? values.sequence() : nullptr;
  size_t used = 0;
  bool by_name = false;
  const auto next_value = [&]() -> Value {
    const size_t given = tuple != nullptr ? tuple->items.size() : 1;
    if (used >= given) throw OperationError("a format has more fields than there are values");
    ++used;
    return tuple != nullptr ? tuple->items[used - 1] : values;
  };
  std::string result;
  for (size_t place = 0; place < text.size();) {
    const size_t percent = std::min(text.find('%', place), text.size());
    budget.work(percent - place);
    result += text.substr(place, percent - place);
    place = percent + 1;
    if (percent == text.size()) break;
    Specification of;
    std::optional<Value> named;
    if (place < text.size() && text[place] == '(') {
      const size_t close = text.find(')', place);
      if (close == text.npos) throw OperationError("a format has a '%(' without ')'");
      const Dict* dict = values.dict();
      if (dict == nullptr) throw OperationError("a format with names needs a dict");
      const Value* value = dict->find(text.substr(place + 1, close - place - 1));
      if (value == nullptr)
        fail<OperationError>("a format names '{}', which the dict does not have",
                             text.substr(place + 1, close - place - 1));
      named = *value;
      by_name = true;
      place = close + 1;
    }
    for (; place < text.size(); ++place) {
      const char c = text[place];
      if (c == '-')
        of.left = true;
      else if (c == '0')
        of.zero = true;
      else if (c == '+')
        of.plus = true;
      else if (c == ' ')
        of.space = true;
      else if (c == '#')
        of.alternate = true;
      else
        break;
    }
    const auto number = [&]() -> int64_t {
      if (place >= text.size() || text[place] != '*') return take_number(text, place);
      ++place;
      const int64_t width = integer_argument("%*", next_value());
      if (width < -kWidest || width > kWidest) fail<OperationError>("a field of a format is wider than {}", kWidest);
      return width;
    };
    of.width = number();
    if (of.width < 0) of.left = true, of.width = -of.width;
    if (place < text.size() && text[place] == '.') {
      ++place;
      of.precision = std::max<int64_t>(number(), 0);
    }
    while (place < text.size() && (text[place] == 'l' || text[place] == 'h' || text[place] == 'L')) ++place;
    if (place == text.size()) throw OperationError("a format ends inside a field");
    of.type = text[place++];
    if (of.type == '%') {
      result += '%';
      continue;
    }
    const std::string field = percent_field(budget, named ? *named : next_value(), of);
    budget.expect(result.size() + field.size());
    result += field;
  }
  const size_t given = tuple != nullptr ? tuple->items.size()
                       : values.dict() != nullptr || values.sequence() != nullptr || values.is_undefined() ? 0
                                                                                                           : 1;
  if (used < given && !by_name) throw OperationError("not all values are used by a format");
  return result;
}

namespace {

Specification parse_specification(std::string_view text) {
  Specification of;
  size_t place = 0;
  constexpr std::string_view kAligns = "<>^=";
  if (!text.empty()) {
    const size_t second = next_character(text, 0);
    if (second < text.size() && kAligns.find(text[second]) != kAligns.npos) {
      of.fill = text.substr(0, second);
      of.align = text[second];
      place = second + 1;
    } else if (kAligns.find(text[0]) != kAligns.npos) {
      of.align = text[0];
      place = 1;
    }
  }
  const auto skip = [&](char c) {
    if (place >= text.size() || text[place] != c) return false;
    ++place;
    return true;
  };
  of.plus = skip('+');
  if (!of.plus) of.space = skip(' ');
  if (!of.plus && !of.space) skip('-');
  of.alternate = skip('#');
  if (skip('0')) {
    of.zero = true;
    if (of.align == '\0') of.align = '=', of.fill.assign(1, '0');
  }
  of.width = take_number(text, place);
  of.comma = skip(',');
  if (skip('.')) of.precision = take_number(text, place);
  if (place < text.size()) of.type = text[place++];
  if (place != text.size()) fail<OperationError>("the format '{{:{}}}' is not supported", text);
  return of;
}

std::string brace_field(Budget& budget, const Value& value, std::string_view specification) {
  if (specification.empty()) return to_str(budget, value);
  const Specification of = parse_specification(specification);
  const auto unsupported = [&]() {
    fail<OperationError>("the format '{{:{}}}' of a value of type '{}' is not supported", specification,
                         value.type_name());
  };
  if (value.text() != nullptr) {
    if ((of.type != '\0' && of.type != 's') || of.align == '=' || of.comma) unsupported();
    return pad(first_characters(value.text()->bytes, of.precision), of, of.align == '\0' ? '<' : of.align);
  }
  const char align = of.align == '\0' ? '>' : of.align;
  if (const auto number = value.integer();
      number && (std::string_view("dxXob").find(of.type) != std::string_view::npos || of.type == '\0')) {
    if (of.precision || (value.is_bool() && of.type == '\0')) unsupported();
    const int base = of.type == 'x' || of.type == 'X' ? 16 : of.type == 'o' ? 8 : of.type == 'b' ? 2 : 10;
    std::string digits = in_base(magnitude(*number), base, of.type == 'X');
    if (of.comma) digits = with_commas(digits);
    const std::string prefix = of.alternate && base != 10 ? std::string("0") + of.type : "";
    return pad_number(digits, *number < 0, prefix, of, align);
  }
  const auto number = value.number();
  if (!number || std::string_view("fFeEgG%").find(of.type) == std::string_view::npos) unsupported();
  const bool hundredths = of.type == '%';
  const double magnitude_of = std::fabs(*number) * (hundredths ? 100 : 1);
  std::string digits = float_digits(magnitude_of, of, hundredths ? 'f' : of.type) + (hundredths ? "%" : "");
  if (of.comma) digits = with_commas(digits);
  return pad_number(digits, std::signbit(*number) && !std::isnan(*number), "", of, align);
}

// "0.name[key]" of the arguments.
Value find_field(Budget& budget, std::string_view path, const CallArguments& arguments, int64_t& counter) {
  const size_t end = std::min(path.find_first_of(".["), path.size());
  const std::string_view first = path.substr(0, end);
  Value value;
  const std::optional<int64_t> place = first.empty() ? std::optional(counter++) : parse_integer(first, 10);
  if (place) {
    if (*place < 0 || std::cmp_greater_equal(*place, arguments.positional.size())) {
      throw OperationError("a format has more fields than there are values");
    }
    value = arguments.positional[static_cast<size_t>(*place)];
  } else {
    const auto named = std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                                    [&](const auto& keyword) { return keyword.first == first; });
    if (named == arguments.keywords.end()) fail<OperationError>("a format names '{}', which is not given", first);
    value = named->second;
  }
  for (size_t at = end; at < path.size();) {
    if (path[at] == '.') {
      const size_t stop = std::min(path.find_first_of(".[", at + 1), path.size());
      value = get_attribute(budget, value, path.substr(at + 1, stop - at - 1));
      at = stop;
    } else if (const size_t close = path.find(']', at); path[at] == '[' && close != path.npos) {
      const std::string_view key = path.substr(at + 1, close - at - 1);
      const auto index = parse_integer(key, 10);
      value = get_item(budget, value, index ? Value(*index) : make_text(budget, std::string(key)));
      at = close + 1;
    } else {
      throw OperationError("a field of a format has an attribute that is none");
    }
  }
  return value;
}

}  // namespace

std::string format_braces(Budget& budget, std::string_view text, const CallArguments& arguments) {
  std::string result;
  int64_t counter = 0;
  for (size_t place = 0; place < text.size();) {
    const size_t brace = std::min(text.find_first_of("{}", place), text.size());
    budget.work(brace - place);
    result += text.substr(place, brace - place);
    if (brace == text.size()) break;
    place = brace + 1;
    if (place < text.size() && text[place] == text[brace]) {
      result += text[brace];
      ++place;
      continue;
    }
    const size_t close = text.find('}', place);
    if (text[brace] == '}' || close == text.npos) throw OperationError("a format has a single brace");
    std::string_view field = text.substr(place, close - place);
    if (field.find('{') != field.npos) throw OperationError("fields inside fields of a format are not supported");
    place = close + 1;
    std::string_view specification;
    if (const size_t colon = field.find(':'); colon != field.npos) {
      specification = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    char conversion = '\0';
    if (field.size() >= 2 && field[field.size() - 2] == '!') {
      conversion = field.back();
      field.remove_suffix(2);
    }
    Value value = find_field(budget, field, arguments, counter);
    if (conversion == 'r') {
      value = make_text(budget, to_repr(budget, value));
    } else if (conversion == 's') {
      value = make_text(budget, to_str(budget, value));
    } else if (conversion != '\0') {
      fail<OperationError>("the conversion '!{}' is not supported", conversion);
    }
    const std::string shown = brace_field(budget, value, specification);
    budget.expect(result.size() + shown.size());
    result += shown;
  }
  return result;
}

}  // namespace octet::jinja

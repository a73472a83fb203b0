// SPDX-License-Identifier: Apache-2.0
#include "octet/text/jinja/lexer.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "octet/text/jinja/python_text.h"
#include "octet/text/unicode.h"

namespace octet::jinja {
namespace {

using Kind = Token::Kind;

// Line ends as "\n", and without the last one.
std::string normalize(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      text += '\n';
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : normalized_(normalize(source)), source_(normalized_) {}

  std::vector<Token> run() {
    while (place_ < source_.size()) data();
    tokens_.push_back({Kind::kEnd, line_, ""});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& message) const { throw LocatedError(line_, message); }

  std::string_view rest() const { return source_.substr(place_); }
  // Moves behind `count` bytes.
  std::string_view take(size_t count) {
    const std::string_view taken = source_.substr(place_, count);
    line_ += static_cast<int>(std::count(taken.begin(), taken.end(), '\n'));
    place_ += count;
    return taken;
  }
  size_t space_at(size_t place) const {
    size_t end = place;
    while (end < source_.size()) {
      size_t next = end;
      if (!is_space(unicode::decode_utf8(source_, next))) break;
      end = next;
    }
    return end - place;
  }

  // The sign behind the two bytes that open a tag at `place`: '-', '+', or 0.
  char sign_at(size_t place) const {
    const char c = place < source_.size() ? source_[place] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  // How many bytes the end `symbol` ("%}") of a tag has at `place`, its sign and the white space that it cuts included;
  // 0 if none is there.
  size_t end_at(size_t place, std::string_view symbol, bool trims) const {
    const std::string_view text = source_.substr(place);
    if (text.starts_with('-') && text.substr(1).starts_with(symbol)) {
      return 1 + symbol.size() + space_at(place + 1 + symbol.size());
    }
    // "+}}" is no end of a variable: there is no line end that it could keep.
    if (trims && text.starts_with('+') && text.substr(1).starts_with(symbol)) return 1 + symbol.size();
    if (!text.starts_with(symbol)) return 0;
    return symbol.size() + (trims && text.substr(symbol.size()).starts_with('\n') ? 1 : 0);
  }

  // Text before a tag whose opening is followed by `sign`.
  void add_data(std::string_view text, char sign, bool is_variable) {
    const int line = line_;
    const bool begins_line = place_ == 0 || source_[place_ - 1] == '\n';
    std::string_view kept = text;
    if (sign == '-') {
      kept = strip(text, Side::kRight);
    } else if (sign != '+' && !is_variable) {
      // White space between the beginning of the line and the tag goes.
      const size_t newline = text.rfind('\n');
      const size_t begin = newline == text.npos ? 0 : newline + 1;
      if ((begin > 0 || begins_line) && strip(text.substr(begin), Side::kLeft).empty()) kept = text.substr(0, begin);
    }
    take(text.size());
    if (!kept.empty()) tokens_.push_back({Kind::kData, line, std::string(kept)});
  }

  // From here to the next tag, and that tag.
  void data() {
    size_t open = place_;
    for (;; ++open) {
      open = source_.find('{', open);
      if (open == source_.npos || open + 1 >= source_.size()) {
        const int line = line_;
        tokens_.push_back({Kind::kData, line, std::string(take(rest().size()))});
        return;
      }
      if (const char c = source_[open + 1]; c == '{' || c == '%' || c == '#') break;
    }
    const char type = source_[open + 1], sign = sign_at(open + 2);
    add_data(source_.substr(place_, open - place_), sign, type == '{');
    const size_t opening = sign == 0 ? 2 : 3;
    if (type == '#') {
      take(opening);
      comment();
    } else if (type == '{') {
      tokens_.push_back({Kind::kPrintBegin, line_, ""});
      take(opening);
      tag(Kind::kPrintEnd);
    } else if (const size_t raw_begin = raw_tag("raw", opening); raw_begin != 0) {
      take(raw_begin);
      raw();
    } else {
      tokens_.push_back({Kind::kStatementBegin, line_, ""});
      take(opening);
      tag(Kind::kStatementEnd);
    }
  }

  void comment() {
    const size_t close = rest().find("#}");
    if (close == std::string_view::npos) error("a comment has no end '#}'");
    size_t place = place_ + close;
    if (close > 0 && sign_at(place - 1) != 0) --place;
    take(place - place_ + end_at(place, "#}", true));
  }

  // The bytes of {% raw %} or {% endraw %} here, 0 where it is another tag.
  size_t raw_tag(std::string_view name, size_t opening) const {
    size_t place = place_ + opening;
    place += space_at(place);
    if (!source_.substr(place).starts_with(name)) return 0;
    place += name.size();
    place += space_at(place);
    const size_t end = end_at(place, "%}", /*trims=*/name == "endraw");
    return end == 0 ? 0 : place + end - place_;
  }

  void raw() {
    const int line = line_;
    const size_t begin = place_;
    for (size_t open = source_.find("{%", begin); open != source_.npos; open = source_.find("{%", open + 1)) {
      place_ = open;
      const char sign = sign_at(open + 2);
      const size_t end = raw_tag("endraw", sign == 0 ? 2 : 3);
      place_ = begin;
      if (end == 0) continue;
      add_data(source_.substr(begin, open - begin), sign, false);
      take(end);
      return;
    }
    throw LocatedError(line, "a raw block has no {% endraw %}");
  }

  // What stands inside a tag, to its end.
  void tag(Kind end) {
    std::string closing;  // the brackets that are open
    const std::string_view symbol = end == Kind::kPrintEnd ? "}}" : "%}";
    while (place_ < source_.size()) {
      if (const size_t space = space_at(place_); space > 0) {
        take(space);
        continue;
      }
      if (closing.empty()) {
        if (const size_t size = end_at(place_, symbol, end == Kind::kStatementEnd); size > 0) {
          tokens_.push_back({end, line_, ""});
          take(size);
          return;
        }
      }
      const char c = source_[place_];
      if (is_digit(c)) {
        number();
      } else if (is_name_start(c)) {
        name();
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        symbol_token(closing);
      }
    }
    error(fmt::format("a tag has no end '{}'", symbol));
  }

  void push(Kind kind, size_t bytes) {
    const int line = line_;
    tokens_.push_back({kind, line, std::string(take(bytes))});
  }

  // Digits with single underscores between them, from `place` on; their end.
  template <class IsDigit>
  size_t digits_end(size_t place, const IsDigit& is) const {
    size_t end = place;
    while (end < source_.size() && (is(source_[end]) || (source_[end] == '_' && end > place &&
                                                         end + 1 < source_.size() && is(source_[end + 1])))) {
      ++end;
    }
    return end;
  }

  void number() {
    const size_t whole = digits_end(place_, is_digit);
    size_t end = whole;
    if (place_ == 0 || source_[place_ - 1] != '.') {
      if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1]))
        end = digits_end(end + 1, is_digit);
      if (end < source_.size() && (source_[end] | 0x20) == 'e') {
        size_t power = end + 1;
        if (power < source_.size() && (source_[power] == '+' || source_[power] == '-')) ++power;
        if (power < source_.size() && is_digit(source_[power])) end = digits_end(power, is_digit);
      }
    }
    if (end > whole) {
      push(Kind::kFloat, end - place_);
      return;
    }
    const std::string_view text = rest();
    const char prefix = text.size() > 1 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
    const auto is_of_base = [&](char c) {
      return prefix == 'b'   ? c == '0' || c == '1'
             : prefix == 'o' ? c >= '0' && c <= '7'
                             : is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
    };
    if (prefix == 'b' || prefix == 'o' || prefix == 'x') {
      const size_t skipped = place_ + 2 + (text.size() > 2 && text[2] == '_' ? 1 : 0);
      if (const size_t last = digits_end(skipped, is_of_base); last > skipped) end = last;
    } else if (prefix != 0) {
      // Zeros only: what follows them is another number, and an error to the parser.
      end = digits_end(place_, [](char c) { return c == '0'; });
    }
    push(Kind::kInteger, end - place_);
  }

  void name() {
    size_t end = place_;
    while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) {
      size_t next = end;
      const char32_t c = unicode::decode_utf8(source_, next);
      if (!unicode::is_word(c)) break;
      end = next;
    }
    if (end == place_) error(fmt::format("unexpected character '{}'", rest().substr(0, next_character(rest(), 0))));
    push(Kind::kName, end - place_);
  }

  void string(char quote) {
    size_t end = place_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) error("a string has no end");
    std::string text = unescape(source_.substr(place_ + 1, end - place_ - 1));
    tokens_.push_back({Kind::kString, line_, std::move(text)});
    take(end + 1 - place_);
  }

  // Python's escapes; an unknown one stays as it is written.
  std::string unescape(std::string_view text) const {
    std::string result;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        result += text[i];
        continue;
      }
      constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
      const char c = text[++i];
      if (const size_t known = kLetters.find(c); known != kLetters.npos) {
        result += kMeanings[known];
      } else if (c == '\n') {
        // The line goes on.
      } else if (c >= '0' && c <= '7') {
        char32_t code = 0;
        size_t end = i;
        for (; end < text.size() && end < i + 3 && text[end] >= '0' && text[end] <= '7'; ++end)
          code = code * 8 + (text[end] - '0');
        unicode::append_utf8(result, code);
        i = end - 1;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const std::string_view hex = text.substr(i + 1, digits);
        uint32_t code = 0;
        const auto [last, status] = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
        if (hex.size() < digits || last != hex.data() + hex.size() || status != std::errc() || code > 0x10FFFF ||
            (code >= 0xD800 && code <= 0xDFFF)) {
          error(fmt::format("the escape '\\{}' in a string names no character", c));
        }
        unicode::append_utf8(result, code);
        i += digits;
      } else if (c == 'N') {
        error("the escape '\\N' in a string, a character by its name, is not supported");
      } else {
        result += '\\';
        result += c;
      }
    }
    return result;
  }

  void symbol_token(std::string& closing) {
    static constexpr std::string_view kDouble[] = {"//", "**", "==", "!=", ">=", "<="};
    for (const std::string_view symbol : kDouble) {
      if (rest().starts_with(symbol)) {
        push(Kind::kOperator, 2);
        return;
      }
    }
    const char c = source_[place_];
    constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (const size_t bracket = kOpen.find(c); bracket != kOpen.npos) {
      closing += kClose[bracket];
    } else if (kClose.find(c) != kClose.npos) {
      if (closing.empty()) error(fmt::format("unexpected '{}'", c));
      if (closing.back() != c) error(fmt::format("unexpected '{}' where '{}' is missing", c, closing.back()));
      closing.pop_back();
    } else if (std::string_view("+-/*%~<>=.:|,;").find(c) == std::string_view::npos) {
      error(fmt::format("unexpected character {}", quote(std::string_view(&source_[place_], 1))));
    }
    push(Kind::kOperator, 1);
  }

  std::string normalized_;
  std::string_view source_;
  size_t place_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace octet::jinja

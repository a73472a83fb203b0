// SPDX-License-Identifier: Apache-2.0
#include "octet/text/regex.h"

#include <algorithm>
#include <array>
#include <new>
#include <optional>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/text/regex_tables.h"

namespace octet {
namespace {

template <auto Function>
struct Free {
  template <class T>
  void operator()(T* pointer) const {
    Function(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Free<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>>;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// \s of Oniguruma; PCRE2's also has U+180E.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

void append_category(std::string& items, std::string_view category) {
  items += fmt::format(R"(\p{{{}}})", category);
  for (const unicode::CodePointRange& range : unicode::tables::younger_than_unicode_14(category)) {
    items +=
        fmt::format(R"(\x{{{:X}}}-\x{{{:X}}})", static_cast<uint32_t>(range.first), static_cast<uint32_t>(range.last));
  }
}

/// What stands between [ and ] for an escape that is a set of characters; none where it is not one.
std::optional<std::string> class_items(char escape, std::string_view property) {
  std::string items;
  switch (escape) {
    case 's':
      return std::string(kSpaces);
    case 'd':
      append_category(items, "Nd");
      return items;
    case 'h':
      return "0-9a-fA-F";
    case 'w':
      // ASCII first: what a class lists plainly is one look at a bitmap.
      // Oniguruma's has these numbers of Latin-1 too, and no others.
      items = R"(a-zA-Z0-9_\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}\p{Alphabetic})";
      for (const char* category : {"L", "M", "Nd"}) append_category(items, category);
      items += "\\p{Pc}";
      return items;
    case 'p':
      if (property == "L" || property == "Letter" || property == "Alpha") items = "a-zA-Z";
      if (property == "N" || property == "Number") items = "0-9";
      for (const auto& [name, category] : std::array<std::pair<std::string_view, std::string_view>, 5>{
               {{"Letter", "L"}, {"Mark", "M"}, {"Number", "N"}, {"Punctuation", "P"}, {"Symbol", "S"}}}) {
        if (property == name) property = category;
      }
      // A script's own characters; by a bare name PCRE2 understands those that are used with it too.
      for (const char* script : {"Han", "Hiragana", "Katakana", "Hangul"}) {
        if (property == script) return fmt::format(R"(\p{{sc:{}}})", script);
      }
      append_category(items, property);
      return items;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string to_pcre2(std::string_view pattern) {
  const auto refuse = [](std::string_view what) {
    fail<FormatError>("has {}, which Octet does not read in a pattern", what);
  };
  std::string result;
  bool in_class = false;
  for (size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '\\' && at + 1 < pattern.size()) {
      const char escape = pattern[++at];
      std::string_view property;
      bool negated = false;
      char base = escape;
      if (escape == 'p' || escape == 'P') {
        const size_t end = pattern.find('}', at);
        if (at + 1 >= pattern.size() || pattern[at + 1] != '{' || end == std::string_view::npos) {
          refuse("\\p without {…}");
        }
        property = pattern.substr(at + 2, end - at - 2);
        at = end;
        negated = escape == 'P';
        if (property.starts_with('^')) {
          negated = !negated;
          property.remove_prefix(1);
        }
        base = 'p';
      } else if (escape == 'S' || escape == 'D' || escape == 'W' || escape == 'H') {
        negated = true;
        base = static_cast<char>(escape - 'A' + 'a');
      } else if (escape == 'b' || escape == 'B') {
        if (in_class) {
          result += "\\x{8}";
          continue;
        }
        const std::string word = *class_items('w', {});
        const std::string after = fmt::format("(?<=[{}])", word), before = fmt::format("(?=[{}])", word),
                          not_after = fmt::format("(?<![{}])", word), not_before = fmt::format("(?![{}])", word);
        result += escape == 'b' ? fmt::format("(?:{}{}|{}{})", after, not_before, not_after, before)
                                : fmt::format("(?:{}{}|{}{})", after, before, not_after, not_before);
        continue;
      } else if (std::string_view("KGgkCNRXQEcMuyYOoV").find(escape) != std::string_view::npos) {
        refuse(fmt::format("\\{}", escape));
      }
      const auto items = class_items(base, property);
      if (!items) {
        result += {'\\', escape};
      } else if (in_class) {
        // The complement of a set within a set cannot be written as items. Without the characters that PCRE2 does not
        // know it can.
        if (negated && (base == 'w' || base == 'h')) refuse(fmt::format("\\{} in a set", escape));
        if (negated) {
          result += base == 'p' ? fmt::format(R"(\P{{{}}})", property) : std::string{'\\', escape};
        } else {
          result += *items;
        }
      } else {
        result += fmt::format("[{}{}]", negated ? "^" : "", *items);
      }
      continue;
    }
    if (in_class) {
      // That includes [:punct:] and its like, which have other characters in PCRE2.
      if (c == '[') refuse("a set within a set");
      if (c == '&' && pattern.substr(at).starts_with("&&")) refuse("an intersection of sets (&&)");
      if (c == ']') in_class = false;
    } else if (c == '[') {
      in_class = true;
      result += c;
      if (pattern.substr(at + 1).starts_with('^')) {
        result += '^';
        ++at;
      }
      if (pattern.substr(at + 1).starts_with(']')) {
        result += "\\]";
        ++at;
      }
      continue;
    } else if (c == '(' && pattern.substr(at).starts_with("(*")) {
      refuse("a verb (*…)");
    } else if (c == '(' && pattern.substr(at).starts_with("(?")) {
      // Of the options, m means another thing than in Perl; recursion, conditions and callouts no pattern needs.
      const std::string_view group = pattern.substr(at + 2);
      const size_t flags = std::min(group.find_first_not_of("ix-"), group.size());
      const bool known = group.starts_with('=') || group.starts_with('!') || group.starts_with('>') ||
                         group.starts_with('#') || group.starts_with("<=") || group.starts_with("<!") ||
                         group.substr(flags).starts_with(':') || (flags > 0 && group.substr(flags).starts_with(')'));
      if (!known) refuse(fmt::format("the group '(?{}'", group.substr(0, 1)));
    }
    result += c;
  }
  return result;
}

struct Regex::Compiled {
  Code code;
  std::string pattern;
  bool jit = false;
};

Regex::Regex(const std::string& pcre2_pattern, std::string_view pattern) {
  // Real patterns have under a thousand bytes and nest three groups; compiling recurses.
  constexpr size_t kLongest = 16384;
  constexpr uint32_t kDeepest = 64;
  if (pattern.size() > kLongest)
    fail<FormatError>("has {} bytes; Octet takes patterns of {}", pattern.size(), kLongest);
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_parens_nest_limit(context.get(), kDeepest);
  // In Ruby ^ and $ always stand at lines.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  size_t offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre2_pattern.data()), pcre2_pattern.size(), kOptions, &error,
                          &offset, context.get()));
  if (!code) fail<FormatError>("is not a pattern that Octet can read: {}", message_of(error));
  const bool jit = pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE) == 0;
  compiled_ = std::make_shared<const Compiled>(Compiled{std::move(code), quote_name(pattern), jit});
}

Regex Regex::compile(std::string_view pattern) { return Regex(to_pcre2(pattern), pattern); }

Regex Regex::literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (plain) {
      pattern += c;
    } else {
      pattern += fmt::format("\\x{{{:x}}}", byte);
    }
  }
  return Regex(pattern, text);
}

std::vector<ByteRange> Regex::find_all(std::string_view text) const {
  std::vector<ByteRange> matches;
  const MatchData data(pcre2_match_data_create(1, nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  if (!data || !context) throw std::bad_alloc();
  // A step is a character taken, or taken back: an honest pattern needs a few for each character of the text, a hostile
  // one 2^n. A text shorter than this budget is not worth counting.
  constexpr size_t kFreeSteps = 100'000, kStepsPerByte = 16;
  constexpr uint32_t kHeapKib = 65536;
  const size_t steps = kFreeSteps + kStepsPerByte * text.size();
  pcre2_set_match_limit(context.get(), static_cast<uint32_t>(std::min(steps, size_t{UINT32_MAX})));
  pcre2_set_heap_limit(context.get(), kHeapKib);

  JitStack stack;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto match = [&](size_t from) {
    const auto run = [&](uint32_t options) {
      return pcre2_match(compiled_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | options, data.get(),
                         context.get());
    };
    int count = run(0);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT && !stack) {
      // What it has on its own are 32 KiB of this thread's stack.
      constexpr size_t kLeast = size_t{64} << 10, kMost = size_t{16} << 20;
      stack.reset(pcre2_jit_stack_create(kLeast, kMost, nullptr));
      if (!stack) throw std::bad_alloc();
      pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
      count = run(0);
    }
    return count;
  };

  std::optional<size_t> last_end;
  for (size_t from = 0; from <= text.size();) {
    // One group of offsets, so 0 says that there were others.
    const int count = match(from);
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      fail<FormatError>("the tokenizer's pattern {} takes too long on a text of {} bytes ({}); its file is damaged",
                        compiled_->pattern, text.size(), message_of(count));
    }
    const size_t* offsets = pcre2_get_ovector_pointer(data.get());
    const size_t begin = offsets[0], end = offsets[1];
    if (begin > end || begin < from) {
      fail<FormatError>("the tokenizer's pattern {} matches backwards; its file is damaged", compiled_->pattern);
    }
    if (begin == end && last_end == end) {
      do {
        ++from;
      } while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80);
      continue;
    }
    matches.push_back({begin, end});
    from = end;
    last_end = end;
  }
  return matches;
}

}  // namespace octet

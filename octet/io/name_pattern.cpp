// SPDX-License-Identifier: Apache-2.0
#include "octet/io/name_pattern.h"

#include <algorithm>
#include <array>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

constexpr size_t kLongestPattern = 1000;
constexpr int kDeepest = 16;

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 128; }
bool is_between(char c, char first, char last) { return first <= c && c <= last; }
bool is_digit(char c) { return is_between(c, '0', '9'); }
bool is_word(char c) { return is_digit(c) || is_between(c, 'a', 'z') || is_between(c, 'A', 'Z') || c == '_'; }
bool is_space(char c) { return c == ' ' || is_between(c, '\t', '\r'); }

}  // namespace

// Recursive descent over
//
//   alternatives = sequence ("|" sequence)*      sequence = (atom ("*" | "+" | "?")? "?"?)*
//   atom         = "(" alternatives ")" | "[" set "]" | "." | "^" | "$" | "\" character | character
//
// Each part becomes states with one entry and one exit, an exit being a split whose ways on are set by what comes next.
class NamePattern::Compiler {
 public:
  Compiler(std::string_view pattern, const std::string& source, std::vector<State>& states)
      : pattern_(pattern), source_(source), states_(states) {
    if (pattern.size() > kLongestPattern) refuse("is too long");
    if (!std::all_of(pattern.begin(), pattern.end(), is_ascii)) refuse("holds characters that are not ASCII");
  }

  int compile() {
    const Part whole = alternatives(0);
    if (at_ < pattern_.size()) refuse("has a ')' too many");
    states_[whole.exit].next = add({.kind = Kind::kMatch, .characters = {}});
    return whole.entry;
  }

 private:
  struct Part {
    int entry, exit;
  };
  struct Set {
    std::bitset<128> characters;
    bool others = false;  ///< every character that is not ASCII
  };

  [[noreturn]] void refuse(const char* why) const {
    fail<FormatError>("{}: the layer pattern {} {}", source_, quote_name(pattern_), why);
  }

  bool more() const { return at_ < pattern_.size(); }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  char next() {
    if (!more()) refuse("ends too early");
    return pattern_[at_++];
  }

  int add(const State& state) {
    states_.push_back(state);
    return static_cast<int>(states_.size()) - 1;
  }
  int add_split(int next = -1, int also = -1) {
    return add({.kind = Kind::kSplit, .characters = {}, .next = next, .also = also});
  }
  Part part_of(State state) {
    const int exit = add_split();
    state.next = exit;
    return {add(state), exit};
  }
  Part part_of(const Set& set) {
    return part_of({.kind = Kind::kCharacter, .characters = set.characters, .others = set.others});
  }

  Part alternatives(int depth) {
    if (depth > kDeepest) refuse("nests too deeply");
    Part out = sequence(depth);
    while (take("|")) {
      const Part other = sequence(depth);
      states_[other.exit].next = out.exit;
      // Both now end in the first one's exit.
      out = {add_split(out.entry, other.entry), out.exit};
    }
    return out;
  }

  Part sequence(int depth) {
    const int empty = add_split();
    Part out{empty, empty};
    while (more() && pattern_[at_] != '|' && pattern_[at_] != ')') {
      const Part part = repeated(depth);
      states_[out.exit].next = part.entry;
      out.exit = part.exit;
    }
    return out;
  }

  Part repeated(int depth) {
    const bool asserts = pattern_[at_] == '^' || pattern_[at_] == '$';
    const Part part = atom(depth);
    const bool star = take("*"), plus = !star && take("+"), maybe = !star && !plus && take("?");
    if (!star && !plus && !maybe) return part;
    if (asserts) refuse("repeats '^' or '$'");
    take("?");  // lazy: another order of trying, the same names
    if (more() && (pattern_[at_] == '*' || pattern_[at_] == '+' || pattern_[at_] == '?'))
      refuse("repeats a repetition");
    const int exit = add_split();
    const int choice = add_split(part.entry, exit);
    states_[part.exit].next = maybe ? exit : choice;
    return {plus ? part.entry : choice, exit};
  }

  Part atom(int depth) {
    const char c = next();
    switch (c) {
      case '(': {
        if (!take("?:") && more() && pattern_[at_] == '?') refuse("uses (?…), of which only (?:…) is understood");
        const Part inner = alternatives(depth + 1);
        if (!take(")")) refuse("has a '(' too many");
        return inner;
      }
      case '[':
        return part_of(set());
      case '.':
        return part_of(set_of([](char x) { return x != '\n'; }, true));
      case '^':
        return part_of({.kind = Kind::kBegin, .characters = {}});
      case '$':
        return part_of({.kind = Kind::kEnd, .characters = {}});
      case '\\':
        return part_of(escaped());
      case '*':
      case '+':
      case '?':
        refuse("repeats nothing");
      case '{':
        refuse("uses {…}, which is not understood");
      default:
        return part_of(single(c));
    }
  }

  template <class Predicate>
  static Set set_of(Predicate contains, bool others) {
    Set set{.characters = {}, .others = others};
    for (int c = 0; c < 128; ++c) set.characters[c] = contains(static_cast<char>(c));
    return set;
  }
  static Set single(char c) {
    return set_of([c](char x) { return x == c; }, false);
  }

  Set escaped() {
    const char c = next();
    switch (c) {
      case 'd':
        return set_of(is_digit, false);
      case 'w':
        return set_of(is_word, false);
      case 's':
        return set_of(is_space, false);
      case 'D':
        return set_of([](char x) { return !is_digit(x); }, true);
      case 'W':
        return set_of([](char x) { return !is_word(x); }, true);
      case 'S':
        return set_of([](char x) { return !is_space(x); }, true);
      default:
        break;
    }
    if (is_word(c) && c != '_') refuse("has a backslash before a letter or digit that is not understood");
    return single(c);
  }

  // After "[". A "]" that comes first and a "-" that comes first or last stand for themselves.
  Set set() {
    const bool negated = take("^");
    Set out;
    for (bool first = true; first || !take("]"); first = false) {
      const char begin = next();
      const Set item = begin == '\\' ? escaped() : single(begin);
      if (pattern_.substr(at_).size() >= 2 && pattern_[at_] == '-' && pattern_[at_ + 1] != ']') {
        ++at_;
        const char end = next();
        if (begin == '\\' || end == '\\' || begin > end) refuse("has a range in […] that is not understood");
        out.characters |= set_of([=](char x) { return is_between(x, begin, end); }, false).characters;
      } else {
        out.characters |= item.characters;
        out.others |= item.others;
      }
    }
    if (negated) out = {~out.characters, !out.others};
    return out;
  }

  std::string_view pattern_;
  const std::string& source_;
  std::vector<State>& states_;
  size_t at_ = 0;
};

NamePattern::NamePattern(std::string_view pattern, const std::string& source) {
  start_ = Compiler(pattern, source, states_).compile();
}

bool NamePattern::matches(std::string_view name) const {
  std::vector<int> current, pending;
  std::vector<char> seen(states_.size());
  std::vector<int> reached{start_};
  for (size_t at = 0;; ++at) {
    // All states that `reached` leads to without taking a character.
    std::fill(seen.begin(), seen.end(), char{0});
    current.clear();
    pending.swap(reached);
    while (!pending.empty()) {
      const int index = pending.back();
      pending.pop_back();
      if (index < 0 || seen[index] != 0) continue;
      seen[index] = 1;
      const State& state = states_[index];
      switch (state.kind) {
        case Kind::kMatch:
          return true;
        case Kind::kCharacter:
          current.push_back(index);
          break;
        case Kind::kSplit:
          pending.push_back(state.next);
          pending.push_back(state.also);
          break;
        case Kind::kBegin:
          if (at == 0) pending.push_back(state.next);
          break;
        case Kind::kEnd:
          if (at == name.size()) pending.push_back(state.next);
          break;
      }
    }
    if (at == name.size() || current.empty()) return false;
    const auto c = static_cast<unsigned char>(name[at]);
    for (const int index : current) {
      const State& state = states_[index];
      if (c < 128 ? state.characters[c] : state.others) reached.push_back(state.next);
    }
  }
}

}  // namespace octet

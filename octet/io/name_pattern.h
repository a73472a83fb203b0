// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

inline constexpr size_t kMostNamePatterns = 1000;

/// A regular expression over layer names, as quantization configs write them after "re:", with the meaning of Python's
/// re.match: anchored at the start of the name, not at its end. Understood: characters, . * + ? (also lazy) ( ) (?: ) |
/// ^ $ [a-z] [^a-z] \d \w \s \D \W \S, and a backslash before punctuation. All else ({2,3}, look-ahead, back
/// references) is refused.
///
/// Hostile patterns cost no more than others: all states are followed at once (K. Thompson, Regular Expression Search
/// Algorithm, 1968), so a match takes |pattern| · |name| steps at most.
///
/// A config may hold kMostNamePatterns: each may take 1,000 characters, each of those some states of 32 bytes, so 100
/// MB at most.
class NamePattern {
 public:
  /// Throws FormatError, naming `source`, for a pattern that is malformed, too long, or uses what is not understood.
  NamePattern(std::string_view pattern, const std::string& source);

  bool matches(std::string_view name) const;

 private:
  class Compiler;

  enum class Kind : uint8_t { kCharacter, kSplit, kBegin, kEnd, kMatch };
  /// A state: what it consumes or asserts, and the states that follow (two for a split).
  struct State {
    Kind kind;
    std::bitset<128> characters;  ///< ASCII; a byte above it is matched by "any" and negated sets
    bool others = false;
    int next = -1;
    int also = -1;
  };

  std::vector<State> states_;
  int start_ = 0;
};

}  // namespace octet

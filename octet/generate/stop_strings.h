// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// Ends a text before the first of some strings. The text comes in pieces, as StreamDecoder gives it; what could be the
/// beginning of a stop string is held back until more is known, so that nothing of one is ever given out. What comes
/// out does not depend on where the pieces are cut; of whole characters come whole characters.
///
/// The first string is the one that is complete first, of those that end at the same byte the longest. A byte of text
/// costs the time of as many comparisons as there are strings, on the whole (Knuth, Morris and Pratt, 1977).
class StopStrings {
 public:
  /// Throws UsageError for a string that is empty or not UTF-8: it would end every text or none.
  explicit StopStrings(std::vector<std::string> strings = {});

  /// What `piece` makes certain to stand before the first stop string. Nothing once one was found.
  std::string push(std::string_view piece);
  /// The text has ended: what was held back. Where no string was found, the next piece begins a new text.
  std::string finish();

  bool found() const noexcept { return found_ != kNone; }
  /// The stop string that was found. Only where one was.
  const std::string& which() const { return patterns_[found_].text; }

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t>
        borders;         ///< of the first i bytes, the longest beginning that is also their end; not all of them
    size_t matched = 0;  ///< how many of its first bytes the text ends with

    /// Whether `byte` completes it.
    bool advance(char byte);
  };
  static constexpr size_t kNone = static_cast<size_t>(-1);

  std::vector<Pattern> patterns_;
  std::string held_;
  size_t found_ = kNone;
};

}  // namespace octet

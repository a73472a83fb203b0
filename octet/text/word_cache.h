// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "octet/text/token_model.h"

namespace octet {

/// Remembers the tokens of words, since most of a text is words seen before. Safe to use from many threads; bounded:
/// a word takes the place of the one that was there.
class WordCache {
 public:
  WordCache() : slots_(kSlots) {}

  /// Appends the tokens of `word` to `tokens`, or returns false where it does not remember them.
  bool find(std::string_view word, std::vector<ModelToken>& tokens);
  /// Longer words than kLongestWord are not worth remembering, and are not.
  void remember(std::string_view word, const ModelToken* begin, const ModelToken* end);

 private:
  // English text has some 10,000 different words in a megabyte; at some 150 bytes each these are 2.5 MB.
  static constexpr size_t kSlots = 16384, kLocks = 64, kLongestWord = 64;

  struct Slot {
    std::string word;  ///< empty: nothing is here
    std::vector<ModelToken> tokens;
  };

  std::vector<Slot> slots_;
  std::array<std::mutex, kLocks> locks_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/word_cache.h"

#include <functional>

namespace octet {

bool WordCache::find(std::string_view word, std::vector<ModelToken>& tokens) {
  if (word.size() > kLongestWord) return false;
  const size_t slot = std::hash<std::string_view>{}(word) % kSlots;
  const std::lock_guard lock(locks_[slot % kLocks]);
  if (slots_[slot].word != word) return false;
  tokens.insert(tokens.end(), slots_[slot].tokens.begin(), slots_[slot].tokens.end());
  return true;
}

void WordCache::remember(std::string_view word, const ModelToken* begin, const ModelToken* end) {
  if (word.size() > kLongestWord) return;
  const size_t slot = std::hash<std::string_view>{}(word) % kSlots;
  const std::lock_guard lock(locks_[slot % kLocks]);
  slots_[slot].word = word;
  slots_[slot].tokens.assign(begin, end);
}

}  // namespace octet

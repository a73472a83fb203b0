// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/base/error.h"
#include "octet/generate/draft.h"

namespace octet {

PromptLookup::PromptLookup(int64_t longest, int64_t shortest)
    : longest_(static_cast<size_t>(longest)), shortest_(static_cast<size_t>(shortest)) {
  if (shortest < 1 || longest < shortest) {
    fail<UsageError>("prompt look-up of {} to {} tokens; at least 1, and the shortest first", shortest, longest);
  }
}

std::vector<std::vector<int32_t>> PromptLookup::guess(std::span<const DraftText> texts) {
  std::vector<std::vector<int32_t>> guesses(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::span<const int32_t> ids = texts[i].ids;
    for (size_t length = std::min(longest_, ids.size()); length >= shortest_; --length) {
      const auto last = ids.last(length);
      // Not the end itself, which nothing follows yet.
      const auto before = ids.first(ids.size() - 1);
      const auto found = std::find_end(before.begin(), before.end(), last.begin(), last.end());
      if (found == before.end()) continue;
      const auto followed = ids.subspan(static_cast<size_t>(found - before.begin()) + length);
      const auto kept = followed.first(std::min(followed.size(), static_cast<size_t>(texts[i].most)));
      guesses[i].assign(kept.begin(), kept.end());
      break;
    }
  }
  return guesses;
}

}  // namespace octet

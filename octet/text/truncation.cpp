// SPDX-License-Identifier: Apache-2.0
#include "octet/text/truncation.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"

namespace octet {

KeptLengths kept_lengths(int64_t first, std::optional<int64_t> second, int64_t budget, Truncation::Strategy strategy) {
  const int64_t total = first + second.value_or(0);
  if (total <= budget) return {first, second.value_or(0)};
  if (budget == 0) return {0, 0};
  if (strategy == Truncation::Strategy::kLongestFirst) {
    if (!second) return {budget, 0};
    // The shorter text keeps what it has as long as that is at most half; an odd token goes to the longer one (to the
    // second of two that are equal).
    int64_t shorter = std::min(first, *second);
    int64_t longer = budget - shorter;
    if (longer < shorter) {
      shorter = budget / 2;
      longer = budget - shorter;
    }
    return first > *second ? KeptLengths{longer, shorter} : KeptLengths{shorter, longer};
  }
  const bool cuts_first = strategy == Truncation::Strategy::kOnlyFirst;
  if (!cuts_first && !second) {
    fail<UsageError>("truncation cuts only the second text of a pair, but there is only one text; use longest_first");
  }
  const int64_t kept = (cuts_first ? first : *second) - (total - budget);
  if (kept <= 0) {
    fail<UsageError>(
        "truncation cuts only the {} text, which has {} tokens, but {} of the pair are too many; use "
        "longest_first or a larger maximum length",
        cuts_first ? "first" : "second", cuts_first ? first : *second, total - budget);
  }
  return cuts_first ? KeptLengths{kept, second.value_or(0)} : KeptLengths{first, kept};
}

TokenRange first_window(int64_t length, int64_t kept, Truncation::Direction direction) {
  if (length <= kept) return {0, length};
  return direction == Truncation::Direction::kRight ? TokenRange{0, kept} : TokenRange{length - kept, length};
}

std::vector<TokenRange> windows(int64_t length, int64_t kept, int64_t stride, Truncation::Direction direction) {
  std::vector<TokenRange> ranges{first_window(length, kept, direction)};
  if (length <= kept) return ranges;
  if (stride < 0 || stride >= kept) {
    fail<UsageError>(
        "a window of {} tokens cannot repeat {} of the window before it; use a smaller stride or a larger "
        "maximum length",
        kept, stride);
  }
  const int64_t step = kept - stride;
  if (direction == Truncation::Direction::kRight) {
    while (ranges.back().end < length) {
      const int64_t begin = ranges.back().begin + step;
      ranges.push_back({begin, std::min(begin + kept, length)});
    }
  } else {
    while (ranges.back().begin > 0) {
      const int64_t end = ranges.back().end - step;
      ranges.push_back({std::max<int64_t>(end - kept, 0), end});
    }
  }
  return ranges;
}

}  // namespace octet

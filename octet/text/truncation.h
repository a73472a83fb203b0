// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace octet {

/// How a text that is too long is cut. The names are those of `tokenizer.json`.
struct Truncation {
  enum class Strategy {
    kLongestFirst,  ///< of a pair, the longer one, until they are equal; then both
    kOnlyFirst,
    kOnlySecond,
  };
  enum class Direction {
    kRight,  ///< keeps the beginning
    kLeft,   ///< keeps the end
  };

  int64_t max_length = 0;  ///< tokens of the result, special ones included
  Strategy strategy = Strategy::kLongestFirst;
  Direction direction = Direction::kRight;
  int64_t stride = 0;  ///< tokens that one window of encode_windows() repeats of the window before it
};

/// Tokens [begin, end) of a text.
struct TokenRange {
  int64_t begin, end;
};

/// How many tokens of each text are kept.
struct KeptLengths {
  int64_t first, second;
};

/// The lengths of a text, or a pair of them, cut to `budget` tokens together (max_length less the special tokens).
/// Throws UsageError where the strategy cannot reach it: it names a text that is absent, or too short to be cut so far.
KeptLengths kept_lengths(int64_t first, std::optional<int64_t> second, int64_t budget, Truncation::Strategy strategy);

/// The windows of `kept` tokens that cover `length` tokens, each repeating `stride` of the one before; the first is
/// what truncation keeps. One window where nothing is cut. Throws UsageError unless stride < kept.
std::vector<TokenRange> windows(int64_t length, int64_t kept, int64_t stride, Truncation::Direction direction);

/// The first of windows(), whatever the stride.
TokenRange first_window(int64_t length, int64_t kept, Truncation::Direction direction);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/data/documents.h"
#include "octet/models/token_batch.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// How a text is cut into windows that a decoder reads one by one.
struct WindowOptions {
  Documents documents = Documents::kWhole;
  std::optional<int64_t> window = {};    ///< its tokens; none: 1,024, or the model's longest context if that is less
  std::optional<int64_t> stride = {};    ///< from a window to the next; none: the window
  std::optional<int64_t> truncate = {};  ///< use the first tokens of each document only
  std::optional<int64_t> limit = {};     ///< use the first documents only; of one that is whole, the first windows
};

/// One document's tokens, and how much of its text ends with each of them.
struct TokenizedDocument {
  std::vector<int32_t> ids;
  std::vector<int64_t> bytes, words;  ///< up to and including token i; a word counts where its first byte does
};

/// A text as windows, in the manner of the sliding window of transformers' documentation: each window begins `stride`
/// tokens after the one before and scores those of its tokens that none before it scored, given all that stand before
/// them in the window. A window's first token is never scored, as nothing is before it.
struct TextWindows {
  struct Window {
    size_t document = 0;
    int64_t begin = 0, end = 0;  ///< tokens of the document
    int64_t first_scored = 0;    ///< begin < first_scored < end
  };

  std::vector<TokenizedDocument> documents;
  std::vector<Window> windows;
  int64_t window = 0, stride = 0;  ///< as they were chosen
  int64_t truncated = 0;           ///< documents that `truncate` cut

  /// Windows [first, last) as a batch, a sequence each, at positions from 0.
  TokenBatch batch(size_t first, size_t last) const;
  /// How many windows from `first` on make a batch of about `tokens` tokens; one at least.
  size_t batch_end(size_t first, int64_t tokens) const;
};

/// `longest_context` is the model's. Throws UsageError where window or stride do not fit it or each other, Error where
/// nothing is left to score.
TextWindows make_windows(std::string_view text, const Tokenizer& tokenizer, const WindowOptions& options,
                         int64_t longest_context);

/// The windows of a text file. Throws Error where it cannot be read, FormatError where it holds a zero byte.
TextWindows read_windows(const std::filesystem::path& file, const Tokenizer& tokenizer, const WindowOptions& options,
                         int64_t longest_context);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>

#include "octet/data/documents.h"
#include "octet/text/tokenizer.h"

namespace octet {

struct PrepareOptions {
  Documents documents = Documents::kWhole;
  int threads = 0;                           ///< 0: all
  int64_t piece_bytes = int64_t{1} << 20;    ///< of text that a thread tokenizes at once
  int64_t overlap_bytes = int64_t{1} << 14;  ///< that a piece of a long document shares with the one before
  std::function<void(int64_t bytes, int64_t of)> advance = [](int64_t, int64_t) {};
};

struct PrepareReport {
  int64_t text_bytes = 0;
  int64_t tokens = 0;  ///< those that end documents included
  int64_t documents = 0;
  int64_t inner_ends = 0;  ///< tokens that end a text, found inside documents, which end there
  int64_t bytes_per_token = 0;
};

/// Tokenizes text files, of any size, into one file of tokens (see TokenFileWriter), in memory for a few pieces.
///
/// A document longer than a piece is tokenized in pieces that overlap. Two of them are joined in the middle of the
/// longest row of tokens that both have at the same places: what a tokenizer makes of a text depends on what is near,
/// so there they agree on how it goes on. Where they share fewer than 32 tokens in a row, they are tokenized as one.
///
/// Throws as TokenFileWriter does; Error where a text cannot be read; FormatError for one that holds a zero byte.
PrepareReport prepare_tokens(std::span<const std::filesystem::path> texts, const Tokenizer& tokenizer,
                             const std::filesystem::path& out, const PrepareOptions& options = {});

}  // namespace octet

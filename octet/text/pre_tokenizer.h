// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "octet/text/aligned_text.h"

namespace octet {

/// A way to split a text into words.
enum class PreTokenizerStep {
  kBert,             ///< at whitespace, which goes; then every punctuation character is a word
  kWhitespace,       ///< runs of \w, and runs of what is neither \w nor whitespace: \w+|[^\w\s]+
  kWhitespaceSplit,  ///< at whitespace, which goes
  kPunctuation,      ///< every punctuation character is a word
};

/// Splits a normalized text into the words that the model sees, each step splitting the words of the one before. No
/// steps: the text is one word.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  /// The words of `text`, none empty, in order.
  std::vector<CharRange> split(std::span<const AlignedChar> text) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace octet

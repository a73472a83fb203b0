// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "octet/text/aligned_text.h"
#include "octet/text/regex.h"

namespace octet {

/// What becomes of a match where a text is split at matches. "a--b" split at "-":
enum class SplitBehavior {
  kRemoved,             ///< a, b
  kIsolated,            ///< a, -, -, b
  kMergedWithPrevious,  ///< a-, -, b
  kMergedWithNext,      ///< a, -, -b
  kContiguous,          ///< a, --, b
};

/// Splits by what kind of character each one is.
enum class CharacterSplit {
  kBert,             ///< at whitespace, which goes; then every punctuation character is a word
  kWhitespace,       ///< runs of \w, and runs of what is neither \w nor whitespace: \w+|[^\w\s]+
  kWhitespaceSplit,  ///< at whitespace, which goes
};

struct PunctuationSplit {
  SplitBehavior behavior = SplitBehavior::kIsolated;
};

/// Sets numbers apart, or each of their digits.
struct DigitSplit {
  bool individual = false;
};

/// Splits at the matches of a pattern; inverted, at what lies between them.
struct PatternSplit {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::kRemoved;
  bool invert = false;
};

/// GPT-2's words, their bytes written as characters (byte_level.h).
struct ByteLevelSplit {
  bool add_prefix_space = false;  ///< to every word so far that does not begin with one
  bool use_regex = true;          ///< false: split nothing
};

/// SentencePiece's: spaces become `replacement`, and one is put before the text.
struct MetaspaceSplit {
  enum class Prepend { kAlways, kFirst, kNever };

  char32_t replacement = U'▁';
  Prepend prepend = Prepend::kAlways;  ///< kFirst: only before the word at the beginning of the whole text
  bool split = true;                   ///< before every replacement
};

using PreTokenizerStep =
    std::variant<CharacterSplit, PunctuationSplit, DigitSplit, PatternSplit, ByteLevelSplit, MetaspaceSplit>;

/// A text and its words, which are stretches of it, none empty, in order.
struct PreTokenizedText {
  AlignedText text;
  std::vector<CharRange> words;
};

/// Splits a normalized text into the words that the model sees, each step splitting the words of the one before. No
/// steps: the text is one word.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  PreTokenizedText split(AlignedText text) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace octet

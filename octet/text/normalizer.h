// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "octet/text/aligned_text.h"
#include "octet/text/regex.h"
#include "octet/text/sentence_piece_normalizer.h"
#include "octet/text/unicode_normalization.h"

namespace octet {

/// The cleaning of the original BERT code, as the library's BertNormalizer does it, in this order.
struct BertNormalizer {
  bool clean_text = true;            ///< drops control characters, makes every kind of whitespace a space
  bool handle_chinese_chars = true;  ///< puts spaces around CJK ideographs
  bool strip_accents = true;         ///< decomposes and drops nonspacing marks
  bool lowercase = true;

  void apply(AlignedText& text) const;
};

struct LowercaseNormalizer {
  void apply(AlignedText& text) const;
};

/// Drops marks; it follows a decomposition, which it does not do itself.
struct StripAccentsNormalizer {
  void apply(AlignedText& text) const;
};

struct UnicodeNormalizer {
  NormalizationForm form;
  void apply(AlignedText& text) const { normalize(text, form); }
};

/// Drops whitespace at the ends.
struct StripNormalizer {
  bool left = true, right = true;
  void apply(AlignedText& text) const;
};

/// Replaces every occurrence of a text (not empty) or a pattern. All of `content` comes from the last replaced
/// character (where none is replaced, the one before), which is where the library aligns it.
struct ReplaceNormalizer {
  std::variant<std::u32string, Regex> pattern;
  std::u32string content;
  void apply(AlignedText& text) const;
};

/// Puts `content` before a text that is not empty. It comes from the first character.
struct PrependNormalizer {
  std::u32string content;
  void apply(AlignedText& text) const;
};

using NormalizerStep = std::variant<BertNormalizer, LowercaseNormalizer, StripAccentsNormalizer, UnicodeNormalizer,
                                    StripNormalizer, ReplaceNormalizer, PrependNormalizer, SentencePieceNormalizer>;

/// What is done to a text before it is split into words, step by step. No steps: nothing.
class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  void apply(AlignedText& text) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace octet

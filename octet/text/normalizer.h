// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "octet/text/aligned_text.h"
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

/// Replaces every occurrence of `pattern` (not empty). All of `content` comes from the last replaced character, which
/// is where the library aligns it.
struct ReplaceNormalizer {
  std::u32string pattern, content;
  void apply(AlignedText& text) const;
};

using NormalizerStep = std::variant<BertNormalizer, LowercaseNormalizer, StripAccentsNormalizer, UnicodeNormalizer,
                                    StripNormalizer, ReplaceNormalizer>;

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

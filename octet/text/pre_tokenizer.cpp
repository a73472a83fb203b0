// SPDX-License-Identifier: Apache-2.0
#include "octet/text/pre_tokenizer.h"

#include "octet/text/unicode.h"

namespace octet {
namespace {

/// What a step makes of a character: nothing, a word of its own, or a part of a word with its neighbours of the same
/// kind.
enum class Kind { kDropped, kAlone, kWord, kOther };

Kind kind_of(PreTokenizerStep step, char32_t c) {
  switch (step) {
    case PreTokenizerStep::kBert:
      if (unicode::is_whitespace(c)) return Kind::kDropped;
      return unicode::is_punctuation(c) ? Kind::kAlone : Kind::kWord;
    case PreTokenizerStep::kWhitespace:
      if (unicode::is_word(c)) return Kind::kWord;
      return unicode::is_whitespace(c) ? Kind::kDropped : Kind::kOther;
    case PreTokenizerStep::kWhitespaceSplit:
      return unicode::is_whitespace(c) ? Kind::kDropped : Kind::kWord;
    case PreTokenizerStep::kPunctuation:
      return unicode::is_punctuation(c) ? Kind::kAlone : Kind::kWord;
  }
  return Kind::kWord;
}

void split_word(std::span<const AlignedChar> text, CharRange word, PreTokenizerStep step,
                std::vector<CharRange>& words) {
  Kind previous = Kind::kDropped;
  for (size_t i = word.begin; i < word.end; ++i) {
    const Kind kind = kind_of(step, text[i].code);
    if (kind == Kind::kWord || kind == Kind::kOther) {
      if (kind == previous) {
        words.back().end = i + 1;
      } else {
        words.push_back({i, i + 1});
      }
    } else if (kind == Kind::kAlone) {
      words.push_back({i, i + 1});
    }
    previous = kind;
  }
}

}  // namespace

std::vector<CharRange> PreTokenizer::split(std::span<const AlignedChar> text) const {
  std::vector<CharRange> words;
  if (!text.empty()) words.push_back({0, text.size()});
  for (const PreTokenizerStep step : steps_) {
    std::vector<CharRange> finer;
    for (const CharRange& word : words) split_word(text, word, step, finer);
    words = std::move(finer);
  }
  return words;
}

}  // namespace octet

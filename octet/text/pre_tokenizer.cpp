// SPDX-License-Identifier: Apache-2.0
#include "octet/text/pre_tokenizer.h"

#include <algorithm>

#include "octet/text/byte_level.h"
#include "octet/text/unicode.h"

namespace octet {
namespace {

/// A match, or what lies between two.
struct Piece {
  CharRange range;
  bool match;
};

/// The pieces of a word at every character that `is_match` takes.
template <class IsMatch>
std::vector<Piece> pieces_at(std::span<const AlignedChar> text, CharRange word, const IsMatch& is_match) {
  std::vector<Piece> pieces;
  for (size_t i = word.begin; i < word.end; ++i) {
    const bool match = is_match(text[i].code);
    if (match || pieces.empty() || pieces.back().match) {
      pieces.push_back({{i, i + 1}, match});
    } else {
      pieces.back().range.end = i + 1;
    }
  }
  return pieces;
}

std::vector<Piece> pieces_at(std::span<const AlignedChar> text, CharRange word, const Regex& regex) {
  const auto chars = text.subspan(word.begin, word.end - word.begin);
  const std::string utf8 = to_utf8(chars);
  std::vector<Piece> pieces;
  // Matches come in order, so one walk turns their bytes into characters.
  size_t byte = 0, at = word.begin;
  const auto char_at = [&](size_t wanted) {
    if (utf8.size() == chars.size()) return word.begin + wanted;
    for (; byte < wanted; ++at) byte += unicode::utf8_size(text[at].code);
    return at;
  };
  size_t copied = word.begin;
  const auto push = [&](size_t end, bool match) {
    pieces.push_back({{copied, end}, match});
    copied = end;
  };
  for (const ByteRange& match : regex.find_all(utf8)) {
    const size_t begin = char_at(match.begin), end = char_at(match.end);
    if (copied < begin) push(begin, false);
    push(end, true);
  }
  if (copied < word.end) push(word.end, false);
  return pieces;
}

void add_words(std::vector<Piece> pieces, SplitBehavior behavior, std::vector<CharRange>& words) {
  const size_t first = words.size();
  const bool backwards = behavior == SplitBehavior::kMergedWithNext;
  if (backwards) std::reverse(pieces.begin(), pieces.end());
  bool previous_match = false;
  for (const Piece& piece : pieces) {
    bool joins = false;
    switch (behavior) {
      case SplitBehavior::kRemoved:
        if (piece.match) continue;
        break;
      case SplitBehavior::kIsolated:
        break;
      case SplitBehavior::kContiguous:
        joins = piece.match == previous_match;
        break;
      case SplitBehavior::kMergedWithPrevious:
      case SplitBehavior::kMergedWithNext:
        joins = piece.match && !previous_match;
        break;
    }
    previous_match = piece.match;
    if (!joins || words.size() == first) {
      words.push_back(piece.range);
    } else if (backwards) {
      words.back().begin = piece.range.begin;
    } else {
      words.back().end = piece.range.end;
    }
  }
  const auto begin = words.begin() + static_cast<std::ptrdiff_t>(first);
  if (backwards) std::reverse(begin, words.end());
  words.erase(std::remove_if(begin, words.end(), [](const CharRange& word) { return word.begin == word.end; }),
              words.end());
}

/// Splits every word of `text` with `split_word(word, words)`.
template <class SplitWord>
void split_words(PreTokenizedText& text, const SplitWord& split_word) {
  std::vector<CharRange> finer;
  finer.reserve(text.words.size());
  for (const CharRange& word : text.words) split_word(word, finer);
  text.words = std::move(finer);
}

/// What a step makes of a character: nothing, a word of its own, or a part of a word with its neighbours of the same
/// kind.
enum class Kind { kDropped, kAlone, kWord, kOther };

Kind kind_of(CharacterSplit step, char32_t c) {
  switch (step) {
    case CharacterSplit::kBert:
      if (unicode::is_whitespace(c)) return Kind::kDropped;
      return unicode::is_punctuation(c) ? Kind::kAlone : Kind::kWord;
    case CharacterSplit::kWhitespace:
      if (unicode::is_word(c)) return Kind::kWord;
      return unicode::is_whitespace(c) ? Kind::kDropped : Kind::kOther;
    case CharacterSplit::kWhitespaceSplit:
      return unicode::is_whitespace(c) ? Kind::kDropped : Kind::kWord;
  }
  return Kind::kWord;
}

void apply(CharacterSplit step, PreTokenizedText& text) {
  split_words(text, [&](CharRange word, std::vector<CharRange>& words) {
    Kind previous = Kind::kDropped;
    for (size_t i = word.begin; i < word.end; ++i) {
      const Kind kind = kind_of(step, text.text[i].code);
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
  });
}

void apply(const PunctuationSplit& step, PreTokenizedText& text) {
  split_words(text, [&](CharRange word, std::vector<CharRange>& words) {
    add_words(pieces_at(text.text, word, unicode::is_punctuation), step.behavior, words);
  });
}

void apply(const DigitSplit& step, PreTokenizedText& text) {
  const SplitBehavior behavior = step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  split_words(text, [&](CharRange word, std::vector<CharRange>& words) {
    add_words(pieces_at(text.text, word, unicode::is_numeric), behavior, words);
  });
}

void apply(const PatternSplit& step, PreTokenizedText& text) {
  split_words(text, [&](CharRange word, std::vector<CharRange>& words) {
    std::vector<Piece> pieces = pieces_at(text.text, word, step.pattern);
    if (step.invert) {
      for (Piece& piece : pieces) piece.match = !piece.match;
    }
    add_words(std::move(pieces), step.behavior, words);
  });
}

/// Puts `c` before every word for which `wanted(word)`. It comes from the word's first character.
template <class Wanted>
void prepend(PreTokenizedText& text, char32_t c, const Wanted& wanted) {
  if (std::none_of(text.words.begin(), text.words.end(), wanted)) return;
  AlignedText longer;
  longer.reserve(text.text.size() + text.words.size());
  for (CharRange& word : text.words) {
    const size_t begin = longer.size();
    if (wanted(word)) longer.push_back({c, text.text[word.begin].begin, text.text[word.begin].end});
    longer.insert(longer.end(), text.text.begin() + static_cast<std::ptrdiff_t>(word.begin),
                  text.text.begin() + static_cast<std::ptrdiff_t>(word.end));
    word = {begin, longer.size()};
  }
  text.text = std::move(longer);
}

/// Writes every byte of the words as a character.
void to_byte_characters(PreTokenizedText& text) {
  AlignedText bytes;
  bytes.reserve(text.text.size());
  std::string utf8;
  for (CharRange& word : text.words) {
    const size_t begin = bytes.size();
    for (size_t i = word.begin; i < word.end; ++i) {
      const AlignedChar& c = text.text[i];
      if (c.code < 0x80) {
        bytes.push_back({byte_level::character_of(static_cast<unsigned char>(c.code)), c.begin, c.end});
        continue;
      }
      utf8.clear();
      unicode::append_utf8(utf8, c.code);
      for (const char byte : utf8) {
        bytes.push_back({byte_level::character_of(static_cast<unsigned char>(byte)), c.begin, c.end});
      }
    }
    word = {begin, bytes.size()};
  }
  text.text = std::move(bytes);
}

void apply(const ByteLevelSplit& step, PreTokenizedText& text) {
  if (step.add_prefix_space) {
    prepend(text, U' ', [&](const CharRange& word) { return text.text[word.begin].code != U' '; });
  }
  if (step.use_regex) {
    split_words(text, [&](CharRange word, std::vector<CharRange>& words) {
      add_words(pieces_at(text.text, word, byte_level::words()), SplitBehavior::kIsolated, words);
    });
  }
  to_byte_characters(text);
}

void apply(const MetaspaceSplit& step, PreTokenizedText& text) {
  for (AlignedChar& c : text.text) {
    if (c.code == U' ') c.code = step.replacement;
  }
  if (step.prepend != MetaspaceSplit::Prepend::kNever) {
    prepend(text, step.replacement, [&](const CharRange& word) {
      const AlignedChar& first = text.text[word.begin];
      return first.code != step.replacement && (step.prepend == MetaspaceSplit::Prepend::kAlways || first.begin == 0);
    });
  }
  if (!step.split) return;
  split_words(text, [&](CharRange word, std::vector<CharRange>& words) {
    const auto is_replacement = [&](char32_t c) { return c == step.replacement; };
    add_words(pieces_at(text.text, word, is_replacement), SplitBehavior::kMergedWithNext, words);
  });
}

}  // namespace

PreTokenizedText PreTokenizer::split(AlignedText text) const {
  PreTokenizedText result{std::move(text), {}};
  if (!result.text.empty()) result.words.push_back({0, result.text.size()});
  for (const PreTokenizerStep& step : steps_) {
    std::visit([&](const auto& concrete) { apply(concrete, result); }, step);
  }
  return result;
}

}  // namespace octet

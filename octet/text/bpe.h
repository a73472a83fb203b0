// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/text/token_model.h"
#include "octet/text/word_cache.h"

namespace octet {

/// Two tokens that become one.
struct BpeMerge {
  int32_t left, right, result;
};

/// Merges by their two tokens: a hash table with open addressing, as each word looks up many pairs that are not there.
class MergeTable {
 public:
  struct Entry {
    uint64_t pair = kNone;
    uint32_t rank = 0;
    int32_t result = 0;
  };

  /// A merge's place in `merges` is its rank. Of two with the same pair the last counts, as in the library.
  explicit MergeTable(const std::vector<BpeMerge>& merges);
  /// Null where the two do not merge.
  const Entry* find(int32_t left, int32_t right) const;

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};  // ids are below 2^24

  size_t place(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> shift_; }

  std::vector<Entry> entries_;
  int shift_ = 0;
};

struct BpeOptions {
  std::optional<int32_t> unknown;  ///< none: characters that are not in the vocabulary vanish
  bool fuse_unknown = false;       ///< a run of unknown characters is one token
  bool byte_fallback = false;  ///< an unknown character becomes the tokens <0x00>…<0xFF> of its bytes, where all exist
  bool ignore_merges = false;     ///< a word that is in the vocabulary is that token, whatever its merges give
  std::string continuing_prefix;  ///< stands before every character of a word but the first
  std::string end_suffix;         ///< stands behind the last one
};

/// Byte-pair encoding (Sennrich et al., 2016): of all pairs of neighbours in a word the one with the lowest rank, and
/// of those the leftmost, is merged, and so on. O(n log n).
class Bpe : public TokenModel {
 public:
  /// The ids of merges and options are in the vocabulary.
  Bpe(Vocabulary vocabulary, const std::vector<BpeMerge>& merges, BpeOptions options);

  void tokenize(std::string_view word, std::vector<ModelToken>& tokens) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  struct Symbol;

  void tokenize_part(std::string_view part, std::vector<ModelToken>& tokens) const;
  std::vector<Symbol> symbols_of(std::string_view part) const;
  void merge(std::vector<Symbol>& symbols) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::optional<std::array<int32_t, 256>> byte_tokens_;  ///< -1: there is none
  bool spaces_begin_parts_ = false;  ///< no token goes on behind a ▁ that follows another character
  mutable WordCache cache_;
};

/// The merge of `left` and `right`, where all three tokens are in the vocabulary; else none, and `missing` is the text
/// of one that is not. `prefix` bytes of `right` (BpeOptions::continuing_prefix) go.
std::optional<BpeMerge> find_merge(const Vocabulary& vocabulary, std::string_view left, std::string_view right,
                                   size_t prefix, std::string& missing);

/// The tokens <0x00>…<0xFF>, -1 for those that are not in the vocabulary.
std::array<int32_t, 256> find_byte_tokens(const Vocabulary& vocabulary);

/// Cuts `word` before every ▁ that follows another character and calls `take(part, its first byte)`.
template <class Take>
void for_each_spaced_part(std::string_view word, const Take& take) {
  constexpr std::string_view kSpace = "▁";
  for (size_t begin = 0; begin < word.size();) {
    size_t at = begin;
    while (word.substr(at).starts_with(kSpace)) at += kSpace.size();
    const size_t end = std::min(word.find(kSpace, at), word.size());
    take(word.substr(begin, end - begin), begin);
    begin = end;
  }
}

/// Appends the tokens of `word`, remembering those of its parts: of those that begin with ▁ where `spaces_begin_parts`,
/// else of the whole. tokenize_part(part, tokens) appends a part's, counting bytes from its beginning.
template <class TokenizePart>
void tokenize_by_parts(std::string_view word, bool spaces_begin_parts, WordCache& cache,
                       std::vector<ModelToken>& tokens, const TokenizePart& tokenize_part) {
  const auto tokenize_at = [&](std::string_view part, size_t begin) {
    const size_t first = tokens.size();
    if (!cache.find(part, tokens)) {
      tokenize_part(part, tokens);
      cache.remember(part, tokens.data() + first, tokens.data() + tokens.size());
    }
    if (begin == 0) return;
    for (size_t i = first; i < tokens.size(); ++i) {
      tokens[i].begin += static_cast<uint32_t>(begin);
      tokens[i].end += static_cast<uint32_t>(begin);
    }
  };
  if (spaces_begin_parts) {
    for_each_spaced_part(word, tokenize_at);
  } else {
    tokenize_at(word, 0);
  }
}

/// Whether a ▁ stands in `token` behind another character.
bool has_inner_space(std::string_view token);

}  // namespace octet

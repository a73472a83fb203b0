// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "octet/text/token_model.h"

namespace octet {

/// WordPiece (Wu et al., 2016, as BERT uses it): the longest token that begins the word, then the longest token with
/// the prefix ("##") that continues it, and so on. A word that cannot be covered, or is too long, is one unknown token.
class WordPiece : public TokenModel {
 public:
  /// A longer limit than this would make one hostile word take seconds; BERT's is 100.
  static constexpr int64_t kMaxCharsLimit = 1000;

  /// `unknown_id` is in the vocabulary; 0 <= max_chars_per_word <= kMaxCharsLimit.
  WordPiece(Vocabulary vocabulary, int32_t unknown_id, std::string_view continuing_prefix, int64_t max_chars_per_word);
  WordPiece(const WordPiece&) = delete;
  WordPiece& operator=(const WordPiece&) = delete;

  void tokenize(std::string_view word, std::vector<ModelToken>& tokens) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  /// Tokens that may stand at one place of a word, by their text there; the keys are views into vocabulary_.
  struct Pieces {
    std::unordered_map<std::string_view, int32_t> ids;
    size_t longest = 0;  ///< bytes
  };

  Vocabulary vocabulary_;
  Pieces first_, continuing_;
  int32_t unknown_id_;
  int64_t max_chars_per_word_;
};

}  // namespace octet

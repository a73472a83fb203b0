// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "octet/text/vocabulary.h"

namespace octet {

/// A token that a model found in a word: the word's bytes [begin, end).
struct ModelToken {
  int32_t id;
  uint32_t begin, end;
};

/// The part of a tokenizer that was learned: it cuts a word into tokens of a vocabulary.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  /// Appends the tokens of `word` (UTF-8, not empty) to `tokens`; they cover it in order.
  virtual void tokenize(std::string_view word, std::vector<ModelToken>& tokens) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
};

}  // namespace octet

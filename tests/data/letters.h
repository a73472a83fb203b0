// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "octet/text/tokenizer.h"

namespace octet {

/// Every letter is a token of its own: "abc" is a ##b ##c. [CLS] and [SEP] frame a text.
inline Tokenizer letters() {
  std::string vocabulary = "[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\n";
  for (char c = 'a'; c <= 'z'; ++c) vocabulary += std::string(1, c) + "\n##" + std::string(1, c) + "\n";
  return Tokenizer::from_vocab_txt(vocabulary, "vocab.txt", "", "tokenizer_config.json");
}

}  // namespace octet

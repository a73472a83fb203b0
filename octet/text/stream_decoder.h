// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "octet/text/tokenizer.h"

namespace octet {

/// Decodes ids one after the other, as a model generates them. What push() and finish() return is whole characters (it
/// may be nothing, where more ids must be known first), and together it is what Tokenizer::decode gives for all ids.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, SpecialTokens special_tokens = SpecialTokens::kWithout)
      : tokenizer_(&tokenizer), special_tokens_(special_tokens), stream_(tokenizer.decoder()) {}

  /// Throws UsageError for an id that is not in the vocabulary.
  std::string push(int32_t id);
  /// The rest. Then the decoder is at its end.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  SpecialTokens special_tokens_;
  DecoderStream stream_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/stream_decoder.h"

#include "octet/base/error.h"

namespace octet {

std::string StreamDecoder::push(int32_t id) {
  const auto token = tokenizer_->id_to_token(id);
  if (!token) fail<UsageError>("the id {} is not in the vocabulary, whose largest is {}", id, tokenizer_->max_id());
  std::string text;
  if (special_tokens_ == SpecialTokens::kWithout && tokenizer_->is_special(id)) return text;
  stream_.push(*token, text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  stream_.finish(text);
  return text;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/continued_text.h"

#include <utility>

namespace octet::cli {

ContinuedText::ContinuedText(const Tokenizer& tokenizer, std::span<const int32_t> prompt, StopStrings stops,
                             int64_t min_tokens)
    : tokenizer_(&tokenizer), decoder_(tokenizer), stops_(std::move(stops)), min_tokens_(min_tokens) {
  // A space before a word belongs to the word's token, and only at the beginning of a text is it left out.
  for (const int32_t id : prompt) decoder_.push(id);
}

void ContinuedText::push(int32_t id) {
  ++tokens_;
  // Vocabularies of models are often padded to round sizes, with ids that no tokenizer has and that mean no text.
  if (tokenizer_->id_to_token(id)) add(decoder_.push(id));
}

void ContinuedText::finish() {
  add(decoder_.finish());
  text_ += stops_.finish();
  finished_ = true;
}

void ContinuedText::add(const std::string& piece) { text_ += tokens_ < min_tokens_ ? piece : stops_.push(piece); }

}  // namespace octet::cli

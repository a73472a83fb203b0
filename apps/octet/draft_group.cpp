// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/draft_group.h"

#include <algorithm>

#include "octet/base/error.h"

namespace octet::cli {
namespace {

// Guesses are ids: the same id must mean the same text.
void check_same_tokens(const Tokenizer& tokenizer, const Tokenizer& other, const std::string& model) {
  for (int32_t id = 0; id <= std::max(tokenizer.max_id(), other.max_id()); ++id) {
    if (tokenizer.id_to_token(id) == other.id_to_token(id)) continue;
    fail<UsageError>(
        "--draft {}: its tokenizer is another ({} tokens, of which the one with id {} differs; this model has {}). A "
        "draft must share the model's tokens; --prompt-lookup needs no second model.",
        model, other.vocab_size(), id, tokenizer.vocab_size());
  }
}

}  // namespace

void DraftGroup::add_to(Command command) {
  command
      .add_option("--draft", model_,
                  "A smaller model with the same tokens that guesses at the next ones, for this one to check; changes "
                  "no text")
      .type_name("MODEL");
  command.add_option("--draft-recipe", recipe_, "Quantize the draft model while loading").type_name("NAME|FILE");
  command
      .add_option("--prompt-lookup", prompt_lookup_,
                  "Guess that what followed the last N tokens (or fewer) before follows again; changes no text")
      .in_range(1, 64)
      .type_name("N");
  command.add_option("--draft-tokens", tokens_, "Tokens to guess at once at most")
      .in_range(1, 256)
      .capture_default_str()
      .type_name("N");
}

void DraftGroup::check() const {
  if (model_ && prompt_lookup_) fail<UsageError>("--draft and --prompt-lookup: guesses come from one of them");
  if (recipe_ && !model_) fail<UsageError>("--draft-recipe quantizes a draft model: add --draft MODEL");
}

void DraftGroup::open(const Tokenizer& tokenizer, int threads) {
  check();
  if (prompt_lookup_) draft_ = std::make_unique<PromptLookup>(*prompt_lookup_);
  if (!model_) return;
  check_same_tokens(tokenizer, Tokenizer::load(*model_), *model_);
  session_ = std::make_unique<Session>(open_session(*model_, recipe_of(recipe_, {}), threads));
  draft_ = std::make_unique<DraftModel>(*session_);
}

}  // namespace octet::cli

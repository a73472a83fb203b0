// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/octet/command_line.h"
#include "apps/octet/options.h"
#include "octet/generate/draft.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {

/// The options of speculative decoding: --draft, --draft-recipe, --prompt-lookup, --draft-tokens.
class DraftGroup {
 public:
  void add_to(Command command);

  /// Whether one of them asks for guesses.
  bool given() const noexcept { return model_ || prompt_lookup_; }
  /// Throws UsageError for options that contradict each other.
  void check() const;
  /// Loads the draft model, if one was given. Throws UsageError if its tokens are others than `tokenizer`'s.
  void open(const Tokenizer& tokenizer, int threads);
  /// Null where none was opened.
  Draft* draft() const noexcept { return draft_.get(); }
  int64_t tokens() const noexcept { return tokens_; }

 private:
  std::optional<std::string> model_, recipe_;
  std::optional<int64_t> prompt_lookup_;
  int64_t tokens_ = 8;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Draft> draft_;
};

}  // namespace octet::cli

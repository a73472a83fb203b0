// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/octet/command_line.h"
#include "octet/generate/sampler.h"
#include "octet/io/checkpoint.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {

/// The options of how tokens are chosen, for every command that generates text: --temperature, --top-k, …,
/// --logit-bias, --generation-config and --stop.
class SamplingGroup {
 public:
  /// The group must live until the command has run.
  void add_to(Command command);

  /// Throws UsageError for what is out of range whatever the model is. Call it before the model is loaded.
  void check() const;
  /// What was given on the command line; for the rest, with --generation-config, what the checkpoint's file says (what
  /// of it Octet does not have is told on stderr), and the defaults without. `vocabulary` is the model's. Throws
  /// UsageError for what is out of range, and for a --logit-bias on what is not one token.
  SamplingOptions options(const Checkpoint& checkpoint, const Tokenizer& tokenizer, int64_t vocabulary) const;
  /// Of --stop.
  const std::vector<std::string>& stop_strings() const noexcept { return stop_strings_; }

 private:
  template <class T>
  void add(Command command, const std::string& name, T SamplingOptions::*value, const std::string& type,
           const std::string& description);

  SamplingOptions given_;
  /// Each copies its option to `to` if it was given.
  std::vector<std::function<void(SamplingOptions& to)>> copies_;
  std::vector<std::string> logit_bias_, stop_strings_;
  bool generation_config_ = false;
};

}  // namespace octet::cli

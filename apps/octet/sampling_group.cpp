// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/sampling_group.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/generate/generation_config.h"
#include "octet/generate/stop_strings.h"

namespace octet::cli {
namespace {

template <class T>
std::optional<T> parse_whole(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// TOKEN=VALUE; a token may hold '=' itself, a value does not.
struct Bias {
  std::string token;
  double value = 0;
};

Bias parse_bias(const std::string& text) {
  const size_t equals = text.rfind('=');
  const std::optional<double> value =
      equals == std::string::npos ? std::nullopt : parse_whole<double>(std::string_view(text).substr(equals + 1));
  if (!value || equals == 0) {
    fail<UsageError>(
        "--logit-bias {}: needs a token or its id, '=' and what is added to its logit: 42=-inf, ' the'=2.5",
        quote_name(text));
  }
  return {text.substr(0, equals), *value};
}

int32_t token_of(const std::string& token, const Tokenizer& tokenizer) {
  const bool digits = std::ranges::all_of(token, [](char c) { return c >= '0' && c <= '9'; });
  if (digits) {
    if (const auto id = parse_whole<int32_t>(token)) return *id;
    fail<UsageError>("--logit-bias: {} is no token id", quote_name(token));
  }
  if (const auto id = tokenizer.token_to_id(token)) return *id;
  const std::vector<int32_t> ids =
      tokenizer.encode(token, {.special_tokens = SpecialTokens::kWithout, .truncation = {}}).ids;
  if (ids.size() != 1) {
    fail<UsageError>("--logit-bias: {} is {} tokens of this model ({}), not one; give the id of the one you mean",
                     quote_name(token), ids.size(), fmt::join(ids, ", "));
  }
  return ids.front();
}

}  // namespace

template <class T>
void SamplingGroup::add(Command command, const std::string& name, T SamplingOptions::*value, const std::string& type,
                        const std::string& description) {
  const Option option = command.add_option(name, given_.*value, description).capture_default_str().type_name(type);
  copies_.emplace_back([this, option, value](SamplingOptions& to) {
    if (option.count() > 0) to.*value = given_.*value;
  });
}

void SamplingGroup::add_to(Command command) {
  add(command, "--temperature", &SamplingOptions::temperature, "T",
      "Sample at this temperature; 0 always takes the most likely token");
  add(command, "--top-k", &SamplingOptions::top_k, "K", "Sample from the K most likely tokens only (0: from all)");
  add(command, "--top-p", &SamplingOptions::top_p, "P",
      "Sample from the fewest most likely tokens whose probabilities reach P");
  add(command, "--min-p", &SamplingOptions::min_p, "P",
      "Sample from tokens at least P times as likely as the most likely one");
  add(command, "--typical-p", &SamplingOptions::typical_p, "P",
      "Sample from the fewest most typical tokens whose probabilities reach P (Meister et al., 2023)");
  add(command, "--repetition-penalty", &SamplingOptions::repetition_penalty, "R",
      "Above 1: make tokens of prompt and text less likely to come again");
  add(command, "--frequency-penalty", &SamplingOptions::frequency_penalty, "F",
      "Subtract F from a token's logit for each time that it stands in the text (the prompt does not count)");
  add(command, "--presence-penalty", &SamplingOptions::presence_penalty, "F",
      "Subtract F from a token's logit once if it stands in the text (the prompt does not count)");
  add(command, "--no-repeat-ngram-size", &SamplingOptions::no_repeat_ngram_size, "N",
      "No N tokens in a row come twice in prompt and text (0: any may)");
  add(command, "--min-tokens", &SamplingOptions::min_tokens, "N",
      "Before N tokens, neither a token nor a --stop ends the text");
  add(command, "--seed", &SamplingOptions::seed, "S", "The same seed gives the same text, on every machine");
  command
      .add_option(
          "--logit-bias", logit_bias_,
          "Add a number to the logit of a token, named by its id or its text; -inf excludes it. May be repeated")
      .type_name("ID|TOKEN=VALUE")
      .allow_extra_args(false);
  command.add_option("--stop", stop_strings_, "End the text before this one comes. May be repeated")
      .type_name("TEXT")
      .allow_extra_args(false);
  command.add_flag("--generation-config", generation_config_,
                   "Sample as the model's generation_config.json says where these options do not");
}

void SamplingGroup::check() const {
  check_sampling(given_, 0);
  for (const std::string& bias : logit_bias_) parse_bias(bias);
  const StopStrings checked(stop_strings_);
}

SamplingOptions SamplingGroup::options(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                       int64_t vocabulary) const {
  SamplingOptions result;
  if (generation_config_) {
    const SamplingConfig config = read_sampling(checkpoint);
    for (const std::string& setting : config.ignored)
      warn(fmt::format("generation_config.json asks for {}, which --generation-config does not read; it is left out",
                       setting));
    result = config.sampling;
  }
  for (const auto& copy : copies_) copy(result);
  for (const std::string& text : logit_bias_) {
    const Bias bias = parse_bias(text);
    result.logit_bias.emplace_back(token_of(bias.token, tokenizer), bias.value);
  }
  check_sampling(result, vocabulary);
  return result;
}

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/sample_options.h"

#include <cmath>

#include <fmt/format.h>

#include "apps/octet/options.h"
#include "octet/report/format.h"

namespace octet::cli {

void SampleOptions::add_to(CLI::App& command) {
  command.add_option("--data", data, "Text: of encoders, a line an input, empty lines left out")
      ->required()
      ->type_name("TEXT");
  command.add_option("--tokens", tokens, "Tokens to compare on, spread evenly over the text")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  command.add_option("--window", window, "Tokens that a decoder sees at once (default: 256, or its longest context)")
      ->check(CLI::Range(2, 1 << 20))
      ->type_name("W");
}

OutputComparison open_comparison(const Checkpoint& checkpoint, const SampleOptions& options, int threads) {
  const ModelInfo info = load_model(checkpoint, nullptr)->info();
  const Tokenizer tokenizer = Tokenizer::load(checkpoint.folder());
  TextSample sample = read_sample(options.data, tokenizer, info, options.tokens, options.window);
  if (sample.tokens < options.tokens) {
    warn(fmt::format("{}: has {} tokens for this model, fewer than --tokens {}; all are used", options.data,
                     sample.tokens, options.tokens));
  }
  if (sample.truncated > 0) warn(fmt::format("{} of {} lines were truncated", sample.truncated, sample.sequences));
  return {checkpoint.folder(), info, std::move(sample), threads};
}

std::string measure_name(OutputMeasure measure) {
  switch (measure) {
    case OutputMeasure::kDistributions:
      return "kl";
    case OutputMeasure::kSentenceVectors:
      return "sentence_vectors";
    case OutputMeasure::kHiddenStates:
      return "hidden_states";
    case OutputMeasure::kLogits:
      return "logits";
  }
  return "";
}

std::string measure_description(OutputMeasure measure) {
  switch (measure) {
    case OutputMeasure::kDistributions:
      return "KL divergence of predictions from the float model's";
    case OutputMeasure::kSentenceVectors:
      return "relative error of sentence vectors";
    case OutputMeasure::kHiddenStates:
      return "relative error of the last hidden states";
    case OutputMeasure::kLogits:
      return "relative error of logits";
  }
  return "";
}

std::string measure_column(OutputMeasure measure) { return measure == OutputMeasure::kDistributions ? "KL" : "error"; }

std::string measure_unit(OutputMeasure measure) { return measure == OutputMeasure::kDistributions ? "nats" : "%"; }

std::string format_divergence(OutputMeasure measure, double value) {
  return format_number(measure == OutputMeasure::kDistributions ? value : 100 * std::sqrt(value));
}

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/sample_options.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/ptq/quantize_model.h"
#include "octet/report/format.h"

namespace octet::cli {

void SampleOptions::add_to(Command command) {
  command.add_option("--data", data, "Text: of encoders, a line an input, empty lines left out")
      .required()
      .type_name("TEXT");
  command.add_option("--tokens", tokens, "Tokens to compare on, spread evenly over the text")
      .in_range(2, 1 << 20)
      .capture_default_str()
      .type_name("N");
  command.add_option("--window", window, "Tokens that a decoder sees at once (default: 256, or its longest context)")
      .in_range(2, 1 << 20)
      .type_name("W");
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

void TriedRecipesOptions::add_to(Command command, const std::string& schemes_help) {
  const Option schemes = command.add_option("--schemes", names, schemes_help)
                             .delimiter(',')
                             .allow_extra_args(false)
                             .type_name("NAME|FILE,…");
  command
      .add_flag(
          "--quick", quick,
          "Leave out the built-in recipes that only octet quantize applies, most of them with data, which take long")
      .excludes(schemes);
  command
      .add_option("--calibration", calibration,
                  "What recipes that need data calibrate on: a text, or .tsv pairs, or .jsonl with \"text\" (default: "
                  "the one of --data)")
      .existing_file()
      .type_name("FILE");
  command.add_option("--samples", samples, "Samples that they calibrate on (default: what the recipe says, or 128)")
      .in_range(1, 1 << 20)
      .type_name("N");
}

TriedRecipes recipes_to_try(const Checkpoint& checkpoint, const TriedRecipesOptions& options, const std::string& data,
                            const std::function<std::vector<Recipe>(Recipe::AppliesTo models)>& built_in) {
  TriedRecipes tried;
  std::vector<std::string> settings;
  if (options.samples) settings.push_back(fmt::format("calibration.samples={}", *options.samples));
  const std::vector<std::string> load = Recipe::built_in_names();
  for (const std::string& name : options.names) {
    const bool loads = std::ranges::find(load, name) != load.end();
    tried.recipes.push_back(Recipe::load(name, loads ? std::vector<std::string>() : settings));
  }
  // Several recipes ask for the same samples.
  const auto read = std::make_shared<std::vector<std::pair<CalibrationOptions, CalibrationData>>>();
  tried.calibration = [read, file = options.calibration.empty() ? data : options.calibration,
                       folder = checkpoint.folder(),
                       info = load_model(checkpoint, nullptr)->info()](const CalibrationOptions& asked) {
    const auto known = std::ranges::find(*read, asked, [](const auto& one) { return one.first; });
    if (known != read->end()) return known->second;
    return read->emplace_back(asked, read_calibration_data(file, Tokenizer::load(folder), info, asked)).second;
  };
  if (!tried.recipes.empty()) return tried;
  tried.recipes = built_in(Recipe::AppliesTo::kFloat);
  if (options.quick) return tried;
  for (const Recipe& recipe : built_in(Recipe::AppliesTo::kFloatOffline))
    tried.recipes.push_back(Recipe::parse(recipe.text(), recipe.name(), settings));
  try {
    tried.calibration(tried.recipes.back().calibration());
  } catch (const Error& error) {
    warn(fmt::format("recipes that need data are left out: {}", error.what()));
    std::erase_if(tried.recipes, [&](const Recipe& recipe) { return needs_samples(checkpoint, recipe); });
  }
  return tried;
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

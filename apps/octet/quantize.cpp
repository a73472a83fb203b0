// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/progress.h"
#include "octet/ptq/quantize_model.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct QuantizeOptions : ModelOptions {
  std::string out;
  int64_t largest_shard = QuantizeModelOptions().largest_shard;
};

void print_as_json(const Recipe& recipe, const QuantizeReport& report) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerReport& layer : report.layers) {
    nlohmann::ordered_json entry = {
        {"name", layer.name}, {"bytes_before", layer.bytes_before}, {"bytes", layer.bytes_after}};
    if (layer.scheme) {
      entry["scheme"] = to_string(*layer.scheme);
      entry["relative_error"] = layer.relative_error;
    }
    layers.push_back(std::move(entry));
  }
  nlohmann::ordered_json fallbacks = nlohmann::ordered_json::array();
  for (const GroupFallback& fallback : report.group_fallbacks) {
    fallbacks.push_back(
        {{"group_size", fallback.asked},
         {"inputs", fallback.inputs},
         {"taken", fallback.taken == 0 ? nlohmann::ordered_json("row") : nlohmann::ordered_json(fallback.taken)},
         {"layers", fallback.layers}});
  }
  print_json({{"recipe", recipe.name()},
              {"bytes_before", report.bytes_before},
              {"bytes", report.bytes_after},
              {"unmatched_patterns", report.unmatched_patterns},
              {"group_size_fallbacks", fallbacks},
              {"attention", recipe.attention() == ActivationMode::kFloat ? "float" : "int8"},
              {"resumed_layers", report.resumed_layers},
              {"layers", layers}});
}

// "36 linear layers → int8 weights per channel, …;  kept in float: pooler.dense, embeddings, normalization"
void print_for_people(const Recipe& recipe, const QuantizeReport& report) {
  std::vector<std::pair<std::string, int64_t>> schemes;
  std::string kept;
  const LayerReport* worst = nullptr;
  for (const LayerReport& layer : report.layers) {
    if (!layer.scheme) {
      kept += layer.name + ", ";
      continue;
    }
    const std::string scheme = to_string(*layer.scheme);
    const auto known =
        std::find_if(schemes.begin(), schemes.end(), [&](const auto& entry) { return entry.first == scheme; });
    if (known == schemes.end()) {
      schemes.emplace_back(scheme, 1);
    } else {
      ++known->second;
    }
    if (worst == nullptr || layer.relative_error > worst->relative_error) worst = &layer;
  }
  for (const auto& [scheme, count] : schemes) fmt::print("{} linear layers → {}\n", count, scheme);
  if (report.resumed_layers > 0) {
    fmt::print("{} of them were finished by a run that was interrupted\n", report.resumed_layers);
  }
  for (const GroupFallback& fallback : report.group_fallbacks) fmt::print("{}\n", to_string(fallback));
  if (recipe.attention() != ActivationMode::kFloat)
    fmt::print("products of attention → int8 (for Octet; others compute them in float)\n");
  fmt::print("kept in float: {}embeddings, normalization\n", kept);
  fmt::print("{} → {}      worst layer: {}, relative error {}\n", format_bytes(report.bytes_before),
             format_bytes(report.bytes_after), worst->name, format_percent(worst->relative_error, 2));
}

void run(const QuantizeOptions& options) {
  const Recipe recipe = Recipe::load(*options.recipe, options.settings);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  std::optional<Progress> progress;
  const QuantizeReport report = quantize_model(
      checkpoint, recipe, options.out, {.largest_shard = options.largest_shard, .advance = [&](int64_t, int64_t total) {
                                          if (!progress) progress.emplace("quantizing", total, "layers");
                                          progress->advance();
                                        }});
  progress.reset();
  warn_of_unmatched(recipe.name(), report.unmatched_patterns);
  if (options.json) {
    print_as_json(recipe, report);
  } else {
    print_for_people(recipe, report);
  }
}

}  // namespace

void add_quantize(CLI::App& app) {
  auto options = std::make_shared<QuantizeOptions>();
  CLI::App* command =
      app.add_subcommand("quantize", "Write a quantized copy of a model, in the compressed-tensors layout");
  options->add_to(*command);
  command->get_option("--recipe")->required()->description("How: a built-in recipe or a JSON file");
  command->add_option("--out", options->out, "The folder to make; it must not exist")->required()->type_name("DIR");
  command
      ->add_option("--max-shard-size", options->largest_shard,
                   "Write a larger model in several files of at most so many bytes (500MB, 4GB)")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("2GB")
      ->type_name("BYTES");
  command->footer(
      "One layer is held in memory at a time. What an interrupted run has finished (the files in .DIR.partial beside "
      "DIR)\nis taken up when the same command is given again; remove that folder to start anew.\n"
      "Examples:\n"
      "  octet quantize minilm --recipe w8a8_dynamic --out minilm-w8a8\n"
      "  octet quantize minilm --recipe w8a16 --set 'exclude=[\"encoder.layer.0.*\"]' --out minilm-w8a16");
  command->callback([options] { run(*options); });
}

}  // namespace octet::cli

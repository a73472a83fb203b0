// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/progress.h"
#include "octet/ptq/quantize_model.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct QuantizeOptions : ModelOptions {
  std::string out, data;
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
      if (layer.outlier_columns > 0) {
        entry["outlier_columns"] = layer.outlier_columns;
        entry["outlier_bytes"] = layer.outlier_bytes;
      }
      if (layer.output_error) entry["output_error"] = *layer.output_error;
      if (!layer.notes.empty()) entry["notes"] = layer.notes;
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
  nlohmann::ordered_json sites = nlohmann::ordered_json::array();
  for (const SiteReport& site : report.sites) {
    const RangeEstimate& estimate = site.estimate;
    nlohmann::ordered_json entry = {{"site", site.site}, {"scale", estimate.scale.scale}};
    if (estimate.scale.zero_point != 0) entry["zero_point"] = estimate.scale.zero_point;
    if (estimate.scale.bits != 8) entry["bits"] = estimate.scale.bits;
    entry["range"] = site.given ? "given" : name(estimate.method);
    entry["clipped_share"] = estimate.loss.clipped_share;
    entry["clipping_error"] = estimate.loss.clipping_error;
    entry["zeroed_share"] = estimate.loss.zeroed_share;
    entry["relative_error"] = estimate.loss.relative_error;
    entry["dynamic_relative_error"] = site.dynamic_error;
    entry["destroyed"] = site.is_destroyed();
    sites.push_back(std::move(entry));
  }
  nlohmann::ordered_json folds = nlohmann::ordered_json::array();
  for (const FoldReport& fold : report.folds)
    folds.push_back({{"from", fold.from},
                     {"into", fold.into},
                     {"alpha", fold.alpha ? nlohmann::ordered_json(*fold.alpha) : nlohmann::ordered_json()}});
  print_json({{"recipe", recipe.name()},
              {"bytes_before", report.bytes_before},
              {"bytes", report.bytes_after},
              {"unmatched_patterns", report.unmatched_patterns},
              {"group_size_fallbacks", fallbacks},
              {"attention", recipe.attention() == ActivationMode::kFloat ? "float" : "int8"},
              {"resumed_layers", report.resumed_layers},
              {"notes", report.notes},
              {"activation_ranges", sites},
              {"folds", folds},
              {"layers", layers}});
}

// "static ranges: 54 by mse, 66 by minmax; the most clipped: layers.29.mlp.down_proj, 0.12 % of values"
void print_sites(const std::vector<SiteReport>& sites) {
  std::vector<std::pair<std::string, int64_t>> methods;
  const SiteReport* clipped = nullptr;
  for (const SiteReport& site : sites) {
    const std::string method(site.given ? "as given" : fmt::format("by {}", name(site.estimate.method)));
    const auto known = std::ranges::find(methods, method, &std::pair<std::string, int64_t>::first);
    if (known == methods.end()) {
      methods.emplace_back(method, 1);
    } else {
      ++known->second;
    }
    if (clipped == nullptr || site.estimate.loss.clipped_share > clipped->estimate.loss.clipped_share) clipped = &site;
  }
  if (clipped == nullptr) return;
  std::string counts;
  for (const auto& [method, count] : methods)
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, method);
  fmt::print("static ranges: {};  the most clipped: {}, {} of its values\n", counts, clipped->site,
             format_percent(clipped->estimate.loss.clipped_share, 2));
}

void warn_of_destroyed(const std::vector<SiteReport>& sites) {
  for (const SiteReport& site : sites) {
    if (!site.is_destroyed()) continue;
    const QuantizationLoss& loss = site.estimate.loss;
    warn(fmt::format(
        "'{}': its static scale loses {} of what flows there ({} by clipping) and makes {} of the numbers 0; "
        "one scale a token would lose {}. Make its activations dynamic, or fold (smoothquant).",
        site.site, format_percent(loss.relative_error, 1), format_percent(loss.clipping_error, 1),
        format_percent(loss.zeroed_share, 0), format_percent(site.dynamic_error, 1)));
  }
}

// "outlier columns in 16 bits: 312 of 69,120 inputs (0.5 %) in 90 layers, 1.1 MB (0.8 % of the model);  the most:
// layers.3.mlp.down_proj, 21 of 1,536"
void print_outliers(const QuantizeReport& report) {
  int64_t columns = 0, inputs = 0, layers = 0, bytes = 0;
  const LayerReport* most = nullptr;
  for (const LayerReport& layer : report.layers) {
    if (!layer.scheme) continue;
    inputs += layer.inputs;
    columns += layer.outlier_columns;
    bytes += layer.outlier_bytes;
    layers += layer.outlier_columns > 0 ? 1 : 0;
    if (most == nullptr || layer.outlier_columns > most->outlier_columns) most = &layer;
  }
  if (columns == 0) {
    fmt::print("outlier columns: none were met\n");
    return;
  }
  const auto share = [](int64_t part, int64_t all) {
    return format_percent(static_cast<double>(part) / static_cast<double>(all), 1);
  };
  fmt::print(
      "outlier columns in 16 bits: {} of {} inputs ({}) in {} layer{}, {} ({} of the model);  the most: {}, {} of {}\n",
      format_count(columns), format_count(inputs), share(columns, inputs), layers, layers == 1 ? "" : "s",
      format_bytes(bytes), share(bytes, report.bytes_after), most->name, format_count(most->outlier_columns),
      format_count(most->inputs));
}

// "36 linear layers → int8 weights per channel, …
//  model.embed_tokens → int8 weights per channel, …
//  kept in float: pooler.dense, other embeddings, normalization"
void print_for_people(const Recipe& recipe, const QuantizeReport& report) {
  std::vector<std::pair<std::string, int64_t>> schemes;
  std::string kept, vocabulary;
  const LayerReport* worst = nullptr;
  for (const LayerReport& layer : report.layers) {
    if (!layer.scheme) {
      kept += layer.name + ", ";
      continue;
    }
    const std::string scheme = to_string(*layer.scheme);
    if (worst == nullptr || layer.relative_error > worst->relative_error) worst = &layer;
    if (layer.over_vocabulary) {
      vocabulary += fmt::format("{} → {}\n", layer.name, scheme);
      continue;
    }
    const auto known =
        std::find_if(schemes.begin(), schemes.end(), [&](const auto& entry) { return entry.first == scheme; });
    if (known == schemes.end()) {
      schemes.emplace_back(scheme, 1);
    } else {
      ++known->second;
    }
  }
  for (const auto& [scheme, count] : schemes) fmt::print("{} linear layers → {}\n", count, scheme);
  fmt::print("{}", vocabulary);
  if (report.resumed_layers > 0) {
    fmt::print("{} of them were finished by a run that was interrupted\n", report.resumed_layers);
  }
  for (const GroupFallback& fallback : report.group_fallbacks) fmt::print("{}\n", to_string(fallback));
  if (recipe.attention() != ActivationMode::kFloat)
    fmt::print("products of attention → int8 (for Octet; others compute them in float)\n");
  if (recipe.keeps_outliers()) print_outliers(report);
  print_sites(report.sites);
  int64_t noted = 0;
  const LayerReport* first_noted = nullptr;
  for (const LayerReport& layer : report.layers) {
    if (layer.notes.empty()) continue;
    if (++noted == 1) first_noted = &layer;
  }
  if (first_noted != nullptr) {
    fmt::print("{}: {}{}\n", first_noted->name, fmt::join(first_noted->notes, "; "),
               noted == 1 ? "" : fmt::format("  (and {} other layers; --json has them all)", noted - 1));
  }
  const char* const tables = !recipe.quantizes_embeddings() ? "embeddings, "
                             : report.float_tables          ? "other embeddings, "
                                                            : "";
  fmt::print("kept in float: {}{}normalization\n", kept, tables);
  fmt::print("{} → {}      worst layer: {}, relative error {}\n", format_bytes(report.bytes_before),
             format_bytes(report.bytes_after), worst->name, format_percent(worst->relative_error, 2));
}

void run(const QuantizeOptions& options) {
  const Recipe recipe = Recipe::load(*options.recipe, options.settings);
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  std::optional<CalibrationData> data;
  if (!options.data.empty()) {
    data = read_calibration_data(options.data, Tokenizer::load(options.model), load_model(checkpoint, nullptr)->info(),
                                 recipe.calibration());
  }
  std::optional<Progress> calibrating, quantizing;
  int64_t shown = 0;
  QuantizeModelOptions how{.largest_shard = options.largest_shard};
  how.data = data ? &*data : nullptr;
  how.cpu.threads = options.threads;
  how.advance_calibration = [&](int64_t done, int64_t total) {
    if (!calibrating) calibrating.emplace("calibrating", total, "samples through blocks");
    calibrating->advance(done - std::exchange(shown, done));
  };
  how.advance = [&](int64_t, int64_t total) {
    calibrating.reset();
    if (!quantizing) quantizing.emplace("quantizing", total, "layers");
    quantizing->advance();
  };
  const QuantizeReport report = quantize_model(checkpoint, recipe, options.out, how);
  calibrating.reset();
  quantizing.reset();
  warn_of_unmatched(recipe.name(), report.unmatched_patterns);
  for (const std::string& note : report.notes) warn(note);
  warn_of_destroyed(report.sites);
  if (options.json) {
    print_as_json(recipe, report);
  } else {
    print_for_people(recipe, report);
  }
}

}  // namespace

void add_quantize(Program& program) {
  auto options = std::make_shared<QuantizeOptions>();
  Command command =
      program.add_subcommand("quantize", "Write a quantized copy of a model, in the compressed-tensors layout");
  options->add_to(command);
  command.get_option("--recipe").required().description("How: a built-in recipe or a JSON file");
  command.add_option("--out", options->out, "The folder to make; it must not exist").required().type_name("DIR");
  command
      .add_option("--data", options->data,
                  "Calibration data, for recipes that need it: a text, or .tsv pairs, or .jsonl with \"text\"")
      .existing_file()
      .type_name("FILE");
  command
      .add_option("--max-shard-size", options->largest_shard,
                  "Write a larger model in several files of at most so many bytes (500MB, 4GB)")
      .in_bytes()
      .default_str("2GB")
      .type_name("BYTES");
  command.footer(
      "One layer is held in memory at a time, or, with calibration data, one block and the hidden states of all "
      "samples.\nWhat an interrupted run has finished (the files in .DIR.partial beside "
      "DIR)\nis taken up when the same command is given again; remove that folder to start anew.\n"
      "Examples:\n"
      "  octet quantize minilm --recipe w8a8_dynamic --out minilm-w8a8\n"
      "  octet quantize smollm2 --recipe w4a16_g128_gptq --data wikitext.txt --out smollm2-gptq\n"
      "  octet quantize minilm --recipe w8a8_static --data MRPC/train.tsv --set calibration.samples=256 --out "
      "minilm-s8\n"
      "  octet quantize minilm --recipe w8a16 --set 'exclude=[\"encoder.layer.0.*\"]' --out minilm-w8a16");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

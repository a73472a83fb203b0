// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/sensitivity.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "apps/octet/sample_options.h"
#include "octet/base/progress.h"
#include "octet/ptq/layer_schemes.h"
#include "octet/report/format.h"
#include "octet/report/table.h"

namespace octet::cli {
namespace {

constexpr const char* kUnits[] = {"layer", "site", "block"};  // as SensitivityUnit has them

struct SensitivityCommand : CommonOptions {
  std::string model;
  SampleOptions sample;
  TriedRecipesOptions tried;
  std::string per = kUnits[0];
  bool exact = false;
  int64_t top = 40;
};

nlohmann::ordered_json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

void print_as_json(const SensitivityReport& report) {
  const bool kl = report.measure == OutputMeasure::kDistributions;
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  for (const Sensitivity& entry : report.entries) {
    nlohmann::ordered_json one = {{"unit", entry.unit},
                                  {"layers", entry.layers},
                                  {"scheme", entry.scheme},
                                  {"weight_error", entry.weight_error},
                                  {"output_error", number_or_null(entry.output_error)}};
    if (kl) {
      one["kl"] = entry.divergence.value;
      one["kl_standard_error"] = number_or_null(entry.divergence.standard_error);
    } else {
      one["error"] = std::sqrt(entry.divergence.value);
    }
    one["estimated"] = entry.estimated;
    entries.push_back(std::move(one));
  }
  print_json({{"measure", measure_name(report.measure)},
              {"tokens", report.tokens},
              {"rows", report.rows},
              {"entries", std::move(entries)}});
}

// The sum over all units and the worst of them, scheme by scheme.
void print_schemes(const SensitivityReport& report, const std::vector<Recipe>& schemes) {
  using enum Table::Align;
  Table table({{"scheme", kLeft, ""},
               {"sum of " + measure_column(report.measure), kDecimal, measure_unit(report.measure)},
               {"most sensitive", kLeft, ""},
               {"", kDecimal, measure_unit(report.measure)}});
  for (const Recipe& scheme : schemes) {
    double sum = 0;
    const Sensitivity* worst = nullptr;
    for (const Sensitivity& entry : report.entries) {
      if (entry.scheme != scheme.name()) continue;
      sum += entry.divergence.value;
      if (worst == nullptr || entry.divergence.value > worst->divergence.value) worst = &entry;
    }
    table.add_row({scheme.name(), format_divergence(report.measure, sum), worst->unit,
                   format_divergence(report.measure, worst->divergence.value)});
  }
  fmt::print("{}\n", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
}

void print_ranked(const SensitivityReport& report, size_t top) {
  std::vector<const Sensitivity*> ranked;
  for (const Sensitivity& entry : report.entries) ranked.push_back(&entry);
  std::ranges::stable_sort(ranked, std::greater(), [](const Sensitivity* entry) { return entry->divergence.value; });
  const size_t shown = top == 0 ? ranked.size() : std::min(top, ranked.size());
  using enum Table::Align;
  Table table({{"layer", kLeft, ""},
               {"scheme", kLeft, ""},
               {"weights", kDecimal, "%"},
               {"output", kDecimal, "%"},
               {measure_column(report.measure), kDecimal, measure_unit(report.measure)},
               {"±", kDecimal, ""}});
  for (const Sensitivity* entry : std::span(ranked).first(shown)) {
    const Divergence& divergence = entry->divergence;
    table.add_row({entry->unit, entry->scheme, format_number(100 * entry->weight_error),
                   std::isnan(entry->output_error) ? "not run" : format_number(100 * entry->output_error),
                   format_divergence(report.measure, divergence.value),
                   std::isnan(divergence.standard_error) ? "" : format_number(divergence.standard_error, 2)});
  }
  fmt::print("{}", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  if (shown < ranked.size())
    fmt::print("and {} more; --top 0 shows all\n", format_count(std::ssize(ranked) - static_cast<int64_t>(shown)));
}

void run(const SensitivityCommand& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.model);
  const auto [schemes, calibration] =
      recipes_to_try(checkpoint, options.tried, options.sample.data, built_in_layer_schemes);
  for (const Recipe& recipe : schemes) check_is_layer_scheme(recipe);
  OutputComparison comparison = open_comparison(checkpoint, options.sample, options.threads);
  std::optional<Progress> progress;
  int64_t before = 0;
  SensitivityOptions how{.exact = options.exact, .cpu = {.threads = options.threads}};
  std::optional<CalibrationData> samples;
  if (const std::optional<CalibrationOptions> asked = common_calibration(schemes)) {
    samples = calibration(*asked);
    for (const std::string& note : samples->notes) warn(note);
    how.calibration = &samples->samples;
  }
  how.per = static_cast<SensitivityUnit>(std::ranges::find(kUnits, options.per) - kUnits);
  how.advance = [&](int64_t done, int64_t total) {
    if (!progress) progress.emplace("trying schemes", total, "runs of a block");
    progress->advance(done - before);
    before = done;
  };
  const SensitivityReport report = measure_sensitivity(checkpoint, schemes, comparison, how);
  progress.reset();
  if (options.json) {
    print_as_json(report);
    return;
  }
  fmt::print("one {} at a time in each scheme, the others in float: {} on {} tokens\n\n", options.per,
             measure_description(report.measure), format_count(report.tokens));
  print_schemes(report, schemes);
  print_ranked(report, static_cast<size_t>(options.top));
}

}  // namespace

void add_sensitivity(Program& program) {
  auto options = std::make_shared<SensitivityCommand>();
  Command command = program.add_subcommand(
      "sensitivity", "Rank layers by what quantizing each alone, in each scheme, does to a model's predictions");
  command.add_option("MODEL", options->model, "A float model: a Hugging Face directory, or a GGUF file").required();
  options->sample.add_to(command);
  options->tried.add_to(command,
                        "What to try: built-in recipes, or JSON files (default: all built-in ones that speak of single "
                        "layers)");
  command.add_option("--per", options->per, "What changes at once: a layer, a site (layers of one input), or a block")
      .one_of(std::vector<std::string>(std::begin(kUnits), std::end(kUnits)))
      .capture_default_str()
      .type_name("UNIT");
  command.add_flag("--exact", options->exact,
                   "Run the rest of the network for every layer and scheme, not for whole blocks only (see below)");
  command.add_option("--top", options->top, "Rows of the table; 0: all")
      .not_negative()
      .capture_default_str()
      .type_name("N");
  options->CommonOptions::add_to(command);
  command.footer(
      "Errors are relative, of the weights and of their products. KL is the divergence of the model's predictions "
      "from\n"
      "those of the float model, in nats; of models that predict nothing, the error of what they give stands in its\n"
      "place. It is measured block by block; a layer's is its share of that by the squared error that it causes in "
      "the\n"
      "hidden states after the block. --exact measures every layer's own, in about n / (1 + 2 n / B) times the time "
      "of\n"
      "a model with B blocks of n layers (6 times for 30 blocks of 7).\n"
      "GPTQ reads what the float network gives a layer over the text of --calibration. Recipes that fold "
      "(SmoothQuant,\n"
      "AWQ) or have static ranges change several layers at once and are not tried here; octet autoquant compares "
      "them.\n"
      "Examples:\n"
      "  octet sensitivity smollm2 --data wikitext.txt\n"
      "  octet sensitivity smollm2 --data wikitext.txt --schemes w4a16_g128,w4a16_g32 --per block --tokens 2048\n"
      "  octet sensitivity minilm --data sentences.txt --schemes w8a8_dynamic,mine.json --exact --json");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

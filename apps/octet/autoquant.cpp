// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/autoquant.h"

#include <cmath>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "apps/octet/sample_options.h"
#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/progress.h"
#include "octet/eval/product_timing.h"
#include "octet/generate/prefill.h"
#include "octet/ptq/layer_schemes.h"
#include "octet/report/format.h"
#include "octet/report/table.h"

namespace octet::cli {
namespace {

struct AutoquantCommand : CommonOptions {
  std::string model, budget, out;
  std::optional<std::string> objective;
  SampleOptions sample;
  TriedRecipesOptions tried;
  std::optional<int64_t> batch, prompt, decode_tokens;
  bool exact = false, no_cache = false;
};

// "w8a8_dynamic 90, w4a16_g32 30, embeddings=8"
std::string summary(const AutoquantPoint& point) {
  std::string text;
  for (const auto& [scheme, count] : point.schemes) {
    text += (text.empty() ? "" : ", ") + scheme;
    if (scheme.find('=') == std::string::npos) text += fmt::format(" {}", count);
  }
  return text;
}

nlohmann::ordered_json to_json(const AutoquantReport& report, const ModelFigures& figures) {
  nlohmann::ordered_json json = {{"bytes", static_cast<int64_t>(std::llround(figures.bytes))}};
  if (report.measure == OutputMeasure::kDistributions) {
    json["kl"] = figures.divergence;
  } else {
    json["error"] = std::sqrt(figures.divergence);
  }
  json["ms"] = report.load.ms(figures);
  json["tokens_per_second"] = report.load.tokens_per_second(figures);
  json["prefill_ms"] = figures.prefill_ms;
  if (report.load.decode_tokens > 0) json["step_ms"] = figures.step_ms;
  return json;
}

nlohmann::ordered_json to_json(const AutoquantReport& report, const AutoquantPoint& point) {
  nlohmann::ordered_json json = {{"name", point.name},
                                 {"within_budget", point.within_budget},
                                 {"while_loading", point.while_loading},
                                 {"needs_data", point.needs_data}};
  json["schemes"] = nlohmann::ordered_json::object();
  for (const auto& [scheme, count] : point.schemes) json["schemes"][scheme] = count;
  if (point.predicted) json["predicted"] = to_json(report, *point.predicted);
  if (point.measured) json["measured"] = to_json(report, *point.measured);
  json["recipe"] = point.recipe.empty() ? nlohmann::ordered_json() : parse_ordered_json(point.recipe, "recipe");
  return json;
}

void print_as_json(const AutoquantReport& report) {
  const auto points = [&](const std::vector<AutoquantPoint>& all) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const AutoquantPoint& point : all) json.push_back(to_json(report, point));
    return json;
  };
  print_json(
      {{"measure", measure_name(report.measure)},
       {"objective", to_string(report.objective)},
       {"request",
        {{"batch", report.load.batch}, {"prompt", report.load.prompt}, {"decode_tokens", report.load.decode_tokens}}},
       {"float", to_json(report, report.in_float)},
       {"recipes", points(report.given)},
       {"front", points(report.front)},
       {"tried", points(report.tried)},
       {"winner", to_json(report, report.winner)},
       {"bound_share", report.bound_share},
       {"timed_products", report.timed_products},
       {"notes", report.notes}});
}

std::vector<std::string> cells(const AutoquantReport& report, const ModelFigures& figures) {
  const double floats = report.in_float.measured->bytes;
  return {format_bytes(std::llround(figures.bytes)), fmt::format("{:.1f}", 100 * figures.bytes / floats),
          format_divergence(report.measure, figures.divergence), format_ms(report.load.ms(figures)),
          format_number(report.load.tokens_per_second(figures))};
}

Table points_table(const AutoquantReport& report) {
  using enum Table::Align;
  return Table({{"", kLeft, ""},
                {"size", kDecimal, ""},
                {"of float", kDecimal, "%"},
                {measure_column(report.measure), kDecimal, measure_unit(report.measure)},
                {"request", kDecimal, ""},
                {"rate", kDecimal, "tokens/s"},
                {"sites", kLeft, ""}});
}

void add_row(Table& table, const AutoquantReport& report, const std::string& name, const ModelFigures& figures,
             const std::string& sites, bool dim) {
  std::vector<std::string> row = cells(report, figures);
  row.insert(row.begin(), name);
  row.push_back(sites);
  if (dim) {
    table.add_dim_row(std::move(row));
  } else {
    table.add_row(std::move(row));
  }
}

// What to do with the file that was written.
std::string how_to_apply(const AutoquantCommand& options, const AutoquantPoint& winner) {
  if (winner.while_loading)
    return fmt::format("apply it while loading (--recipe {}), or: octet quantize {} --recipe {} --out DIR", options.out,
                       options.model, options.out);
  const std::string& data = options.tried.calibration.empty() ? options.sample.data : options.tried.calibration;
  return fmt::format("octet quantize {} --recipe {}{} --out DIR", options.model, options.out,
                     winner.needs_data ? " --data " + data : "");
}

void print_for_people(const AutoquantReport& report, const AutoquantCommand& options) {
  const auto ink = colours() ? Table::Ink::kTerminal : Table::Ink::kPlain;
  const RequestLoad& load = report.load;
  fmt::print("a request: {} × {} tokens{}\n", load.batch, load.prompt,
             load.decode_tokens > 0 ? fmt::format(" and {} more", load.decode_tokens) : "");
  fmt::print("\nPareto front, predicted (* within the budget)\n\n");
  Table front = points_table(report);
  for (const AutoquantPoint& point : report.front)
    add_row(front, report, point.within_budget ? "*" : "", *point.predicted, summary(point), !point.within_budget);
  fmt::print("{}\nmeasured (* within the budget)\n\n", front.to_string(ink));
  Table measured = points_table(report);
  add_row(measured, report, "  float", *report.in_float.measured, "", true);
  for (const AutoquantPoint& point : report.given)
    add_row(measured, report, (point.within_budget ? "* " : "  ") + point.name, *point.measured, summary(point),
            !point.within_budget);
  measured.add_rule();
  for (const AutoquantPoint& point : report.tried) {
    add_row(measured, report, (point.within_budget ? "* " : "  ") + point.name, *point.measured, summary(point),
            !point.within_budget);
    add_row(measured, report, "  as predicted", *point.predicted, "", true);
  }
  fmt::print("{}\n", measured.to_string(ink));
  if (report.bound_share < 1) {
    fmt::print("no choice is predicted to have a {} below {} of that of the first one found\n",
               to_string(report.objective), format_percent(report.bound_share, 2));
  }
  const AutoquantPoint& winner = report.winner;
  fmt::print("{}: the best {} within the budget → {}\n",
             winner.name == "found" ? "the recipe that was found" : winner.name, to_string(report.objective),
             options.out);
  fmt::print("{}\n", how_to_apply(options, winner));
}

std::vector<Recipe> built_in_recipes(Recipe::AppliesTo models) {
  std::vector<Recipe> recipes;
  for (const std::string& name : Recipe::built_in_names(models)) recipes.push_back(Recipe::load(name, {}));
  return recipes;
}

void run(const AutoquantCommand& options) {
  AutoquantOptions how{
      .budget = parse_budget(options.budget), .exact = options.exact, .cpu = {.threads = options.threads}};
  if (options.objective) how.objective = parse_budget_term(*options.objective);
  OutputFile file(options.out);
  how.recipe_name = std::filesystem::path(options.out).stem().string();
  if (!options.no_cache) how.timing_cache = default_timing_cache();

  const Checkpoint checkpoint = Checkpoint::open(options.model);
  TriedRecipes tried = recipes_to_try(checkpoint, options.tried, options.sample.data, built_in_recipes);
  how.recipes = std::move(tried.recipes);
  how.calibration = std::move(tried.calibration);
  how.scratch = std::filesystem::absolute(options.out).parent_path();
  const ModelInfo info = load_model(checkpoint, nullptr)->info();
  how.load = default_load(info);
  if (options.batch) how.load.batch = *options.batch;
  if (options.prompt) how.load.prompt = *options.prompt;
  if (options.decode_tokens && !predicts_next_token(info))
    fail<UsageError>("{} adds no tokens to a text; leave --decode-tokens out", info.architecture);
  if (options.decode_tokens) how.load.decode_tokens = *options.decode_tokens;
  OutputComparison comparison = open_comparison(checkpoint, options.sample, options.threads);

  std::optional<Progress> progress;
  std::string shown;
  int64_t before = 0;
  how.advance = [&](const std::string& what, int64_t done, int64_t total) {
    if (what != shown) {
      progress.reset();
      progress.emplace(what, total, "steps");
      shown = what;
      before = 0;
    }
    progress->advance(done - before);
    before = done;
  };
  const AutoquantReport report = autoquant(checkpoint, comparison, how);
  progress.reset();
  for (const std::string& note : report.notes) warn(note);
  file.write(report.winner.recipe + (report.winner.recipe.ends_with('\n') ? "" : "\n"));
  file.commit();
  if (options.json) {
    print_as_json(report);
  } else {
    print_for_people(report, options);
  }
}

}  // namespace

void add_autoquant(Program& program) {
  auto options = std::make_shared<AutoquantCommand>();
  Command command = program.add_subcommand(
      "autoquant",
      "Find the recipe that gives the best model within a budget of bytes, error and time on this machine");
  command.add_option("MODEL", options->model, "A float model: a Hugging Face directory, or a GGUF file").required();
  options->sample.add_to(command);
  command
      .add_option("--budget", options->budget,
                  "What the model may take: terms bytes, kl (or error), ms, tps with commas between them")
      .required()
      .type_name("\"bytes<60%,kl<0.02\"");
  command
      .add_option("--objective", options->objective,
                  "What is to be as good as can be within it (default: the first of kl, ms, bytes without a limit)")
      .type_name("kl|error|ms|bytes|tps");
  command.add_option("--out", options->out, "The recipe to write; replaces a file that is there")
      .required()
      .type_name("FILE");
  options->tried.add_to(command,
                        "What to choose from for each site: built-in recipes, or JSON files; those that do more than "
                        "give layers schemes are compared with as they are (default: all built-in ones)");
  command.add_option("--batch", options->batch, "Sequences of a request (default: 8; of a decoder 1)")
      .in_range(1, 4096)
      .type_name("B");
  command.add_option("--prompt,--seq", options->prompt, "Tokens in each (default: 128; of a decoder 512)")
      .in_range(1, 1 << 20)
      .type_name("S");
  command.add_option("--decode-tokens", options->decode_tokens, "Tokens a decoder adds to each (default: 64)")
      .in_range(1, 1 << 20)
      .type_name("N");
  command.add_flag("--exact", options->exact, "Measure every site's KL by itself, see octet sensitivity");
  command.add_flag("--no-cache", options->no_cache,
                   "Time all products anew, and keep no times ($XDG_CACHE_HOME/octet/product_timings.json)");
  options->CommonOptions::add_to(command);
  command.footer(
      "Limits: bytes<60% (of the float model), bytes<80MB, kl<0.02 (nats), ms<250 (a request), tps>100 (tokens per\n"
      "second, of a decoder while it decodes). Errors of sites are measured one by one and added up, times of "
      "products\n"
      "are taken on this machine; what is found is applied and measured. All schemes are measured as recipes of their\n"
      "own, and so are those that fold or have static ranges; one of those is the answer where it is better. What is\n"
      "not quantized while loading is written beside --out for as long as it is measured. Recipes that need data take\n"
      "as long as octet quantize with them, each; --samples 32 or --quick shorten that.\n"
      "Examples:\n"
      "  octet autoquant smollm2 --data wikitext.txt --budget 'bytes<60%,kl<0.02' --out recipe.json\n"
      "  octet autoquant smollm2 --data wikitext.txt --budget 'tps>100' --objective kl --prompt 64 --out fast.json\n"
      "  octet autoquant minilm --data sentences.txt --budget 'error<0.03' --batch 1 --seq 16 --out small.json --json\n"
      "  octet autoquant smollm2 --data test.txt --calibration train.txt --budget 'bytes<45%' --out recipe.json\n"
      "  octet quantize smollm2 --recipe recipe.json --data train.txt --out smollm2-auto");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

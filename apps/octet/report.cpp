// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/options.h"
#include "apps/octet/report_page.h"
#include "apps/octet/report_results.h"
#include "octet/base/atomic_output.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/data/lines.h"
#include "octet/eval/benchmark.h"
#include "octet/eval/compare.h"
#include "octet/eval/compare_decoders.h"
#include "octet/generate/prefill.h"
#include "octet/ptq/calibration_data.h"
#include "octet/ptq/layer_facts.h"
#include "octet/ptq/site_facts.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

struct ReportOptions : CommonOptions {
  std::vector<std::string> models, recipes, settings, results;
  std::optional<std::string> against;
  std::string data, out;
  std::optional<int64_t> limit;
  bool no_speed = false;
  TextOptions text;
};

// A model to show: a checkpoint as it is, or the reference by a recipe.
struct Candidate {
  std::string name, path;
  std::optional<Recipe> recipe;
};

// "smollm2" of "models/smollm2/".
std::string base_name(const std::string& path) {
  const fs::path clean = fs::weakly_canonical(path);
  return clean.filename().empty() ? path : clean.filename().string();
}

// What config.json says of how a checkpoint of Octet's was calibrated; none where it says nothing.
std::optional<Config> calibration_of(const Checkpoint& checkpoint) {
  if (!checkpoint.config().has("octet_calibration")) return std::nullopt;
  return checkpoint.config().object("octet_calibration");
}

FoldedLayers folded_layers(const Checkpoint& checkpoint) {
  FoldedLayers out;
  const std::optional<Config> calibration = calibration_of(checkpoint);
  if (!calibration) return out;
  for (const Config& fold : objects(*calibration, "folds")) {
    out.rows.insert(fold.text("from"));
    for (const std::string& layer : fold.texts("into")) out.columns.insert(layer);
  }
  return out;
}

// The static scales of a checkpoint and what calibration said that they do.
std::vector<SiteFacts> calibrated_sites(const Checkpoint& checkpoint, const Model& model) {
  std::vector<SiteFacts> out;
  const std::optional<Config> calibration = calibration_of(checkpoint);
  if (!calibration || !calibration->has("activation_ranges")) return out;
  const Config ranges = calibration->object("activation_ranges");
  for (const Linear* linear : model.linears()) {
    const Parameter& weight = linear->parts().front().weight;
    if (!weight.scheme || !is_static(weight.scheme->activations) || !ranges.has(linear->site().name)) continue;
    const Config range = ranges.object(linear->site().name);
    SiteFacts site;
    site.name = linear->site().name;
    std::tie(site.block, site.kind) = place_of_layer(site.name);
    site.fixed = static_range(weight.scheme->activations, weight.input);
    site.fixed->method = range.text("range", "");
    site.fixed->clipped_share = range.number("clipped_share");
    site.fixed->relative_error = range.number("relative_error");
    out.push_back(std::move(site));
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> calibration_facts(const Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, std::string>> out;
  const std::optional<Config> calibration = calibration_of(checkpoint);
  if (!calibration) return out;
  out.emplace_back(
      "samples",
      fmt::format("{} of at most {} tokens, {} in all", format_count(calibration->integer("samples")),
                  format_count(calibration->integer("sequence_length")), format_count(calibration->integer("tokens"))));
  out.emplace_back("drawn by seed", fmt::format("{}", calibration->integer("seed")));
  if (calibration->has("data")) out.emplace_back("SHA-256 of the data", calibration->object("data").text("sha256"));
  const std::vector<Config> folds = objects(*calibration, "folds");
  if (!folds.empty()) {
    double least = INFINITY, most = -INFINITY;
    for (const Config& fold : folds) {
      if (!fold.has("alpha")) continue;
      least = std::min(least, fold.number("alpha"));
      most = std::max(most, fold.number("alpha"));
    }
    std::string text = fmt::format("{} pairs of layers", format_count(std::ssize(folds)));
    if (least <= most) text += fmt::format(", alpha from {} to {}", format_number(least), format_number(most));
    out.emplace_back("folds", text);
  }
  return out;
}

class Reporter {
 public:
  Reporter(const ReportOptions& options, const Command& command);

  ModelFacts run();
  std::string backend() const { return backend_; }

 private:
  void describe_reference();
  void measure_weights();
  void measure_activations();
  void measure_runs();
  void compare(Session& reference, Session& other, VariantFacts& variant);
  void compare_predictions(Session& reference, Session& other, VariantFacts& variant);
  void compare_hidden_states(Session& reference, Session& other, VariantFacts& variant);
  void measure_reference_alone(Session& reference);
  void time(Session& session, VariantFacts& variant);
  TextWindows windows(const Session& a, const Session& b) const;
  std::unique_ptr<Model> load(const Candidate& candidate) const {
    return load_model(Checkpoint::open(candidate.path), candidate.recipe ? &*candidate.recipe : nullptr);
  }

  const ReportOptions& options_;
  WindowOptions windows_;
  Candidate reference_;
  std::vector<Candidate> candidates_;
  ModelFacts facts_;
  std::string backend_;
};

Reporter::Reporter(const ReportOptions& options, const Command& command)
    : options_(options), windows_(options.text.parsed()) {
  if (options.data.empty()) {
    if (const std::string given = TextOptions::first_given(command); !given.empty())
      fail<UsageError>("{} says how to read a text: add --data TEXT, or leave it out", given);
    if (options.limit) fail<UsageError>("--limit says how much of a text to read: add --data TEXT, or leave it out");
  }
  if (options.recipes.empty() && !options.settings.empty())
    fail<UsageError>("--set changes a recipe: add --recipe NAME");
  windows_.limit = options.limit;
  reference_ = {.name = "", .path = options.against.value_or(options.models.front()), .recipe = std::nullopt};
  for (const std::string& model : options.models) {
    if (!options.against && &model == &options.models.front()) continue;
    candidates_.push_back({.name = base_name(model), .path = model, .recipe = std::nullopt});
  }
  for (const std::string& name : options.recipes) {
    const Recipe recipe = Recipe::load(name, options.settings);
    candidates_.push_back({.name = recipe.name(), .path = reference_.path, .recipe = recipe});
  }
  // A figure must be known by its name.
  for (size_t i = 0; i < candidates_.size(); ++i) {
    int64_t same = 1;
    for (size_t j = 0; j < i; ++j) same += candidates_[j].name == candidates_[i].name ? 1 : 0;
    if (same > 1) candidates_[i].name += fmt::format(" ({})", same);
  }
}

void Reporter::describe_reference() {
  const Checkpoint checkpoint = Checkpoint::open(reference_.path);
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  const ModelInfo& info = model->info();
  facts_.name = base_name(options_.models.front());
  facts_.architecture = info.architecture;
  facts_.blocks = info.blocks;
  facts_.width = info.width;
  facts_.vocabulary = info.vocabulary;
  facts_.max_positions = info.max_positions;
  for (const std::string& name : checkpoint.names()) facts_.parameters += checkpoint.describe(name).shape.elements();
  const std::vector<const Linear::Part*> parts = model->linear_parts();
  const bool quantized = std::any_of(parts.begin(), parts.end(), [](const auto* part) { return part->weight.scheme; });
  reference_.name = quantized ? "as stored" : "float";
  facts_.reference.name = reference_.name;
  facts_.reference.bytes = stored_bytes(checkpoint, *model);
  facts_.reference.layers = measure_layers(*model, *model, {}, options_.threads);
  if (quantized && !candidates_.empty()) {
    facts_.reference.notes.push_back(
        "the reference is quantized itself: differences are from it, not from a float model (--against FLOAT_MODEL)");
  }
  for (const Candidate& candidate : candidates_) variant_named(facts_, candidate.name);
}

void Reporter::measure_weights() {
  const std::unique_ptr<Model> reference = load(reference_);
  for (const Candidate& candidate : candidates_) {
    const Checkpoint checkpoint = Checkpoint::open(candidate.path);
    const std::unique_ptr<Model> model = load_model(checkpoint, candidate.recipe ? &*candidate.recipe : nullptr);
    VariantFacts& variant = variant_named(facts_, candidate.name);
    variant.bytes = stored_bytes(checkpoint, *model);
    if (candidate.recipe) {
      variant.recipe = candidate.recipe->text();
      warn_of_unmatched(candidate.name, unmatched_patterns(*candidate.recipe, *model));
    }
    variant.calibration = calibration_facts(checkpoint);
    if (variant.sites.empty()) variant.sites = calibrated_sites(checkpoint, *model);
    Progress progress("weights of " + candidate.name, std::ssize(model->linear_parts()), "layers");
    variant.layers = measure_layers(*model, *reference, folded_layers(checkpoint), options_.threads,
                                    [&](int64_t layers) { progress.advance(layers); });
  }
}

void Reporter::measure_activations() {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = options_.threads});  // outlives the model
  const std::unique_ptr<Model> model = load(reference_);
  const std::vector<const Linear::Part*> parts = model->linear_parts();
  // Codes flow through a quantized model, which says little of what they were made from.
  if (std::any_of(parts.begin(), parts.end(), [](const auto* part) { return part->weight.scheme; })) return;
  const Tokenizer tokenizer = Tokenizer::load(reference_.path);
  const CalibrationOptions sample = {.samples = 32,
                                     .sequence_length = std::min<int64_t>(128, model->info().max_positions)};
  const CalibrationData data = read_calibration_data(options_.data, tokenizer, model->info(), sample);
  Progress progress("activations", data.samples.sequences() * model->pieces(), "samples");
  const bool static_attention = std::ranges::any_of(candidates_, [](const Candidate& candidate) {
    return candidate.recipe && is_static(candidate.recipe->attention());
  });
  const SiteObservation seen(
      *model, *backend, data.samples,
      static_attention ? SiteObservation::Attention::kWatched : SiteObservation::Attention::kLeftOut,
      [&](int64_t samples) { progress.advance(samples); });
  facts_.sample = fmt::format("{} tokens in {} samples of {}", format_count(data.samples.tokens()),
                              data.samples.sequences(), base_name(options_.data));
  facts_.reference.sites = seen.facts();
  for (const Candidate& candidate : candidates_) {
    // A checkpoint's scales may be for inputs that its own weights have changed.
    if (candidate.recipe) variant_named(facts_, candidate.name).sites = seen.static_facts(*load(candidate));
  }
}

TextWindows Reporter::windows(const Session& a, const Session& b) const {
  const Tokenizer tokenizer = Tokenizer::load(reference_.path);
  return read_windows(options_.data, tokenizer, windows_,
                      std::min(a.model().info().max_positions, b.model().info().max_positions));
}

void Reporter::compare_predictions(Session& reference, Session& other, VariantFacts& variant) {
  const TextWindows text = windows(reference, other);
  Progress progress("comparing " + variant.name, std::ssize(text.windows), "windows");
  const DecoderComparison result =
      compare_decoders(reference, other, text, options_.threads, [&](int64_t done) { progress.advance(done); });
  const auto measured = [](const Estimate& estimate) { return MeasuredValue{estimate.value, estimate.standard_error}; };
  variant.kl = measured(result.kl_mean);
  variant.top1_agreement = result.top1_agreement;
  variant.perplexity = measured(result.other.per_token());
  facts_.reference.perplexity = measured(result.reference.per_token());
  facts_.accuracy_data = fmt::format("{}: {} tokens in windows of {}", base_name(options_.data),
                                     format_count(result.tokens), format_count(text.window));
}

void Reporter::compare_hidden_states(Session& reference, Session& other, VariantFacts& variant) {
  std::vector<std::string> lines = read_lines(options_.data);
  std::erase(lines, "");
  if (options_.limit && std::cmp_less(*options_.limit, lines.size()))
    lines.resize(static_cast<size_t>(*options_.limit));
  Progress progress("comparing " + variant.name, std::ssize(lines), "lines");
  const Comparison result = compare_outputs(reference, other, Tokenizer::load(reference_.path), lines,
                                            [&](int64_t done) { progress.advance(done); });
  variant.output_error = result.error.relative_error;
  variant.cosine_mean = result.error.cosine_mean;
  variant.cosine_min = result.error.cosine_min;
  facts_.accuracy_data = fmt::format("{}: {} tokens in {} lines", base_name(options_.data),
                                     format_count(result.error.tokens), format_count(std::ssize(lines)));
}

void Reporter::compare(Session& reference, Session& other, VariantFacts& variant) {
  if (predicts_next_token(reference.model().info()) && predicts_next_token(other.model().info())) {
    compare_predictions(reference, other, variant);
  } else {
    compare_hidden_states(reference, other, variant);
  }
}

void Reporter::measure_reference_alone(Session& reference) {
  if (!predicts_next_token(reference.model().info())) return;
  const TextWindows text = windows(reference, reference);
  Progress progress("perplexity", std::ssize(text.windows), "windows");
  const NllSums sums =
      measure_perplexity(reference, text, options_.threads, [&](int64_t done) { progress.advance(done); });
  facts_.reference.perplexity = MeasuredValue{sums.per_token().value, sums.per_token().standard_error};
  facts_.accuracy_data = fmt::format("{}: {} tokens in windows of {}", base_name(options_.data),
                                     format_count(sums.tokens()), format_count(text.window));
}

void Reporter::time(Session& session, VariantFacts& variant) {
  const ModelInfo& info = session.model().info();
  if (predicts_next_token(info)) {
    DecoderLoad load;
    load.repetitions = 3;
    load.decode_tokens = std::clamp<int64_t>(info.max_positions / 4, 1, load.decode_tokens);
    load.seq = std::clamp<int64_t>(info.max_positions - load.decode_tokens, 1, load.seq);
    const DecoderTiming timing = time_decoder(session, load);
    variant.prefill_tokens_per_s = timing.prefill_tokens_per_s();
    variant.decode_tokens_per_s = timing.decode_tokens_per_s();
    facts_.speed_load = fmt::format("a prompt of {} tokens, then {} more, the median of {} runs; {}", load.seq,
                                    load.decode_tokens, load.repetitions, session.backend().describe());
  } else {
    constexpr int64_t kSequences = 8, kRuns = 5;
    const int64_t seq = std::min<int64_t>(128, info.max_positions);
    variant.forward_ms = time_forward(session, random_batch(info, kSequences, seq), 1, kRuns).median_ms;
    facts_.speed_load =
        fmt::format("{} × {} tokens, the median of {} runs; {}", kSequences, seq, kRuns, session.backend().describe());
  }
}

void Reporter::measure_runs() {
  if (options_.data.empty() && options_.no_speed) return;
  Session reference = open_session(reference_.path, reference_.recipe, options_.threads);
  backend_ = reference.backend().describe();
  facts_.reference.packed_bytes = reference.model().packed_bytes();
  if (!options_.no_speed) time(reference, facts_.reference);
  for (const Candidate& candidate : candidates_) {
    VariantFacts& variant = variant_named(facts_, candidate.name);
    Session other = open_session(candidate.path, candidate.recipe, options_.threads);
    variant.packed_bytes = other.model().packed_bytes();
    if (!options_.no_speed) time(other, variant);
    if (!options_.data.empty()) compare(reference, other, variant);
  }
  if (candidates_.empty() && !options_.data.empty()) measure_reference_alone(reference);
}

ModelFacts Reporter::run() {
  describe_reference();
  // What is said in files is looked at first: a wrong one should not cost minutes.
  ModelFacts from_files = facts_;
  for (const std::string& file : options_.results) add_results(file, from_files);
  if (!options_.data.empty()) measure_activations();
  measure_runs();
  measure_weights();
  for (const std::string& file : options_.results) add_results(file, facts_);
  return std::move(facts_);
}

void run(const ReportOptions& options, const Command& command) {
  if (options.out.empty() && !options.json) fail<UsageError>("--out FILE.html or --json: where is the report to go?");
  // A folder that is not there is told now, not after minutes.
  std::optional<OutputFile> file;
  if (!options.out.empty()) file.emplace(options.out);
  Reporter reporter(options, command);
  const ModelFacts facts = reporter.run();
  if (file) {
    std::string program = "Octet " OCTET_VERSION;
    if (!reporter.backend().empty()) program += "; " + reporter.backend();
    const std::string page = report_page(facts, program);
    file->write(page);
    file->commit();
    if (!options.json) fmt::print("{}: {}\n", options.out, format_bytes(std::ssize(page)));
  }
  if (options.json) print_json(to_json(facts));
}

}  // namespace

void add_report(Program& program) {
  auto options = std::make_shared<ReportOptions>();
  Command command = program.add_subcommand(
      "report", "Write a page of HTML on a model and what quantization did to it: accuracy, size, speed, every layer");
  command
      .add_option("MODEL", options->models,
                  "Models to show: Hugging Face model directories or GGUF files; without --against the first is what "
                  "the others are compared with")
      .required();
  command.add_option("--against", options->against, "The float model that the others, and recipes, are compared with")
      .type_name("FLOAT_MODEL");
  command
      .add_option("--recipe", options->recipes,
                  "Show the reference quantized so too: a built-in recipe or a JSON file; may be given several times")
      .type_name("NAME|FILE");
  command.add_option("--set", options->settings, "Change a value of every recipe: weights.bits=8")
      .type_name("KEY=VALUE")
      .allow_extra_args(false);
  command
      .add_option("--data", options->data,
                  "Text to measure accuracy and activations on: of encoders, a line an input, empty lines left out")
      .type_name("TEXT");
  command
      .add_option("--limit", options->limit,
                  "Use the first N lines only; of decoders, documents, or windows of one document")
      .positive()
      .type_name("N");
  options->text.add_to(command);
  command
      .add_option("--results", options->results,
                  "Show what another command found too: what report, compare, bench, quantize, sensitivity or "
                  "autoquant printed with --json")
      .type_name("[NAME=]FILE");
  command.add_flag("--no-speed", options->no_speed, "Time nothing");
  command.add_option("--out", options->out, "The page to write; it replaces one that is there").type_name("FILE");
  options->CommonOptions::add_to(command);
  command.footer(
      "The page is one file that needs no network and no script. What a file given by --results measured belongs to "
      "the\n"
      "variant NAME, else to the recipe that it names, else to one called like the file; it counts before what is\n"
      "measured here.\n"
      "Examples:\n"
      "  octet report smollm2 --recipe w8a16 --recipe w4a16_g128 --data wikitext.txt --limit 64 --out report.html\n"
      "  octet report smollm2-gptq smollm2-awq --against smollm2 --data wikitext.txt --no-speed --out report.html\n"
      "  octet report smollm2 --results w8a16=compare.json --results w8a16=bench.json --no-speed --out report.html\n"
      "  octet report minilm --recipe w8a8_dynamic --data sentences.txt --json > facts.json");
  command.callback([options, command] { run(*options, command); });
}

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/data/pairs.h"
#include "octet/eval/compare.h"
#include "octet/eval/task.h"
#include "octet/report/format.h"
#include "octet/report/table.h"

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

struct DemoOptions : CommonOptions {
  std::optional<std::string> model, data;
};

// What one way of running the model gave.
struct DemoRow {
  std::string recipe;
  int64_t bytes = 0;
  std::optional<double> accuracy;
  double relative_error = 0;
  Timing timing;
};

// The program's own small model: share/octet/demo_encoder beside the folder of the program.
fs::path demo_encoder() {
  const fs::path program = fs::read_symlink("/proc/self/exe");
  fs::path folder = program.parent_path().parent_path() / "share" / "octet" / "demo_encoder";
  if (!fs::exists(folder))
    fail("{}: the demo's model is not there. Install Octet whole, or name a model with --model DIR.", folder.string());
  return folder;
}

std::optional<double> accuracy(Session& session, const fs::path& model, const fs::path& data) {
  if (session.model().info().output != OutputKind::kHiddenStates) return std::nullopt;
  const TaskResult result = run_similarity(session, {.model = model, .data = data, .limit = {}});
  for (const TaskResult::Metric& metric : result.metrics) {
    if (metric.name == "accuracy") return metric.value;
  }
  fail("{}: its pairs must have labels 0 or 1", data.string());
}

std::vector<DemoRow> measure(const DemoOptions& options, const fs::path& model, const fs::path& data) {
  constexpr int64_t kBatch = 8, kLongest = 128, kRounds = 15;
  const SentencePairs pairs = read_sentence_pairs(data);
  const Tokenizer tokenizer = Tokenizer::load(model);
  std::vector<std::string> names = {"fp32"};
  for (const std::string& name : Recipe::built_in_names()) names.push_back(name);

  // One after another into memory, so that the timed rounds below can take turns.
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<DemoRow> rows;
  Progress progress("measuring", static_cast<int64_t>(names.size()) * (kRounds + 1), "steps");
  for (const std::string& name : names) {
    const std::optional<Recipe> recipe = name == "fp32" ? std::nullopt : std::optional(Recipe::load(name, {}));
    sessions.push_back(
        std::make_unique<Session>(model, LoadOptions{.recipe = recipe, .cpu = {.threads = options.threads}}));
    Session& session = *sessions.back();
    DemoRow row{.recipe = name,
                .bytes = stored_bytes(session.checkpoint(), session.model()),
                .accuracy = accuracy(session, model, data),
                .timing = {}};
    if (recipe)
      row.relative_error = compare_outputs(*sessions.front(), session, tokenizer, pairs.first).error.relative_error;
    rows.push_back(std::move(row));
    progress.advance();
  }
  const ModelInfo& info = sessions.front()->model().info();
  const TokenBatch batch = random_batch(info, kBatch, std::min(info.max_positions, kLongest));
  std::vector<std::vector<double>> times(sessions.size());
  for (int64_t round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < sessions.size(); ++i) {
      times[i].push_back(time_forward(*sessions[i], batch, round == 0 ? 1 : 0, 1).min_ms);
      progress.advance();
    }
  }
  for (size_t i = 0; i < sessions.size(); ++i) rows[i].timing = summarize(times[i]);
  return rows;
}

void print_as_json(const std::vector<DemoRow>& rows) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const DemoRow& row : rows) {
    json.push_back({{"recipe", row.recipe},
                    {"bytes", row.bytes},
                    {"accuracy", row.accuracy ? nlohmann::ordered_json(*row.accuracy) : nlohmann::ordered_json()},
                    {"relative_error", row.relative_error},
                    {"min_ms", row.timing.min_ms},
                    {"median_ms", row.timing.median_ms}});
  }
  print_json(json);
}

void print_for_people(const std::vector<DemoRow>& rows, const fs::path& model) {
  fmt::print("{}\n\n", model.string());
  Table table({{"recipe", Table::Align::kLeft, ""},
               {"size", Table::Align::kDecimal, ""},
               {"accuracy", Table::Align::kDecimal, "%"},
               {"error against fp32", Table::Align::kDecimal, "%"},
               {"time", Table::Align::kDecimal, "ms"},
               {"speed", Table::Align::kDecimal, "× fp32"}});
  for (const DemoRow& row : rows) {
    table.add_row({row.recipe, format_bytes(row.bytes), row.accuracy ? fmt::format("{:.1f}", 100 * *row.accuracy) : "–",
                   row.recipe == "fp32" ? "–" : fmt::format("{:.2f}", 100 * row.relative_error),
                   fmt::format("{:.1f}", row.timing.median_ms),
                   fmt::format("{:.2f}", rows.front().timing.median_ms / row.timing.median_ms)});
  }
  fmt::print("{}", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  fmt::print(
      "\naccuracy: pairs of sentences told apart by the cosine of their vectors;  error: of the outputs, ‖fp32 - "
      "quantized‖ / ‖fp32‖;\n"
      "time: median of a forward pass of 8 sequences of up to 128 tokens\n");
}

void run(const DemoOptions& options) {
  const fs::path model = options.model ? fs::path(*options.model) : demo_encoder();
  const fs::path data = options.data ? fs::path(*options.data) : demo_encoder() / "pairs.tsv";
  const std::vector<DemoRow> rows = measure(options, model, data);
  if (options.json) {
    print_as_json(rows);
  } else {
    print_for_people(rows, model);
  }
}

}  // namespace

void add_demo(CLI::App& app) {
  auto options = std::make_shared<DemoOptions>();
  CLI::App* command = app.add_subcommand("demo", "Quantize a small model by every recipe and show what that did");
  command->add_option("--model", options->model, "A float model of your own, instead of the one that comes with Octet")
      ->type_name("DIR");
  command->add_option("--data", options->data, "Labelled pairs of sentences (tsv: label, sentence1, sentence2)")
      ->type_name("FILE");
  options->add_to(*command);
  command->footer("Examples:\n  octet demo\n  octet demo --model minilm --json");
  command->callback([options] { run(*options); });
}

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "apps/octet/demo.h"
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

std::optional<double> accuracy(Session& session, const fs::path& model, const fs::path& data) {
  if (session.model().info().output != OutputKind::kHiddenStates) return std::nullopt;
  const TaskResult result = run_similarity(session, {.model = model, .data = data});
  for (const TaskResult::Metric& metric : result.metrics) {
    if (metric.name == "accuracy") return metric.value;
  }
  fail("{}: its pairs must have labels 0 or 1", data.string());
}

}  // namespace

EncoderDemo::EncoderDemo(const fs::path& model, const fs::path& data, int threads) : model_(model) {
  constexpr int64_t kBatch = 8, kLongest = 128, kRounds = 15;
  const SentencePairs pairs = read_sentence_pairs(data);
  const Tokenizer tokenizer = Tokenizer::load(model);
  DemoModels models(model, threads);
  Progress progress("measuring", std::ssize(models.names) * (kRounds + 1), "steps");
  for (size_t i = 0; i < models.names.size(); ++i) {
    Session& session = *models.sessions[i];
    Row row{.recipe = models.names[i],
            .bytes = stored_bytes(session.checkpoint(), session.model()),
            .accuracy = accuracy(session, model, data),
            .timing = {}};
    if (i > 0)
      row.relative_error = compare_outputs(models.fp32(), session, tokenizer, pairs.first).error.relative_error;
    rows_.push_back(std::move(row));
    progress.advance();
  }
  const ModelInfo& info = models.fp32().model().info();
  const TokenBatch batch = random_batch(info, kBatch, std::min(info.max_positions, kLongest));
  std::vector<std::vector<double>> times(rows_.size());
  for (int64_t round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < rows_.size(); ++i) {
      times[i].push_back(time_forward(*models.sessions[i], batch, round == 0 ? 1 : 0, 1).min_ms);
      progress.advance();
    }
  }
  for (size_t i = 0; i < rows_.size(); ++i) rows_[i].timing = summarize(times[i]);
}

nlohmann::ordered_json EncoderDemo::json() const {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Row& row : rows_) {
    json.push_back({{"recipe", row.recipe},
                    {"bytes", row.bytes},
                    {"accuracy", row.accuracy ? nlohmann::ordered_json(*row.accuracy) : nlohmann::ordered_json()},
                    {"relative_error", row.relative_error},
                    {"min_ms", row.timing.min_ms},
                    {"median_ms", row.timing.median_ms}});
  }
  return json;
}

void EncoderDemo::print() const {
  fmt::print("{}\n\n", model_.string());
  Table table({{"recipe", Table::Align::kLeft, ""},
               {"size", Table::Align::kDecimal, ""},
               {"accuracy", Table::Align::kDecimal, "%"},
               {"error against fp32", Table::Align::kDecimal, "%"},
               {"time", Table::Align::kDecimal, "ms"},
               {"speed", Table::Align::kDecimal, "× fp32"}});
  for (const Row& row : rows_) {
    table.add_row({row.recipe, format_bytes(row.bytes), row.accuracy ? fmt::format("{:.1f}", 100 * *row.accuracy) : "–",
                   row.recipe == "fp32" ? "–" : fmt::format("{:.2f}", 100 * row.relative_error),
                   fmt::format("{:.1f}", row.timing.median_ms),
                   fmt::format("{:.2f}", rows_.front().timing.median_ms / row.timing.median_ms)});
  }
  fmt::print("{}", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  fmt::print(
      "\naccuracy: pairs of sentences told apart by the cosine of their vectors;  error: of the outputs, ‖fp32 - "
      "quantized‖ / ‖fp32‖;\n"
      "time: median of a forward pass of 8 sequences of up to 128 tokens\n");
}

}  // namespace octet::cli

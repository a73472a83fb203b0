// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/compare.h"

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/data/lines.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct CompareOptions : ModelOptions {
  std::string other, data;
  std::optional<int64_t> limit;
};

void run(const CompareOptions& options) {
  std::vector<std::string> lines = read_lines(options.data);
  std::erase(lines, "");
  if (options.limit && std::cmp_less(*options.limit, lines.size())) lines.resize(static_cast<size_t>(*options.limit));
  Session reference = open_session(options.model, std::nullopt, options.threads);
  Session other = open_session(options.other, recipe_of(options.recipe, options.settings), options.threads);
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  Progress progress("comparing", static_cast<int64_t>(lines.size()), "lines");
  const Comparison result =
      compare_outputs(reference, other, tokenizer, lines, [&](int64_t done) { progress.advance(done); });
  const int64_t bytes_a = stored_bytes(reference.checkpoint(), reference.model()),
                bytes_b = stored_bytes(other.checkpoint(), other.model());
  if (result.error.truncated > 0)
    warn(fmt::format("{} of {} lines were truncated", result.error.truncated, lines.size()));
  if (options.json) {
    print_json({{"cosine_mean", result.error.cosine_mean},
                {"cosine_min", result.error.cosine_min},
                {"max_abs_difference", result.error.max_abs_difference},
                {"relative_error", result.error.relative_error},
                {"rows", result.error.rows},
                {"tokens", result.error.tokens},
                {"a", {{"bytes", bytes_a}, {"ms", result.reference_ms}}},
                {"b", {{"bytes", bytes_b}, {"ms", result.other_ms}}},
                {"speedup", result.reference_ms / result.other_ms}});
    return;
  }
  fmt::print("outputs of B against A, {} rows of {} tokens\n", format_count(result.error.rows),
             format_count(result.error.tokens));
  fmt::print("  cosine          {:.6f} mean, {:.6f} lowest\n", result.error.cosine_mean, result.error.cosine_min);
  fmt::print("  relative error  {}\n", format_percent(result.error.relative_error, 2));
  fmt::print("  largest error   {}\n", format_number(result.error.max_abs_difference));
  fmt::print("size              {} → {}  ({:.2f} of A)\n", format_bytes(bytes_a), format_bytes(bytes_b),
             static_cast<double>(bytes_b) / static_cast<double>(bytes_a));
  fmt::print("time              {} → {}  ({:.2f} times as fast)\n", format_ms(result.reference_ms),
             format_ms(result.other_ms), result.reference_ms / result.other_ms);
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand("compare", "Compare the outputs, bytes and speed of two models on a text");
  options->ModelOptions::add_to(*command);
  command->remove_option(command->get_option("MODEL"));
  command->add_option("MODEL_A", options->model, "The reference: a Hugging Face model directory")->required();
  command->add_option("MODEL_B", options->other, "The model to judge; --recipe applies to it")->required();
  command->add_option("--data", options->data, "Text, a line an input; empty lines are left out")
      ->required()
      ->type_name("TEXT");
  command->add_option("--limit", options->limit, "Use the first N lines only")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command->footer(
      "Examples:\n"
      "  octet compare minilm minilm-w8a8 --data sentences.txt\n"
      "  octet compare minilm minilm --recipe w8a16 --data sentences.txt --json");
  command->callback([options] { run(*options); });
}

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/compare.h"

#include <algorithm>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/data/lines.h"
#include "octet/eval/compare_decoders.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct CompareOptions : ModelOptions {
  std::string other, data;
  std::optional<int64_t> limit;
  TextOptions text;
};

struct Sizes {
  int64_t a, b;
};

Sizes sizes_of(const Session& a, const Session& b) {
  return {stored_bytes(a.checkpoint(), a.model()), stored_bytes(b.checkpoint(), b.model())};
}

void print_sizes(const Sizes& bytes) {
  fmt::print("size              {} → {}  ({:.2f} of A)\n", format_bytes(bytes.a), format_bytes(bytes.b),
             static_cast<double>(bytes.b) / static_cast<double>(bytes.a));
}

// By what name B's recipe goes; null without one.
nlohmann::ordered_json recipe_name(const CompareOptions& options) {
  const std::optional<Recipe> recipe = recipe_of(options.recipe, options.settings);
  return recipe ? nlohmann::ordered_json(recipe->name()) : nlohmann::ordered_json();
}

nlohmann::ordered_json decoder_json(const NllSums& sums, int64_t bytes) {
  return {{"bytes", bytes},
          {"perplexity", sums.per_token().value},
          {"perplexity_standard_error", sums.per_token().standard_error}};
}

void run_decoders(Session& reference, Session& other, const CompareOptions& options, WindowOptions windows) {
  windows.limit = options.limit;
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  const TextWindows text =
      read_windows(options.data, tokenizer, windows,
                   std::min(reference.model().info().max_positions, other.model().info().max_positions));
  std::optional<Progress> progress(std::in_place, "comparing", static_cast<int64_t>(text.windows.size()), "windows");
  const DecoderComparison result =
      compare_decoders(reference, other, text, options.threads, [&](int64_t done) { progress->advance(done); });
  progress.reset();
  const Sizes bytes = sizes_of(reference, other);
  if (options.json) {
    print_json({{"recipe", recipe_name(options)},
                {"tokens", result.tokens},
                {"windows", text.windows.size()},
                {"kl_mean", result.kl_mean.value},
                {"kl_mean_standard_error", result.kl_mean.standard_error},
                {"kl_p50", result.kl_p50},
                {"kl_p90", result.kl_p90},
                {"kl_p99", result.kl_p99},
                {"kl_max", result.kl_max},
                {"top1_agreement", result.top1_agreement},
                {"perplexity_ratio", result.perplexity_ratio},
                {"a", decoder_json(result.reference, bytes.a)},
                {"b", decoder_json(result.other, bytes.b)}});
    return;
  }
  fmt::print("predictions of B against A, {} tokens in {} windows\n", format_count(result.tokens),
             format_count(static_cast<int64_t>(text.windows.size())));
  fmt::print("  KL divergence   {} ± {} mean;  50 % {}, 90 % {}, 99 % {}, largest {} nats a token\n",
             format_number(result.kl_mean.value), format_number(result.kl_mean.standard_error, 2),
             format_number(result.kl_p50), format_number(result.kl_p90), format_number(result.kl_p99),
             format_number(result.kl_max));
  fmt::print("  same first      {}\n", format_percent(result.top1_agreement, 2));
  fmt::print("  perplexity      {:.4f} → {:.4f}  ({:.4f} of A)\n", result.reference.per_token().value,
             result.other.per_token().value, result.perplexity_ratio);
  print_sizes(bytes);
}

void run_encoders(Session& reference, Session& other, const CompareOptions& options) {
  std::vector<std::string> lines = read_lines(options.data);
  std::erase(lines, "");
  if (options.limit && std::cmp_less(*options.limit, lines.size())) lines.resize(static_cast<size_t>(*options.limit));
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  Progress progress("comparing", static_cast<int64_t>(lines.size()), "lines");
  const Comparison result =
      compare_outputs(reference, other, tokenizer, lines, [&](int64_t done) { progress.advance(done); });
  const Sizes bytes = sizes_of(reference, other);
  if (result.error.truncated > 0)
    warn(fmt::format("{} of {} lines were truncated", result.error.truncated, lines.size()));
  if (options.json) {
    print_json({{"recipe", recipe_name(options)},
                {"cosine_mean", result.error.cosine_mean},
                {"cosine_min", result.error.cosine_min},
                {"max_abs_difference", result.error.max_abs_difference},
                {"relative_error", result.error.relative_error},
                {"rows", result.error.rows},
                {"tokens", result.error.tokens},
                {"a", {{"bytes", bytes.a}, {"ms", result.reference_ms}}},
                {"b", {{"bytes", bytes.b}, {"ms", result.other_ms}}},
                {"speedup", result.reference_ms / result.other_ms}});
    return;
  }
  fmt::print("outputs of B against A, {} rows of {} tokens\n", format_count(result.error.rows),
             format_count(result.error.tokens));
  fmt::print("  cosine          {:.6f} mean, {:.6f} lowest\n", result.error.cosine_mean, result.error.cosine_min);
  fmt::print("  relative error  {}\n", format_percent(result.error.relative_error, 2));
  fmt::print("  largest error   {}\n", format_number(result.error.max_abs_difference));
  print_sizes(bytes);
  fmt::print("time              {} → {}  ({:.2f} times as fast)\n", format_ms(result.reference_ms),
             format_ms(result.other_ms), result.reference_ms / result.other_ms);
}

void run(const CompareOptions& options, const Command& command) {
  const WindowOptions windows = options.text.parsed();
  Session reference = open_session(options.model, std::nullopt, options.threads);
  Session other = open_session(options.other, recipe_of(options.recipe, options.settings), options.threads);
  if (predicts_next_token(reference.model().info()) && predicts_next_token(other.model().info())) {
    run_decoders(reference, other, options, windows);
    return;
  }
  if (const std::string given = TextOptions::first_given(command); !given.empty())
    fail<UsageError>("{} is for two decoders; leave it out", given);
  run_encoders(reference, other, options);
}

}  // namespace

void add_compare(Program& program) {
  auto options = std::make_shared<CompareOptions>();
  Command command = program.add_subcommand(
      "compare", "Compare two models on a text: outputs, bytes and speed, of decoders predictions and perplexity");
  options->ModelOptions::add_to(command);
  command.remove_option("MODEL");
  command.add_option("MODEL_A", options->model, "The reference: a Hugging Face model directory").required();
  command.add_option("MODEL_B", options->other, "The model to judge; --recipe applies to it").required();
  command.add_option("--data", options->data, "Text: of encoders, a line an input, empty lines left out")
      .required()
      .type_name("TEXT");
  command
      .add_option("--limit", options->limit,
                  "Use the first N lines only; of decoders, documents, or windows of one document")
      .positive()
      .type_name("N");
  options->text.add_to(command);
  command.footer(
      "Examples:\n"
      "  octet compare minilm minilm-w8a8 --data sentences.txt\n"
      "  octet compare minilm minilm --recipe w8a16 --data sentences.txt --json\n"
      "  octet compare smollm2 smollm2 --recipe w8a16 --data wikitext.txt --window 512 --limit 64");
  command.callback([options, command] { run(*options, command); });
}

}  // namespace octet::cli

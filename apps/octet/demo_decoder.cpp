// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "apps/octet/demo.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/data/lines.h"
#include "octet/eval/compare_decoders.h"
#include "octet/generate/generation_config.h"
#include "octet/generate/generator.h"
#include "octet/report/format.h"
#include "octet/report/table.h"
#include "octet/text/stream_decoder.h"

namespace octet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTexts = 32, kTextTokens = 192;  // that fp32 samples: some thousand tokens to measure on
constexpr int64_t kStoryTokens = 48;
constexpr int64_t kRounds = 9;

// The beginnings that come with a model, or one that fits most.
std::vector<std::string> read_beginnings(const fs::path& model) {
  std::vector<std::string> lines;
  if (fs::exists(model / "prompts.txt")) lines = read_lines(model / "prompts.txt");
  std::erase(lines, "");
  if (lines.empty()) lines.emplace_back("Once upon a time");
  return lines;
}

// Texts that the model itself samples, one window each: what it finds most natural, so that its own perplexity on them
// says how much choice it sees, and every difference of another model is one from it. Texts begin as `beginnings` do,
// whose tokens are scored too.
TextWindows sample_texts(Session& session, const Tokenizer& tokenizer, const std::vector<std::string>& beginnings,
                         const std::vector<int32_t>& stop_ids) {
  std::vector<std::vector<int32_t>> prompts;
  GenerateOptions options;
  options.sampling.temperature = 1;
  options.max_tokens = std::min(kTextTokens, session.model().info().max_positions / 2);
  options.stop_ids = stop_ids;
  TextWindows texts;
  for (int64_t i = 0; i < kTexts; ++i) {
    // A seed of its own for each text: those of one prompt would be the same otherwise.
    options.sampling.seed = static_cast<uint64_t>(i);
    const std::vector<std::vector<int32_t>> prompt = {
        tokenizer.encode(beginnings[static_cast<size_t>(i) % beginnings.size()]).ids};
    const Generation text = generate(session, prompt, options).front();
    TokenizedDocument document{.ids = prompt.front(), .bytes = {}, .words = {}};
    document.ids.insert(document.ids.end(), text.ids.begin(), text.ids.end());
    document.bytes.assign(document.ids.size(), 0);
    document.words.assign(document.ids.size(), 0);
    texts.windows.push_back(
        {.document = texts.documents.size(), .begin = 0, .end = std::ssize(document.ids), .first_scored = 1});
    texts.documents.push_back(std::move(document));
  }
  return texts;
}

std::string continuation(Session& session, const Tokenizer& tokenizer, const std::string& prompt,
                         const std::vector<int32_t>& stop_ids) {
  const std::vector<std::vector<int32_t>> ids = {tokenizer.encode(prompt).ids};
  GenerateOptions options;
  options.max_tokens = kStoryTokens;
  options.stop_ids = stop_ids;
  const Generation story = generate(session, ids, options)[0];
  std::vector<int32_t> all = ids.front();
  all.insert(all.end(), story.ids.begin(), story.ids.end());
  std::string text = tokenizer.decode(all).substr(tokenizer.decode(ids.front()).size());
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

DecoderDemo::DecoderDemo(const fs::path& model, int threads) : model_(model) {
  const Tokenizer tokenizer = Tokenizer::load(model);
  const std::vector<std::string> beginnings = read_beginnings(model);
  prompt_ = beginnings.front();
  DemoModels models(model, threads);
  const std::vector<int32_t> stop_ids = read_eos_ids(models.fp32().checkpoint(), tokenizer.eos_id());
  Progress progress("measuring", std::ssize(models.names) * (kRounds + 1), "steps");
  const TextWindows texts = sample_texts(models.fp32(), tokenizer, beginnings, stop_ids);
  for (size_t i = 0; i < models.names.size(); ++i) {
    Session& session = *models.sessions[i];
    const DecoderComparison comparison = compare_decoders(models.fp32(), session, texts, threads);
    tokens_ = comparison.tokens;
    rows_.push_back({.recipe = models.names[i],
                     .bytes = stored_bytes(session.checkpoint(), session.model()),
                     .perplexity = comparison.other.per_token(),
                     .kl = comparison.kl_mean,
                     .top1_agreement = comparison.top1_agreement,
                     .decode_tokens_per_s = 0,
                     .text = continuation(session, tokenizer, prompt_, stop_ids)});
    progress.advance();
  }
  const int64_t longest = models.fp32().model().info().max_positions;
  const DecoderLoad load{.batch = 1,
                         .seq = std::min<int64_t>(64, longest / 2),
                         .decode_tokens = std::min<int64_t>(64, longest / 2),
                         .warm_up = 0,
                         .repetitions = 1};
  std::vector<std::vector<double>> times(rows_.size());
  for (int64_t round = 0; round <= kRounds; ++round) {
    for (size_t i = 0; i < rows_.size(); ++i) {
      const DecoderTiming timing = time_decoder(*models.sessions[i], load);
      if (round == 0) continue;  // warms up
      times[i].push_back(timing.decode.min_ms);
      progress.advance();
    }
  }
  for (size_t i = 0; i < rows_.size(); ++i) {
    rows_[i].decode_tokens_per_s = static_cast<double>(load.decode_tokens) / summarize(times[i]).median_ms * 1e3;
  }
}

nlohmann::ordered_json DecoderDemo::json() const {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Row& row : rows_) {
    rows.push_back({{"recipe", row.recipe},
                    {"bytes", row.bytes},
                    {"perplexity", row.perplexity.value},
                    {"perplexity_standard_error", row.perplexity.standard_error},
                    {"kl", row.kl.value},
                    {"top1_agreement", row.top1_agreement},
                    {"decode_tokens_per_s", row.decode_tokens_per_s},
                    {"text", row.text}});
  }
  return {{"tokens", tokens_}, {"prompt", prompt_}, {"recipes", rows}};
}

void DecoderDemo::print() const {
  fmt::print("{}\n\n", model_.string());
  Table table({{"recipe", Table::Align::kLeft, ""},
               {"size", Table::Align::kDecimal, ""},
               {"perplexity", Table::Align::kDecimal, ""},
               {"KL", Table::Align::kDecimal, "nats"},
               {"same first choice", Table::Align::kDecimal, "%"},
               {"decoding", Table::Align::kDecimal, "tokens/s"},
               {"speed", Table::Align::kDecimal, "× fp32"}});
  for (const Row& row : rows_) {
    const bool quantized = row.recipe != "fp32";
    table.add_row({row.recipe, format_bytes(row.bytes), fmt::format("{:.3f}", row.perplexity.value),
                   quantized ? fmt::format("{:.4f}", row.kl.value) : "–",
                   quantized ? fmt::format("{:.1f}", 100 * row.top1_agreement) : "–",
                   format_count(static_cast<int64_t>(row.decode_tokens_per_s)),
                   fmt::format("{:.2f}", row.decode_tokens_per_s / rows_.front().decode_tokens_per_s)});
  }
  fmt::print("{}", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  fmt::print(
      "\nperplexity, KL(fp32 ‖ quantized) and first choice: a token, on {} tokens of text that fp32 sampled;\n"
      "decoding: median rate of 64 tokens, one after another\n",
      format_count(tokens_));
  fmt::print("\n{}\n", prompt_);
  for (const Row& row : rows_) fmt::print("  {:<18}…{}\n", row.recipe, row.text);
}

}  // namespace octet::cli

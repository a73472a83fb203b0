// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/data/lines.h"
#include "octet/ptq/accumulator_width.h"
#include "octet/report/format.h"
#include "octet/report/table.h"
#include "octet/text/tokenizer.h"

namespace octet::cli {
namespace {

constexpr std::array<int, 4> kShownWidths = {16, 18, 20, 24};
constexpr int kNarrowest = 16, kWidest = 32;  // --json

struct AccumulatorsOptions : ModelOptions {
  std::string data;
  int64_t tokens = 512;
  bool saturating = false;
};

struct Text {
  std::vector<TokenBatch> batches;
  int64_t tokens = 0, truncated = 0;
};

// Lines until there are as many tokens as are wanted.
Text read_text(const AccumulatorsOptions& options, const ModelInfo& model) {
  // Rows of activations that are held at once.
  constexpr int64_t kTokensPerBatch = 512;
  const Tokenizer tokenizer = Tokenizer::load(options.model);
  Text text;
  for (const std::string& line : read_lines(options.data)) {
    if (line.empty()) continue;
    if (text.tokens >= options.tokens) break;
    const int64_t longest = std::min(model.max_positions, options.tokens - text.tokens);
    const Encoding encoding = tokenizer.encode(line, {.truncation = Truncation{.max_length = longest}});
    if (encoding.ids.empty()) continue;
    if (text.batches.empty() || text.batches.back().tokens() + std::ssize(encoding.ids) > kTokensPerBatch) {
      text.batches.emplace_back();
    }
    text.batches.back().add(encoding.ids, encoding.type_ids);
    text.tokens += std::ssize(encoding.ids);
    text.truncated += encoding.dropped > 0 ? 1 : 0;
  }
  if (text.tokens == 0) fail("{}: holds no text to run the model on", options.data);
  return text;
}

void print_as_json(const std::vector<AccumulatorUse>& uses, int64_t tokens) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const AccumulatorUse& use : uses) {
    nlohmann::ordered_json wrapped, saturated;
    for (int width = kNarrowest; width <= kWidest; ++width) {
      wrapped[std::to_string(width)] = use.wrapped_share(width);
      saturated[std::to_string(width)] = use.saturated_share(width);
    }
    layers.push_back({{"layer", use.layer},
                      {"inputs", use.inputs},
                      {"sum_length", use.sum_length},
                      {"data_type_width", use.data_type_width},
                      {"guaranteed_width", use.guaranteed_width},
                      {"widest_seen", use.widest()},
                      {"sums", use.sums},
                      {"wrapped_share", wrapped},
                      {"saturated_share", saturated}});
  }
  print_json({{"tokens", tokens}, {"layers", layers}});
}

void print_for_people(const std::vector<AccumulatorUse>& uses, int64_t tokens, bool saturating) {
  std::vector<Table::Column> columns = {{"layer", Table::Align::kLeft, ""},
                                        {"K", Table::Align::kDecimal, "products"},
                                        {"any codes", Table::Align::kDecimal, "bits"},
                                        {"guaranteed", Table::Align::kDecimal, "bits"},
                                        {"widest seen", Table::Align::kDecimal, "bits"}};
  for (const int width : kShownWidths) {
    columns.push_back({fmt::format("over {}", width), Table::Align::kDecimal, "%"});
  }
  Table table(std::move(columns));
  int64_t sums = 0;
  for (const AccumulatorUse& use : uses) {
    std::vector<std::string> row = {use.layer, format_count(use.sum_length), std::to_string(use.data_type_width),
                                    std::to_string(use.guaranteed_width), std::to_string(use.widest())};
    for (const int width : kShownWidths) {
      const double share = saturating ? use.saturated_share(width) : use.wrapped_share(width);
      row.push_back(share == 0 ? "0" : format_number(100 * share));
    }
    table.add_row(std::move(row));
    sums += use.sums;
  }
  fmt::print("{}", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  fmt::print("{} sums over {} tokens;  over N: the share {} does not fit N bits\n", format_count(sums),
             format_count(tokens), saturating ? "of which a part, added up so far," : "whose result");
}

void run(const AccumulatorsOptions& options) {
  Session session = open_session(options);
  const Text text = read_text(options, session.model().info());
  if (text.truncated > 0) warn(fmt::format("{} lines were truncated", text.truncated));
  std::optional<Progress> progress(std::in_place, "simulating", std::ssize(text.batches), "batches");
  const std::vector<AccumulatorUse> uses =
      measure_accumulators(session, text.batches, [&](int64_t done) { progress->advance(done); });
  progress.reset();
  if (options.json) {
    print_as_json(uses, text.tokens);
  } else {
    print_for_people(uses, text.tokens, options.saturating);
  }
}

}  // namespace

void add_accumulators(Program& program) {
  auto options = std::make_shared<AccumulatorsOptions>();
  Command command = program.add_subcommand(
      "accumulators", "How wide the accumulators of a quantized model's integer products have to be, for hardware");
  options->add_to(command);
  command.add_option("--data", options->data, "Text, a line an input, empty lines left out")
      .required()
      .type_name("TEXT");
  command.add_option("--tokens", options->tokens, "Run on the first N tokens of it")
      .positive()
      .capture_default_str()
      .type_name("N");
  command.add_flag(
      "--saturating", options->saturating,
      "Count sums that do not fit at any point on their way, as accumulators that saturate lose them; "
      "else those whose result does not fit, as overflows on the way cancel where accumulators wrap around");
  command.footer(
      "Examples:\n"
      "  octet accumulators minilm-w8a8 --data sentences.txt\n"
      "  octet accumulators smollm2 --recipe w4a8_g32_dynamic --data wikitext.txt --tokens 128 --json");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

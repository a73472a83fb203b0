// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/eval/benchmark.h"
#include "octet/report/format.h"

namespace octet::cli {
namespace {

struct BenchOptions : ModelOptions {
  int64_t batch = 8, seq = 128, repetitions = 20, warm_up = 3;
};

void run(const BenchOptions& options) {
  Session session = open_session(options);
  const TokenBatch batch = random_batch(session.model().info(), options.batch, options.seq);
  const Timing timing = time_forward(session, batch, options.warm_up, options.repetitions);
  const double tokens_per_s = static_cast<double>(batch.tokens()) / timing.median_ms * 1e3;
  const int64_t packed = session.model().packed_bytes(), workspace = session.workspace().bytes(),
                anonymous = anonymous_bytes();
  if (options.json) {
    print_json({{"backend", session.backend().describe()},
                {"batch", options.batch},
                {"seq", options.seq},
                {"repetitions", timing.repetitions},
                {"min_ms", timing.min_ms},
                {"median_ms", timing.median_ms},
                {"tokens_per_s", tokens_per_s},
                {"packed_bytes", packed},
                {"workspace_bytes", workspace},
                {"anonymous_bytes", anonymous}});
    return;
  }
  fmt::print("{} × {} tokens on {}, {} runs\n", options.batch, options.seq, session.backend().describe(),
             timing.repetitions);
  fmt::print("  time    {} fastest, {} median  ({} tokens/s)\n", format_ms(timing.min_ms), format_ms(timing.median_ms),
             format_number(tokens_per_s));
  fmt::print("  memory  {} packed weights, {} workspace, {} anonymous in all\n", format_bytes(packed),
             format_bytes(workspace), format_bytes(anonymous));
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand("bench", "Time forward passes on random tokens");
  options->add_to(*command);
  command->add_option("--batch", options->batch, "Sequences")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("B");
  command->add_option("--seq", options->seq, "Tokens in each")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("S");
  command->add_option("--repetitions", options->repetitions, "Timed runs")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--warm-up", options->warm_up, "Untimed runs before them")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str()
      ->type_name("N");
  command->footer(
      "Examples:\n  octet bench minilm --batch 8 --seq 128\n  octet bench minilm --batch 1 --seq 16 --recipe "
      "w8a8_dynamic --threads 1 --json");
  command->callback([options] { run(*options); });
}

}  // namespace octet::cli

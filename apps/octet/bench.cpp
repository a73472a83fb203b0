// SPDX-License-Identifier: Apache-2.0
#include <chrono>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/options.h"
#include "octet/backend/cpu/read_bandwidth.h"
#include "octet/base/error.h"
#include "octet/eval/benchmark.h"
#include "octet/generate/prefill.h"
#include "octet/report/format.h"
#include "octet/report/table.h"

namespace octet::cli {
namespace {

struct BenchOptions : ModelOptions {
  std::vector<int64_t> batch, seq, decode_tokens;  ///< lists: every combination is timed
  std::optional<int64_t> repetitions, warm_up;
  std::string kv_dtype;
  bool profile = false;
};

// What time() ran, warm-up included: operations and their shares of the whole.
class Profile {
 public:
  template <class Time>
  Profile(Session& session, Time time) {
    if (session.profile() != nullptr) session.profile()->clear();
    const auto start = std::chrono::steady_clock::now();
    time();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (session.profile() == nullptr) return;
    entries_ = session.profile()->entries();
    seconds_ = elapsed.count();
  }

  void add_to(nlohmann::ordered_json& json) const {
    for (const ProfilingBackend::Entry& entry : entries_) {
      nlohmann::ordered_json one = {{"operation", entry.name},
                                    {"rows", entry.rows},
                                    {"calls", entry.calls},
                                    {"seconds", entry.seconds},
                                    {"share", entry.seconds / seconds_}};
      if (entry.multiplications > 0) one["gmac_per_s"] = entry.multiplications / entry.seconds * 1e-9;
      json["profile"].push_back(std::move(one));
    }
  }

  void print() const {
    if (entries_.empty()) return;
    using enum Table::Align;
    Table table({{"operation", kLeft, ""},
                 {"rows", kDecimal, ""},
                 {"calls", kDecimal, ""},
                 {"a call", kDecimal, ""},
                 {"rate", kDecimal, "GMAC/s"},
                 {"share", kDecimal, "%"}});
    double rest = seconds_;
    for (const ProfilingBackend::Entry& entry : entries_) {
      rest -= entry.seconds;
      table.add_row({entry.name, format_count(entry.rows), format_count(entry.calls),
                     format_ms(entry.seconds / static_cast<double>(entry.calls) * 1e3),
                     entry.multiplications > 0 ? format_number(entry.multiplications / entry.seconds * 1e-9) : "",
                     fmt::format("{:.1f}", 100 * entry.seconds / seconds_)});
    }
    table.add_dim_row({"outside of operations", "", "", "", "", fmt::format("{:.1f}", 100 * rest / seconds_)});
    fmt::print("\n{}", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  }

 private:
  std::vector<ProfilingBackend::Entry> entries_;
  double seconds_ = 0;
};

std::vector<int64_t> or_default(const std::vector<int64_t>& given, int64_t otherwise) {
  return given.empty() ? std::vector{otherwise} : given;
}

// One object, or the list of several, each with the name of the recipe that the model was loaded by.
void print_results(const BenchOptions& options, nlohmann::ordered_json results) {
  if (const std::optional<Recipe> recipe = recipe_of(options.recipe, options.settings)) {
    for (nlohmann::ordered_json& result : results) result["recipe"] = recipe->name();
  }
  print_json(results.size() == 1 ? results.front() : results);
}

nlohmann::ordered_json bench_encoder(Session& session, const BenchOptions& options, int64_t sequences, int64_t seq) {
  const TokenBatch batch = random_batch(session.model().info(), sequences, seq);
  Timing timing;
  const Profile profile(session, [&] {
    timing = time_forward(session, batch, options.warm_up.value_or(3), options.repetitions.value_or(20));
  });
  const double tokens_per_s = static_cast<double>(batch.tokens()) / timing.median_ms * 1e3;
  const int64_t packed = session.model().packed_bytes(), workspace = session.workspace().bytes(),
                anonymous = anonymous_bytes();
  if (options.json) {
    nlohmann::ordered_json json = {{"backend", session.backend().describe()},
                                   {"batch", sequences},
                                   {"seq", seq},
                                   {"repetitions", timing.repetitions},
                                   {"min_ms", timing.min_ms},
                                   {"median_ms", timing.median_ms},
                                   {"tokens_per_s", tokens_per_s},
                                   {"packed_bytes", packed},
                                   {"workspace_bytes", workspace},
                                   {"anonymous_bytes", anonymous}};
    profile.add_to(json);
    return json;
  }
  fmt::print("{} × {} tokens on {}, {} runs\n", sequences, seq, session.backend().describe(), timing.repetitions);
  fmt::print("  time    {} fastest, {} median  ({} tokens/s)\n", format_ms(timing.min_ms), format_ms(timing.median_ms),
             format_number(tokens_per_s));
  fmt::print("  memory  {} packed weights, {} workspace, {} anonymous in all\n", format_bytes(packed),
             format_bytes(workspace), format_bytes(anonymous));
  profile.print();
  return {};
}

void bench_encoder(Session& session, const BenchOptions& options) {
  if (!options.decode_tokens.empty())
    fail<UsageError>("{} adds no tokens to a text; leave --decode-tokens out", session.model().info().architecture);
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const int64_t sequences : or_default(options.batch, 8)) {
    for (const int64_t seq : or_default(options.seq, 128))
      results.push_back(bench_encoder(session, options, sequences, seq));
  }
  if (options.json) print_results(options, std::move(results));
}

struct DecoderRun {
  DecoderLoad load;
  DecoderTiming timing;
  int64_t workspace = 0;
};

std::vector<DecoderLoad> decoder_loads(const BenchOptions& options) {
  std::vector<DecoderLoad> loads;
  const DecoderLoad otherwise;
  for (const int64_t batch : or_default(options.batch, otherwise.batch)) {
    for (const int64_t seq : or_default(options.seq, otherwise.seq)) {
      for (const int64_t decode_tokens : or_default(options.decode_tokens, otherwise.decode_tokens)) {
        loads.push_back({.batch = batch,
                         .seq = seq,
                         .decode_tokens = decode_tokens,
                         .kv_dtype = parse_kv_dtype(options.kv_dtype),
                         .warm_up = options.warm_up.value_or(otherwise.warm_up),
                         .repetitions = options.repetitions.value_or(otherwise.repetitions)});
      }
    }
  }
  return loads;
}

double a_sequence(const DecoderRun& run) {
  return run.timing.decode_tokens_per_s() / static_cast<double>(run.load.batch);
}

void print_decoder_runs(Session& session, const std::vector<DecoderRun>& runs, double read_peak) {
  const DecoderRun& first = runs.front();
  fmt::print("{}, {} run{} of each; keys and values in {}\n\n", session.backend().describe(), first.load.repetitions,
             first.load.repetitions == 1 ? "" : "s", kv_dtype_name(first.timing.kv_dtype));
  using enum Table::Align;
  Table table({{"batch", kDecimal, ""},
               {"prompt", kDecimal, "tokens"},
               {"then", kDecimal, "tokens"},
               {"prefill", kDecimal, "fastest"},
               {"", kDecimal, "median"},
               {"", kDecimal, "tokens/s"},
               {"step", kDecimal, "fastest"},
               {"", kDecimal, "median"},
               {"decode", kDecimal, "tokens/s"},
               {"of each", kDecimal, "tokens/s"},
               {"reads", kDecimal, "GB/s"},
               {"of peak", kDecimal, "%"},
               {"KV", kDecimal, ""},
               {"anonymous", kDecimal, ""}});
  for (const DecoderRun& run : runs) {
    const DecoderTiming& timing = run.timing;
    const auto steps = static_cast<double>(timing.decode_steps);
    table.add_row({format_count(run.load.batch), format_count(run.load.seq), format_count(run.load.decode_tokens),
                   format_ms(timing.prefill.min_ms), format_ms(timing.prefill.median_ms),
                   format_number(timing.prefill_tokens_per_s()), format_ms(timing.decode.min_ms / steps),
                   format_ms(timing.decode.median_ms / steps), format_number(timing.decode_tokens_per_s()),
                   format_number(a_sequence(run)), format_number(timing.decode_bytes_per_s() * 1e-9),
                   fmt::format("{:.0f}", 100 * timing.decode_bytes_per_s() / read_peak), format_bytes(timing.kv_bytes),
                   format_bytes(timing.anonymous_bytes)});
  }
  fmt::print("{}", table.to_string(colours() ? Table::Ink::kTerminal : Table::Ink::kPlain));
  fmt::print("\n{} packed weights, of which a step reads {}; the first token {} after the process began\n",
             format_bytes(session.model().packed_bytes()),
             format_bytes(static_cast<int64_t>(first.timing.weight_bytes_read)),
             format_ms(first.timing.process_to_first_token_ms));
  fmt::print("peak: {} GB/s, what this machine reads from memory on {} thread{}\n", format_number(read_peak * 1e-9),
             session.backend().threads(), session.backend().threads() == 1 ? "" : "s");
}

nlohmann::ordered_json to_json(Session& session, const DecoderRun& run, double read_peak, const DecoderRun& first) {
  const DecoderTiming& timing = run.timing;
  return {{"backend", session.backend().describe()},
          {"batch", run.load.batch},
          {"seq", run.load.seq},
          {"decode_tokens", run.load.decode_tokens},
          {"kv_dtype", kv_dtype_name(timing.kv_dtype)},
          {"repetitions", run.load.repetitions},
          {"prefill_tokens_per_s", timing.prefill_tokens_per_s()},
          {"decode_tokens_per_s", timing.decode_tokens_per_s()},
          {"decode_tokens_per_s_a_sequence", a_sequence(run)},
          {"prefill_min_ms", timing.prefill.min_ms},
          {"prefill_median_ms", timing.prefill.median_ms},
          {"decode_min_ms", timing.decode.min_ms},
          {"decode_median_ms", timing.decode.median_ms},
          {"step_weight_bytes", timing.weight_bytes_read},
          {"step_kv_bytes", timing.kv_bytes_read},
          {"decode_bytes_per_s", timing.decode_bytes_per_s()},
          {"peak_bytes_per_s", read_peak},
          {"decode_share_of_peak", timing.decode_bytes_per_s() / read_peak},
          {"process_to_first_token_ms", first.timing.process_to_first_token_ms},
          {"packed_bytes", session.model().packed_bytes()},
          {"kv_bytes", timing.kv_bytes},
          {"workspace_bytes", run.workspace},
          {"anonymous_bytes", timing.anonymous_bytes}};
}

void bench_decoder(Session& session, const BenchOptions& options) {
  const std::vector<DecoderLoad> loads = decoder_loads(options);
  if (options.profile && loads.size() > 1)
    fail<UsageError>("--profile shows one load, and these lists have {}; give one value of each", loads.size());
  std::vector<DecoderRun> runs;
  std::optional<Profile> profile;
  for (const DecoderLoad& load : loads) {
    DecoderTiming timing;
    profile.emplace(session, [&] { timing = time_decoder(session, load); });
    runs.push_back({load, timing, session.workspace().bytes()});
  }
  const double read_peak = measure_read_bandwidth(session.backend().threads());
  if (!options.json) {
    print_decoder_runs(session, runs, read_peak);
    profile->print();
    return;
  }
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const DecoderRun& run : runs) results.push_back(to_json(session, run, read_peak, runs.front()));
  profile->add_to(results.front());
  print_results(options, std::move(results));
}

void run(const BenchOptions& options) {
  Session session = open_session(options, options.profile);
  if (predicts_next_token(session.model().info())) {
    bench_decoder(session, options);
  } else {
    bench_encoder(session, options);
  }
}

}  // namespace

void add_bench(Program& program) {
  auto options = std::make_shared<BenchOptions>();
  Command command = program.add_subcommand(
      "bench", "Time forward passes on random tokens; of a decoder, reading prompts and decoding token by token");
  options->add_to(command);
  command.add_option("--batch", options->batch, "Sequences (default: 8; of a decoder 1)")
      .positive()
      .delimiter(',')
      .allow_extra_args(false)
      .type_name("B,…");
  command.add_option("--seq,--prompt", options->seq, "Tokens in each (default: 128; of a decoder 512)")
      .positive()
      .delimiter(',')
      .allow_extra_args(false)
      .type_name("S,…");
  command
      .add_option("--decode-tokens,--generate", options->decode_tokens,
                  "Tokens a decoder adds to each, one by one (default: 64)")
      .in_range(1, 1'000'000)
      .delimiter(',')
      .allow_extra_args(false)
      .type_name("N,…");
  add_kv_dtype(command, options->kv_dtype);
  command.add_option("--repetitions", options->repetitions, "Timed runs (default: 20; of a decoder 5)")
      .in_range(1, 1'000'000)
      .type_name("N");
  command.add_option("--warm-up", options->warm_up, "Untimed runs before them (default: 3; of a decoder 1)")
      .in_range(0, 1'000'000)
      .type_name("N");
  command.add_flag("--profile", options->profile, "Show which operations took the time");
  command.footer(
      "Lists time every combination. GB/s: weights, and keys and values, that a step of decoding has to read, by its\n"
      "median time.\n"
      "Examples:\n"
      "  octet bench minilm --batch 8 --seq 128\n"
      "  octet bench minilm --batch 1 --seq 16 --recipe w8a8_dynamic --threads 1 --json\n"
      "  octet bench smollm2 --batch 1 --seq 512 --decode-tokens 64 --recipe w8a16\n"
      "  octet bench smollm2 --batch 1,2,4,8 --prompt 16,512 --generate 128 --recipe w8a8_dynamic --kv-dtype fp16\n"
      "  octet bench minilm --recipe w8a8_dynamic --profile");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli

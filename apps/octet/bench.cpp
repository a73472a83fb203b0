// SPDX-License-Identifier: Apache-2.0
#include <chrono>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/decoder_options.h"
#include "apps/octet/options.h"
#include "octet/eval/benchmark.h"
#include "octet/generate/prefill.h"
#include "octet/report/format.h"
#include "octet/report/table.h"

namespace octet::cli {
namespace {

struct BenchOptions : ModelOptions {
  std::optional<int64_t> batch, seq, repetitions, warm_up;
  DecoderLoad decoder;
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

struct Memory {
  int64_t packed, workspace, anonymous;
};

Memory memory_of(Session& session) {
  return {session.model().packed_bytes(), session.workspace().bytes(), anonymous_bytes()};
}

void bench_encoder(Session& session, const BenchOptions& options) {
  const int64_t sequences = options.batch.value_or(8), seq = options.seq.value_or(128);
  const TokenBatch batch = random_batch(session.model().info(), sequences, seq);
  Timing timing;
  const Profile profile(session, [&] {
    timing = time_forward(session, batch, options.warm_up.value_or(3), options.repetitions.value_or(20));
  });
  const double tokens_per_s = static_cast<double>(batch.tokens()) / timing.median_ms * 1e3;
  const Memory memory = memory_of(session);
  if (options.json) {
    nlohmann::ordered_json json = {{"backend", session.backend().describe()},
                                   {"batch", sequences},
                                   {"seq", seq},
                                   {"repetitions", timing.repetitions},
                                   {"min_ms", timing.min_ms},
                                   {"median_ms", timing.median_ms},
                                   {"tokens_per_s", tokens_per_s},
                                   {"packed_bytes", memory.packed},
                                   {"workspace_bytes", memory.workspace},
                                   {"anonymous_bytes", memory.anonymous}};
    profile.add_to(json);
    print_json(json);
    return;
  }
  fmt::print("{} × {} tokens on {}, {} runs\n", sequences, seq, session.backend().describe(), timing.repetitions);
  fmt::print("  time    {} fastest, {} median  ({} tokens/s)\n", format_ms(timing.min_ms), format_ms(timing.median_ms),
             format_number(tokens_per_s));
  fmt::print("  memory  {} packed weights, {} workspace, {} anonymous in all\n", format_bytes(memory.packed),
             format_bytes(memory.workspace), format_bytes(memory.anonymous));
  profile.print();
}

DecoderLoad decoder_load(const BenchOptions& options) {
  DecoderLoad load = options.decoder;
  load.batch = options.batch.value_or(load.batch);
  load.seq = options.seq.value_or(load.seq);
  load.repetitions = options.repetitions.value_or(load.repetitions);
  load.warm_up = options.warm_up.value_or(load.warm_up);
  load.kv_dtype = parse_kv_dtype(options.kv_dtype);
  return load;
}

void bench_decoder(Session& session, const BenchOptions& options) {
  const DecoderLoad load = decoder_load(options);
  DecoderTiming timing;
  const Profile profile(session, [&] { timing = time_decoder(session, load); });
  const Memory memory = memory_of(session);
  if (options.json) {
    nlohmann::ordered_json json = {{"backend", session.backend().describe()},
                                   {"batch", load.batch},
                                   {"seq", load.seq},
                                   {"decode_tokens", load.decode_tokens},
                                   {"kv_dtype", kv_dtype_name(timing.kv_dtype)},
                                   {"repetitions", load.repetitions},
                                   {"prefill_tokens_per_s", timing.prefill_tokens_per_s()},
                                   {"decode_tokens_per_s", timing.decode_tokens_per_s()},
                                   {"prefill_min_ms", timing.prefill.min_ms},
                                   {"prefill_median_ms", timing.prefill.median_ms},
                                   {"decode_min_ms", timing.decode.min_ms},
                                   {"decode_median_ms", timing.decode.median_ms},
                                   {"packed_bytes", memory.packed},
                                   {"kv_bytes", timing.kv_bytes},
                                   {"workspace_bytes", memory.workspace},
                                   {"anonymous_bytes", memory.anonymous}};
    profile.add_to(json);
    print_json(json);
    return;
  }
  fmt::print("{} × {} tokens on {}, then {} more one by one, {} runs\n", load.batch, load.seq,
             session.backend().describe(), load.decode_tokens, load.repetitions);
  const auto line = [](const char* what, const Timing& time, double tokens_per_s) {
    fmt::print("  {}  {} fastest, {} median  ({} tokens/s)\n", what, format_ms(time.min_ms), format_ms(time.median_ms),
               format_number(tokens_per_s));
  };
  line("prefill", timing.prefill, timing.prefill_tokens_per_s());
  line("decode ", timing.decode, timing.decode_tokens_per_s());
  fmt::print("  memory   {} packed weights, {} keys and values, {} workspace, {} anonymous in all\n",
             format_bytes(memory.packed), format_bytes(timing.kv_bytes), format_bytes(memory.workspace),
             format_bytes(memory.anonymous));
  profile.print();
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

void add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench", "Time forward passes on random tokens; of a decoder, reading prompts and decoding token by token");
  options->add_to(*command);
  command->add_option("--batch", options->batch, "Sequences (default: 8; of a decoder 1)")
      ->check(CLI::PositiveNumber)
      ->type_name("B");
  command->add_option("--seq", options->seq, "Tokens in each (default: 128; of a decoder 512)")
      ->check(CLI::PositiveNumber)
      ->type_name("S");
  command->add_option("--decode-tokens", options->decoder.decode_tokens, "Tokens a decoder adds to each, one by one")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str()
      ->type_name("N");
  add_kv_dtype(*command, options->kv_dtype);
  command->add_option("--repetitions", options->repetitions, "Timed runs (default: 20; of a decoder 5)")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N");
  command->add_option("--warm-up", options->warm_up, "Untimed runs before them (default: 3; of a decoder 1)")
      ->check(CLI::Range(0, 1'000'000))
      ->type_name("N");
  command->add_flag("--profile", options->profile, "Show which operations took the time");
  command->footer(
      "Examples:\n"
      "  octet bench minilm --batch 8 --seq 128\n"
      "  octet bench minilm --batch 1 --seq 16 --recipe w8a8_dynamic --threads 1 --json\n"
      "  octet bench smollm2 --batch 1 --seq 512 --decode-tokens 64 --recipe w8a16\n"
      "  octet bench minilm --recipe w8a8_dynamic --profile");
  command->callback([options] { run(*options); });
}

}  // namespace octet::cli

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <regex>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "bench/peak.h"
#include "bench/peer_products.h"
#include "bench/shapes.h"
#include "octet/backend/cpu/read_bandwidth.h"
#include "octet/base/cpu.h"
#include "octet/base/parallel.h"
#include "tests/backend/harness.h"

// Products and attention beside OpenBLAS and oneDNN, as shares of what this machine can do at best.
//
//   gemm_bench --shapes 'MiniLM.*MLP' --kinds 'w8a8|oneDNN' --threads 1
//
// Integer products are shares of the pmaddwd peak (AVX2) or the vpdpbusd peak (VNNI). On AVX2 those that add pairs or
// more of products in int16 first (maddubs, and Octet's kernels, where that cannot saturate) may exceed it. The
// contenders of a shape take turns; the best round of each counts. Octet's times hold everything that a layer does:
// quantizing activations, rescaling, bias, nonlinearity, residual; the others' only the product. OpenBLAS and oneDNN
// take the newest instructions they find: with --isa avx2 on a newer CPU set OPENBLAS_CORETYPE=Haswell and
// ONEDNN_MAX_CPU_ISA=AVX2 too.
namespace {

using namespace octet;
using namespace octet::backend_cases;

struct Options {
  std::string isa, shapes = ".*", kinds = ".*";
  std::optional<int> threads;
  int rounds = 5;
  double seconds = 0.03;  // of each contender in a round
};

struct Contender {
  std::string kind;
  bool integer;
  std::optional<bench::PeerKind> peer;
  int64_t bytes;                      // of weights, in a call
  std::function<void(int64_t)> call;  // with the copy of the weights to take
  double best = HUGE_VAL;             // seconds of a call
};

// A product with few rows waits for its weights. It gets so many copies of them that each is out of the cache when its
// turn comes again, as in a model whose layers follow one another.
constexpr int64_t kFewRows = 4;
int64_t copies_for(int64_t m, int64_t bytes) {
  if (m > kFewRows) return 1;
  return std::clamp<int64_t>(3 * last_level_cache_bytes() / std::max<int64_t>(bytes, 1) + 1, 2, 1000);
}

void time_in_turns(std::vector<Contender>& contenders, const Options& options) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  for (Contender& each : contenders) each.call(0);
  for (int round = 0; round < options.rounds; ++round) {
    for (Contender& each : contenders) {
      each.call(1);  // wakes the threads
      const auto start = now();
      double elapsed = 0;
      int64_t calls = 0;
      while (elapsed < options.seconds) {
        each.call(2 + calls++);
        elapsed = std::chrono::duration<double>(now() - start).count();
      }
      each.best = std::min(each.best, elapsed / static_cast<double>(calls));
      // Threads of a pool spin for a while after their last task, in the next one's time.
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
  }
}

std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f} %", 100 * part / whole) : std::string("-");
}

void print_heading() {
  fmt::print("{:<20} {:<22}{:>10}  {:<7}{:>8}{:>12}{:>10}\n", "M × N × K", "kind", "speed", "", "of peak", "× OpenBLAS",
             "× oneDNN");
}

void print_rows(const std::string& shape, const std::vector<Contender>& contenders, int64_t macs, bool few_rows,
                const bench::Peak& peak) {
  for (const Contender& each : contenders) {
    const double speed = static_cast<double>(few_rows ? each.bytes : macs) / each.best;
    const double limit = few_rows ? peak.read_bytes : each.integer ? peak.integer_macs : peak.fp32_macs;
    // The time of the fastest product of a peer: an integer one's beside an integer one.
    const auto ratio = [&](bench::PeerKind engine) {
      double best = HUGE_VAL;
      for (const Contender& other : contenders) {
        const bool same_numbers = engine == bench::PeerKind::kOpenBlas || other.integer == each.integer;
        if (other.peer == engine && same_numbers) best = std::min(best, other.best);
      }
      return each.peer || best == HUGE_VAL ? std::string() : fmt::format("{:.2f}", best / each.best);
    };
    fmt::print("{:<20} {:<22}{:>10.1f}  {:<7}{:>8}{:>12}{:>10}\n", shape, each.kind, speed * 1e-9,
               few_rows ? "GB/s" : "GMAC/s", percent(speed, limit), ratio(bench::PeerKind::kOpenBlas),
               ratio(bench::PeerKind::kOneDnn));
  }
  std::fflush(stdout);
}

// Everything that a case's contenders refer to.
struct Products {
  std::vector<std::unique_ptr<LinearOnBackend>> layers;
  std::vector<std::unique_ptr<bench::PeerProduct>> peers;
  std::vector<Contender> contenders;
};

void add_peers(Products& all, const LinearCase& shape, const std::regex& kinds) {
  for (const bench::Peer& peer : bench::peers()) {
    if (!std::regex_search(peer.name, kinds)) continue;
    auto made = peer.make(shape.m, shape.n, shape.k, [&](int64_t bytes) { return copies_for(shape.m, bytes); });
    if (!made) continue;
    bench::PeerProduct* product = made.get();
    all.contenders.push_back({peer.name, peer.integer, peer.engine, product->weight_bytes(),
                              [product](int64_t copy) { product->run(copy); }});
    all.peers.push_back(std::move(made));
  }
}

void add_octet(Products& all, const LinearCase& each, const Weights& weights, Backend& backend) {
  const LinearData data(fitted(each, weights), weights, 1);
  const size_t first = all.layers.size();
  all.layers.push_back(std::make_unique<LinearOnBackend>(backend, data, 0, false));
  const int64_t bytes = all.layers[first]->weight->bytes();
  const size_t copies = static_cast<size_t>(copies_for(each.m, bytes));
  while (all.layers.size() < first + copies) {
    all.layers.push_back(std::make_unique<LinearOnBackend>(backend, data, 0, false));
  }
  all.contenders.push_back(
      {name(weights), weights.quantizes_rows(), {}, bytes, [&all, &backend, first, copies](int64_t copy) {
         backend.linear(all.layers[first + static_cast<size_t>(copy) % copies]->op);
       }});
}

void race_linear(Backend& backend, const LinearCase& shape, const Options& options, const bench::Peak& peak) {
  const std::regex kinds(options.kinds);
  Products all;
  add_peers(all, shape, kinds);
  for (const Weights& weights : kMainWeights) {
    if (std::regex_search(name(weights), kinds)) add_octet(all, shape, weights, backend);
  }
  if (all.contenders.empty()) return;
  time_in_turns(all.contenders, options);
  fmt::print("{}\n", shape.what);
  // K that is rounded up to whole groups counts as it was asked for.
  print_rows(fmt::format("{} × {} × {}", shape.m, shape.n, shape.k), all.contenders, shape.m * shape.n * shape.k,
             shape.m <= kFewRows, peak);
}

void race_attention(Backend& backend, const AttentionCase& shape, const Options& options, const bench::Peak& peak) {
  const std::vector<int32_t> offsets = offsets_of(shape.lengths);
  // Of causal ones a row meets half of its sequence's keys on average.
  int64_t work = 0;
  for (const int64_t length : shape.lengths) {
    work += length * length * shape.heads * shape.head_width * (shape.causal ? 1 : 2);
  }
  const Matrix qkv(backend, offsets.back(), columns_of(shape), 0, random_qkv(shape, 1));
  const Matrix y(backend, offsets.back(), shape.heads * shape.head_width, 0);
  const Memory offset_memory(backend, offsets);
  std::vector<Contender> contenders;
  for (const ActivationMode mode : kAttentionModes) {
    const AttentionOp op = op_of(in_mode(shape, mode), qkv.activation(), y.activation(), offset_memory.span());
    contenders.push_back(
        {fmt::format("attention {}", name(mode)), false, {}, 0, [&backend, op](int64_t) { backend.attention(op); }});
  }
  time_in_turns(contenders, options);
  fmt::print("{}\n", shape.what);
  print_rows(fmt::format("{} × {}", shape.heads, shape.head_width), contenders, work, false, peak);
}

// How long all weights of SmolLM2-135M take to pack: 30 layers, and a head of 49,152 outputs.
void time_packing(Backend& backend, const Options& options, const std::regex& kinds) {
  constexpr int64_t kLayers = 30, kWidth = 576, kVocabulary = 49'152;
  for (const Weights& weights : kMainWeights) {
    const std::string kind = fmt::format("packing {}", name(weights));
    if (!weights.scheme || !std::regex_search(kind, kinds)) continue;
    const auto weight_of = [&](int64_t n, int64_t k) {
      const int64_t depth = fitted({1, n, k, Nonlinearity::kNone, false, false, ""}, weights).k;
      return random_weight(n, depth, weights.scheme->weight, 1);
    };
    std::vector<QTensor> parts;
    for (const bench::Layer& layer : bench::kLayers) {
      if (std::string_view(layer.what).starts_with("SmolLM2")) parts.push_back(weight_of(layer.n, layer.k));
    }
    const QTensor head = weight_of(kVocabulary, kWidth);
    int64_t bytes = 0;
    const auto pack = [&](const QTensor& part) {
      const QTensor* one = &part;
      bytes += backend.pack({&one, 1}, weights.activations())->bytes();
    };
    double best = HUGE_VAL;
    for (int round = 0; round < options.rounds; ++round) {
      const auto start = std::chrono::steady_clock::now();
      bytes = 0;
      for (int64_t layer = 0; layer < kLayers; ++layer) std::ranges::for_each(parts, pack);
      pack(head);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    fmt::print("{:<20} {:<22}{:>10.1f}  ms  {:>8.2f} GB/s of what is packed\n", "SmolLM2-135M", kind, best * 1e3,
               static_cast<double>(bytes) / best * 1e-9);
  }
}

// What a sum of K products of the largest codes becomes, as a share of the true sum.
double extreme_sum(Backend& backend, int64_t k) {
  const LinearCase shape = {
      .m = 16, .n = 64, .k = k, .nonlinearity = Nonlinearity::kNone, .bias = false, .residual = false, .what = ""};
  LinearData data(shape, kW8A8, 1);
  std::ranges::fill(data.x, 1.0f);  // the row's largest value: code 127
  std::ranges::fill(data.quantized.codes.mutable_as<int8_t>(), int8_t{127});
  std::ranges::fill(data.quantized.scales.mutable_as<float>(), 1.0f / 127);
  const LinearOnBackend layer(backend, data, 0, false);
  backend.linear(layer.op);
  return layer.y.values()[0] / static_cast<double>(k);
}

void print_extreme_sums(Backend& backend) {
  constexpr int64_t kTerms = 512;
  fmt::print("largest codes only, share of the true sum: octet w8a8 {:.1f} %", 100 * extreme_sum(backend, kTerms));
  for (const bench::ExtremeSum& sum : bench::peer_extreme_sums(kTerms)) {
    fmt::print(", {} {:.1f} %", sum.name, 100 * sum.share);
  }
  fmt::print("{}\n", cpu_features().avx512_vnni ? "  (this CPU has VNNI, which does not saturate)" : "");
}

void race(const Options& options, int threads) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = options.isa});
  bench::set_peer_threads(threads);
  const bench::Peak peak = bench::measure_peak(options.isa, threads);
  fmt::print("{} on {}\n", backend->describe(), cpu_features().name);
  fmt::print("peak: ");
  if (peak.fp32_macs > 0) {
    fmt::print("fp32 fma {:.1f} GMAC/s, {} {:.1f} GMAC/s, ", peak.fp32_macs * 1e-9, peak.integer_instruction,
               peak.integer_macs * 1e-9);
  }
  if (peak.saturating_macs > 0) fmt::print("maddubs, which may saturate, {:.1f} GMAC/s, ", peak.saturating_macs * 1e-9);
  fmt::print("reading {:.1f} GB/s; up to {} rows are measured against reading\n", peak.read_bytes * 1e-9, kFewRows);
  print_extreme_sums(*backend);
  print_heading();
  const std::regex shapes(options.shapes), kinds(options.kinds);
  for (const LinearCase& each : bench::all_cases()) {
    if (std::regex_search(each.what, shapes)) race_linear(*backend, each, options, peak);
  }
  if (std::regex_search("attention float, attention int8", kinds)) {
    for (const AttentionCase& each : kAttentionCases) {
      if (std::regex_search(each.what, shapes)) race_attention(*backend, each, options, peak);
    }
  }
  if (std::regex_search("SmolLM2-135M", shapes)) time_packing(*backend, options, kinds);
  fmt::print("\n");
}

// Of all there are but the reference, which is there to be read.
std::vector<std::string> fast_isas() {
  std::vector<std::string> isas = cpu_isas();
  std::erase(isas, "ref");
  return isas;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Times Octet's products and attention beside OpenBLAS and oneDNN, as shares of the machine's peak.");
  const std::vector<std::string> isas = fast_isas();
  if (isas.empty()) {
    fmt::print(stderr, "gemm_bench: this processor runs the reference kernels only\n");
    return 1;
  }
  options.isa = isas.back();
  app.add_option("--isa", options.isa, "Instruction set of Octet's kernels")
      ->check(CLI::IsMember(isas))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads of every contender (default: 1, then all)")
      ->check(CLI::PositiveNumber);
  app.add_option("--shapes", options.shapes, "Regular expression: what a shape is called")->capture_default_str();
  app.add_option("--kinds", options.kinds, "Regular expression: 'w8a8|oneDNN', 'attention', 'packing'")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Turns of each contender; the best one counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "Time of a turn")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    for (const std::string& missing : bench::missing_peers()) fmt::print("left out: {}\n", missing);
    const int all = available_threads();
    const std::vector<int> both = all == 1 ? std::vector<int>{1} : std::vector<int>{1, all};
    for (const int threads : options.threads ? std::vector<int>{*options.threads} : both) race(options, threads);
  } catch (const std::exception& error) {
    fmt::print(stderr, "gemm_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "octet/base/parallel.h"
#include "tests/backend/harness.h"

// Products and attention of the shared case list on every instruction set that runs here, with one thread and with all.
// items_per_second counts multiplications, so that 50G/s reads as 50 GMAC/s; bytes_per_second bytes of weights.
//   gemm_bench --benchmark_filter='avx2/1/w8a8.*MLP'
namespace {

using namespace octet;
using namespace octet::backend_cases;

void run_linear(benchmark::State& state, const LinearCase& shape, const Weights& weights, const std::string& isa,
                int threads) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const LinearData data(shape, weights, 1);
  const LinearOnBackend layer(*backend, data, 0, false);
  for (auto _ : state) backend->linear(layer.op);
  state.SetItemsProcessed(state.iterations() * shape.m * shape.n * shape.k);
  state.SetBytesProcessed(state.iterations() * layer.weight->bytes());
}

void run_attention(benchmark::State& state, const AttentionCase& shape, const std::string& isa, int threads) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const std::vector<int32_t> offsets = offsets_of(shape.lengths);
  // Of causal ones a row meets half of its sequence's keys on average.
  int64_t work = 0;
  for (const int64_t length : shape.lengths) {
    work += length * length * shape.heads * shape.head_width * (shape.causal ? 1 : 2);
  }
  const Matrix qkv(*backend, offsets.back(), columns_of(shape), 0, random_qkv(shape, 1));
  const Matrix y(*backend, offsets.back(), shape.heads * shape.head_width, 0);
  const Memory offset_memory(*backend, offsets);
  const AttentionOp op = op_of(shape, qkv.activation(), y.activation(), offset_memory.span());
  for (auto _ : state) backend->attention(op);
  state.SetItemsProcessed(state.iterations() * work);
}

// One thread alone, and all of them where that is another number.
std::vector<int> thread_counts() {
  const int all = available_threads();
  return all == 1 ? std::vector<int>{1} : std::vector<int>{1, all};
}

}  // namespace

int main(int argc, char** argv) {
  for (const std::string& isa : cpu_isas()) {
    if (isa == "ref") continue;  // it is there to be read
    for (const int threads : thread_counts()) {
      for (const LinearCase& each : kLinearCases) {
        for (const Weights& weights : kMainWeights) {
          const LinearCase shape = fitted(each, weights);
          const std::string name = fmt::format("{}/{}/{}/{}x{}x{}/{}", isa, threads, backend_cases::name(weights),
                                               shape.m, shape.n, shape.k, shape.what);
          benchmark::RegisterBenchmark(name.c_str(), run_linear, shape, weights, isa, threads)->UseRealTime();
        }
      }
      for (const AttentionCase& shape : kAttentionCases) {
        const std::string name = fmt::format("{}/{}/attention/{}", isa, threads, shape.what);
        benchmark::RegisterBenchmark(name.c_str(), run_attention, shape, isa, threads)->UseRealTime();
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "bench/peak.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "octet/backend/cpu/read_bandwidth.h"
#include "octet/base/parallel.h"

namespace octet::bench {
namespace {

template <class Body>
double seconds_of(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Many short runs: one of them finds the machine undisturbed.
constexpr int64_t kSteps = 300'000;
constexpr int kRepetitions = 100;

#ifdef __x86_64__

// Each step adds to ten independent accumulators: two instructions a cycle of four or five cycles' latency need eight
// to ten. The empty asm makes the compiler believe that somebody reads the result.
constexpr int kChains = 10;

__attribute__((target("avx2,fma"))) void fma_avx2(int64_t steps) {
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  __m256 acc[kChains] = {};
  for (int64_t i = 0; i < steps; ++i) {
    for (__m256& chain : acc) chain = _mm256_fmadd_ps(a, b, chain);
  }
  for (const __m256& chain : acc) asm volatile("" ::"x"(chain));
}

// In asm, or the compiler would compute the products once for all steps.
__attribute__((target("avx2"))) void pmaddwd_avx2(int64_t steps) {
  const __m256i a = _mm256_set1_epi16(2), b = _mm256_set1_epi16(3);
  __m256i acc[kChains] = {};
  for (int64_t i = 0; i < steps; ++i) {
    for (__m256i& chain : acc) {
      __m256i product;
      asm volatile(
          "vpmaddwd %[a], %[b], %[product]\n\t"
          "vpaddd %[product], %[chain], %[chain]"
          : [chain] "+x"(chain), [product] "=&x"(product)
          : [a] "x"(a), [b] "x"(b));
    }
  }
}

__attribute__((target("avx2"))) void maddubs_avx2(int64_t steps) {
  const __m256i a = _mm256_set1_epi8(2), b = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
  __m256i acc[kChains] = {};
  for (int64_t i = 0; i < steps; ++i) {
    for (__m256i& chain : acc) {
      __m256i product;
      asm volatile(
          "vpmaddubsw %[a], %[b], %[product]\n\t"
          "vpmaddwd %[product], %[ones], %[product]\n\t"
          "vpaddd %[product], %[chain], %[chain]"
          : [chain] "+x"(chain), [product] "=&x"(product)
          : [a] "x"(a), [b] "x"(b), [ones] "x"(ones));
    }
  }
}

__attribute__((target("avx512f"))) void fma_avx512(int64_t steps) {
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
  __m512 acc[kChains] = {};
  for (int64_t i = 0; i < steps; ++i) {
    for (__m512& chain : acc) chain = _mm512_fmadd_ps(a, b, chain);
  }
  for (const __m512& chain : acc) asm volatile("" ::"v"(chain));
}

__attribute__((target("avx512f,avx512vnni"))) void vpdpbusd_avx512(int64_t steps) {
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);
  __m512i acc[kChains] = {};
  for (int64_t i = 0; i < steps; ++i) {
    for (__m512i& chain : acc) chain = _mm512_dpbusd_epi32(chain, a, b);
  }
  for (const __m512i& chain : acc) asm volatile("" ::"v"(chain));
}

// Each thread's best run counts while the others run too: waking them up is not part of the peak.
double macs_per_second(int threads, void (*probe)(int64_t), int macs_per_instruction) {
  std::vector<double> best(static_cast<size_t>(threads), HUGE_VAL);
  parallel_for(threads, threads, [&](int64_t task, int) {
    for (int i = 0; i < kRepetitions; ++i) {
      double& mine = best[static_cast<size_t>(task)];
      mine = std::min(mine, seconds_of([&] { probe(kSteps); }));
    }
  });
  double sum = 0;
  for (const double seconds : best) sum += static_cast<double>(kSteps) * kChains * macs_per_instruction / seconds;
  return sum;
}

#endif

}  // namespace

Peak measure_peak(const std::string& isa, int threads) {
  Peak peak;
#ifdef __x86_64__
  if (isa == "avx2") {
    peak.fp32_macs = macs_per_second(threads, fma_avx2, 8);
    peak.integer_macs = macs_per_second(threads, pmaddwd_avx2, 16);
    peak.integer_instruction = "pmaddwd";
    peak.saturating_macs = macs_per_second(threads, maddubs_avx2, 32);
  } else if (isa == "avx512_vnni") {
    peak.fp32_macs = macs_per_second(threads, fma_avx512, 16);
    peak.integer_macs = macs_per_second(threads, vpdpbusd_avx512, 64);
    peak.integer_instruction = "vpdpbusd";
  }
#endif
  peak.read_bytes = measure_read_bandwidth(threads);
  return peak;
}

}  // namespace octet::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "octet/backend/backend.h"

/// One list of cases for tests and benchmarks of the backends.
namespace octet::backend_cases {

enum class Weights : uint8_t { kF32, kW8A16, kW8A8 };
inline constexpr Weights kAllWeights[] = {Weights::kF32, Weights::kW8A16, Weights::kW8A8};

inline const char* name(Weights weights) {
  switch (weights) {
    case Weights::kF32:
      return "fp32";
    case Weights::kW8A16:
      return "w8a16";
    case Weights::kW8A8:
      return "w8a8";
  }
  return "";
}

struct LinearCase {
  int64_t m, n, k;
  Nonlinearity nonlinearity;
  bool bias, residual;
  const char* what;
};

// clang-format off
inline const std::vector<LinearCase> kLinearCases = {
    //   M     N     K   nonlinearity            bias   residual  what it is
    {1024, 1152,  384, Nonlinearity::kNone,     true,  false, "MiniLM 8x128, q, k and v"},
    {1024,  384,  384, Nonlinearity::kNone,     true,  true,  "MiniLM 8x128, attention output"},
    {1024, 1536,  384, Nonlinearity::kGelu,     true,  false, "MiniLM 8x128, first MLP product"},
    {1024,  384, 1536, Nonlinearity::kNone,     true,  true,  "MiniLM 8x128, second MLP product"},
    {   1, 1536,  384, Nonlinearity::kGelu,     true,  false, "MiniLM, one token"},
    {   4,  384, 1536, Nonlinearity::kNone,     true,  true,  "MiniLM, four tokens"},
    {   8, 1152,  384, Nonlinearity::kNone,     true,  false, "MiniLM, eight tokens"},
    {  13, 1536,  384, Nonlinearity::kGeluTanh, true,  false, "MiniLM, one short sentence"},
    {   8,    2,  384, Nonlinearity::kTanh,     true,  false, "a classifier's head"},
    { 100,  257,  769, Nonlinearity::kRelu,     false, true,  "nothing is a multiple of anything"},
    {  61, 1000,  400, Nonlinearity::kNone,     false, false, "blocks of rows, of panels and of K, none of them whole"},
};
// clang-format on

struct AttentionCase {
  std::vector<int32_t> lengths;
  int64_t heads, head_width;
  const char* what;
  int64_t kv_heads = 0;  // 0: as many as heads
  bool causal = false;
  int64_t window = 0;

  int64_t key_heads() const { return kv_heads == 0 ? heads : kv_heads; }
};

inline const std::vector<AttentionCase> kAttentionCases = {
    {{128, 128, 128, 128, 128, 128, 128, 128}, 12, 32, "MiniLM 8x128"},
    {{7, 33, 0, 1, 128, 65}, 3, 32, "ragged, an empty sequence"},
    {{5, 17, 16, 2}, 2, 7, "a head width that fills no register"},
    {{512}, 2, 64, "one sequence in parts"},
    {{1400, 3}, 1, 8, "scores in several strips"},
    {{1}, 1, 1, "the smallest"},
    {{128}, 9, 64, "SmolLM2, a short prompt", 3, true},
    {{1, 1, 1}, 9, 64, "SmolLM2, one token each", 3, true},
    {{70, 1, 0, 33, 129}, 4, 24, "causal, ragged, two heads share one", 2, true},
    {{300, 20}, 3, 7, "a sliding window", 1, true, 17},
    {{1200}, 2, 8, "causal, scores in several strips", 1, true},
};

}  // namespace octet::backend_cases

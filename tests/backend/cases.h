// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "octet/backend/backend.h"

/// One list of cases for tests and benchmarks of the backends.
namespace octet::backend_cases {

/// The kind of a layer's weights: floats where there is no scheme.
struct Weights {
  std::optional<Scheme> scheme = {};
  DType dtype = DType::kF32;  ///< of floats

  ActivationMode activations() const { return scheme ? scheme->activations : ActivationMode::kFloat; }
  bool quantizes_rows() const { return activations() != ActivationMode::kFloat; }
  int64_t group_size() const { return scheme ? scheme->weight.group_size : 0; }
};

constexpr Weights quantized(int bits, int64_t group_size, CodeMapping mapping, ActivationMode activations) {
  return {Scheme{{.bits = bits, .group_size = group_size, .mapping = mapping}, activations}};
}

/// The same with groups of any columns.
constexpr Weights reordered(Weights weights) {
  weights.scheme->weight.reordered = true;
  return weights;
}

inline constexpr CodeMapping kMappings[] = {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum};

inline constexpr Weights kF32 = {};
inline constexpr Weights kF16 = {{}, DType::kF16};
inline constexpr Weights kBF16 = {{}, DType::kBF16};
inline constexpr Weights kW8A16 = quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kFloat);
inline constexpr Weights kW8A8 = quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kDynamicPerToken);

/// What recipes make: these run on every case.
inline const std::vector<Weights> kMainWeights = {
    kF32,
    kF16,
    kBF16,
    kW8A16,
    kW8A8,
    quantized(4, 32, CodeMapping::kSymmetric, ActivationMode::kFloat),
    quantized(4, 128, CodeMapping::kZeroPoint, ActivationMode::kFloat),
    quantized(4, 32, CodeMapping::kMinimum, ActivationMode::kFloat),
    quantized(4, 32, CodeMapping::kZeroPoint, ActivationMode::kDynamicPerToken),
    quantized(4, 128, CodeMapping::kSymmetric, ActivationMode::kDynamicPerToken),
    quantized(4, 32, CodeMapping::kMinimum, ActivationMode::kDynamicPerToken),
    quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensor),
    quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensorZeroPoint),
    quantized(8, 0, CodeMapping::kZeroPoint, ActivationMode::kFloat),
    quantized(8, 0, CodeMapping::kZeroPoint, ActivationMode::kDynamicPerToken),
    reordered(quantized(4, 32, CodeMapping::kSymmetric, ActivationMode::kFloat)),
    reordered(quantized(4, 32, CodeMapping::kZeroPoint, ActivationMode::kDynamicPerToken)),
};

/// All there are.
inline std::vector<Weights> all_weights() {
  std::vector<Weights> all = {kF32, kF16, kBF16};
  for (const ActivationMode mode : {ActivationMode::kFloat, ActivationMode::kDynamicPerToken}) {
    for (const int64_t group : {0, 32, 64, 128, 256}) {
      all.push_back(quantized(8, group, CodeMapping::kSymmetric, mode));
      for (const CodeMapping mapping : kMappings) all.push_back(quantized(4, group, mapping, mode));
    }
  }
  all.push_back(quantized(4, 64, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensor));
  for (const int64_t group : {0, 32}) {
    for (const ActivationMode mode :
         {ActivationMode::kFloat, ActivationMode::kDynamicPerToken, ActivationMode::kStaticPerTensorZeroPoint}) {
      all.push_back(quantized(8, group, CodeMapping::kZeroPoint, mode));
    }
  }
  for (const ActivationMode mode :
       {ActivationMode::kFloat, ActivationMode::kDynamicPerToken, ActivationMode::kStaticPerTensor}) {
    for (const CodeMapping mapping : kMappings) all.push_back(reordered(quantized(4, 32, mapping, mode)));
    all.push_back(reordered(quantized(8, 128, CodeMapping::kSymmetric, mode)));
  }
  all.push_back(reordered(quantized(8, 32, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensorZeroPoint)));
  for (const int64_t group : {0, 32, 256}) {
    all.push_back(quantized(8, group, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensor));
    all.push_back(quantized(8, group, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensorZeroPoint));
  }
  return all;
}

/// "w4a16_g32_zero"
inline std::string name(const Weights& weights) {
  if (!weights.scheme) return weights.dtype == DType::kF32 ? "fp32" : weights.dtype == DType::kF16 ? "fp16" : "bf16";
  const WeightScheme& scheme = weights.scheme->weight;
  const ActivationMode mode = weights.activations();
  return fmt::format("w{}{}{}{}{}{}{}", scheme.bits, weights.quantizes_rows() ? "a8" : "a16",
                     scheme.group_size == 0 ? "" : fmt::format("_g{}", scheme.group_size),
                     scheme.mapping == CodeMapping::kSymmetric   ? ""
                     : scheme.mapping == CodeMapping::kZeroPoint ? "_zero"
                                                                 : "_min",
                     scheme.reordered ? "_reordered" : "", is_static(mode) ? "_static" : "",
                     mode == ActivationMode::kStaticPerTensorZeroPoint ? "_zero" : "");
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
    {   1, 1536,  576, Nonlinearity::kNone,     false, true,  "SmolLM2, one token"},
    { 512, 1536,  576, Nonlinearity::kNone,     false, false, "SmolLM2, a prompt"},
};
// clang-format on

/// The case with K rounded up to whole groups.
inline LinearCase fitted(LinearCase c, const Weights& weights) {
  if (const int64_t group = weights.group_size(); group != 0) c.k = (c.k + group - 1) / group * group;
  return c;
}

struct AttentionCase {
  std::vector<int32_t> lengths;
  int64_t heads, head_width;
  const char* what;
  int64_t kv_heads = 0;  // 0: as many as heads
  bool causal = false;
  int64_t window = 0;
  ActivationMode activations = ActivationMode::kFloat;
  bool head_by_head = false;  // q, k and v of a head side by side, then the next head's

  int64_t key_heads() const { return kv_heads == 0 ? heads : kv_heads; }
};

inline const std::vector<AttentionCase> kAttentionCases = {
    {{128, 128, 128, 128, 128, 128, 128, 128}, 12, 32, "MiniLM 8x128"},
    {{7, 33, 0, 1, 128, 65}, 3, 32, "ragged, an empty sequence"},
    {{5, 17, 16, 2}, 2, 7, "a head width that fills no register"},
    {{512}, 2, 64, "one sequence in parts"},
    {{1400, 3}, 1, 8, "scores in several strips"},
    {{1}, 1, 1, "the smallest"},
    {{384, 384, 384, 384}, 12, 32, "MiniLM 4x384"},
    {{128}, 9, 64, "SmolLM2, a short prompt", 3, true},
    {{512}, 9, 64, "SmolLM2, a prompt", 3, true},
    {{1, 1, 1}, 9, 64, "SmolLM2, one token each", 3, true},
    {{70, 1, 0, 33, 129}, 4, 24, "causal, ragged, two heads share one", 2, true},
    {{300, 20}, 3, 7, "a sliding window", 1, true, 17},
    {{1200}, 2, 8, "causal, scores in several strips", 1, true},
};

inline constexpr ActivationMode kAttentionModes[] = {ActivationMode::kFloat, ActivationMode::kDynamicPerToken,
                                                     ActivationMode::kStaticPerTensor};
inline constexpr ActivationMode kInt8AttentionModes[] = {ActivationMode::kDynamicPerToken,
                                                         ActivationMode::kStaticPerTensor};
/// Of the static mode: they clip some of numbers with the deviation 1.
inline constexpr AttentionScales kStaticAttentionScales = {.q = 0.034f, .k = 0.027f, .v = 0.031f};

/// The case with products in floats or INT8.
inline AttentionCase in_mode(AttentionCase c, ActivationMode activations) {
  c.activations = activations;
  return c;
}

inline const char* name(ActivationMode mode) {
  if (mode == ActivationMode::kFloat) return "float";
  return mode == ActivationMode::kStaticPerTensor ? "static int8" : "int8";
}

}  // namespace octet::backend_cases

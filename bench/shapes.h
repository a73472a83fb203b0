// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tests/backend/cases.h"

/// Products that are timed beside the tests' cases, and are too large or too many to test.
namespace octet::bench {

struct Layer {
  int64_t n, k;
  const char* what;
};

// The products of one layer, q, k and v stacked and gate and up too, as Octet stacks them.
inline const std::vector<Layer> kLayers = {
    //  N      K   what it is
    {1152, 384, "MiniLM, q, k and v"},
    {384, 384, "MiniLM, attention output"},
    {1536, 384, "MiniLM, first MLP product"},
    {384, 1536, "MiniLM, second MLP product"},
    {2304, 768, "BERT-base, q, k and v"},
    {768, 768, "BERT-base, attention output"},
    {3072, 768, "BERT-base, first MLP product"},
    {768, 3072, "BERT-base, second MLP product"},
    {3072, 1024, "BERT-large, q, k and v"},
    {1024, 1024, "BERT-large, attention output"},
    {4096, 1024, "BERT-large, first MLP product"},
    {1024, 4096, "BERT-large, second MLP product"},
    {960, 576, "SmolLM2, q, k and v"},
    {576, 576, "SmolLM2, attention output"},
    {3072, 576, "SmolLM2, gate and up"},
    {576, 1536, "SmolLM2, down"},
    {12288, 4096, "Llama-2-7B, q, k and v"},
    {4096, 4096, "Llama-2-7B, attention output"},
    {22016, 4096, "Llama-2-7B, gate and up"},
    {4096, 11008, "Llama-2-7B, down"},
    {33, 1001, "odd, few outputs"},
    {1001, 33, "odd, few inputs"},
    {4097, 259, "odd, a bit more than whole blocks"},
};
inline constexpr int64_t kRows[] = {1, 128};

/// The tests' cases, then the layers with each number of rows.
inline std::vector<backend_cases::LinearCase> all_cases() {
  std::vector<backend_cases::LinearCase> cases = backend_cases::kLinearCases;
  for (const Layer& layer : kLayers) {
    for (const int64_t m : kRows) cases.push_back({m, layer.n, layer.k, Nonlinearity::kNone, true, false, layer.what});
  }
  return cases;
}

}  // namespace octet::bench

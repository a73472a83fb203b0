// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "octet/ptq/input_statistics.h"
#include "octet/tensor/tensor.h"
#include "tests/backend/harness.h"

namespace octet {

using backend_cases::random_floats;

/// Inputs [rows, cols] as layers see them: mixtures of `rank` causes, some columns much larger than others, some noise.
inline std::vector<float> correlated_inputs(int64_t rows, int64_t cols, int64_t rank, uint64_t seed) {
  const std::vector<float> causes = random_floats(rows * rank, seed),
                           noise = random_floats(rows * cols, seed + 1, 0.1f), sizes = random_floats(cols, seed + 3);
  std::vector<float> mix = random_floats(rank * cols, seed + 2, 1 / std::sqrt(static_cast<float>(rank)));
  for (int64_t i = 0; i < rank * cols; ++i) mix[i] *= std::exp(sizes[i % cols]);
  std::vector<float> x = noise;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < rank; ++k) {
      for (int64_t c = 0; c < cols; ++c) x[r * cols + c] += causes[r * rank + k] * mix[k * cols + c];
    }
  }
  return x;
}

inline InputStatistics statistics_of(std::span<const float> rows, int64_t inputs) {
  InputStatistics statistics(inputs);
  statistics.add(rows);
  return statistics;
}

inline Tensor matrix_of(std::span<const float> values, int64_t rows, int64_t cols) {
  Tensor tensor(DType::kF32, {rows, cols});
  std::copy(values.begin(), values.end(), tensor.mutable_as<float>().begin());
  return tensor;
}

}  // namespace octet

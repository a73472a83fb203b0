// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/awq.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "octet/base/error.h"
#include "octet/base/exp.h"
#include "octet/base/log.h"
#include "octet/base/parallel.h"
#include "octet/ptq/output_error.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

// Of inputs that are next to nothing; without it their weights could lose all digits.
constexpr double kLeastPower = 1e-4;
constexpr int kSteps = 20;  // of alpha, from 0 on; 1 itself is not tried
constexpr int64_t kRowsAtOnce = 128;

// m^alpha / √(max m^alpha · min m^alpha) over inputs whose mean m is not 0.
std::vector<float> factors_for(std::span<const double> abs_sum, double alpha) {
  const double largest = std::ranges::max(abs_sum);
  std::vector<double> powers;
  double least = 1;
  for (const double sum : abs_sum) {
    powers.push_back(sum == 0 ? 0 : std::max(kLeastPower, exp_of_nonpositive(alpha * log_of_positive(sum / largest))));
    if (sum != 0) least = std::min(least, powers.back());
  }
  std::vector<float> factors;
  for (const double power : powers) {
    factors.push_back(power == 0 ? 1.0f : static_cast<float>(power / std::sqrt(least)));
  }
  return factors;
}

// Rows [first, first + count).
Tensor multiplied(const Tensor& weight, int64_t first, int64_t count, std::span<const float> factors) {
  const int64_t cols = std::ssize(factors);
  Tensor out(DType::kF32, {count, cols});
  const float* from = weight.as<float>().data() + first * cols;
  float* to = out.mutable_as<float>().data();
  for (int64_t r = 0; r < count; ++r, from += cols, to += cols) {
    for (int64_t c = 0; c < cols; ++c) to[c] = from[c] * factors[static_cast<size_t>(c)];
  }
  return out;
}

}  // namespace

AwqFactors awq_factors(const InputStatistics& statistics, std::span<const ConstTensorView> into,
                       const WeightScheme& asked, const std::string& what, int threads) {
  if (threads == 0) threads = available_threads();
  const int64_t cols = statistics.inputs();
  WeightScheme scheme = asked;
  scheme.reordered = false;  // that comes later
  std::vector<Tensor> weights;
  for (const ConstTensorView& weight : into) {
    if (weight.shape.rank() != 2 || weight.shape[1] != cols) {
      fail<ShapeError>("{}: a weight of shape {} beside statistics of {} inputs", what, to_string(weight.shape), cols);
    }
    weights.push_back(to_f32(weight));
  }

  // tr(ΔW · H · ΔWᵀ) of all weights quantized with these factors, or of as many of their rows as reach `limit`; rows
  // are weighed with H as it was.
  const auto error_with = [&](std::span<const float> factors, double limit) {
    double error = 0;
    for (const Tensor& weight : weights) {
      const int64_t rows = weight.shape()[0];
      for (int64_t begin = 0; begin < rows && error < limit; begin += kRowsAtOnce) {
        const int64_t count = std::min(kRowsAtOnce, rows - begin);
        const Tensor scaled = multiplied(weight, begin, count, factors);
        const Tensor rounded = dequantize(quantize_weight(scaled.view(), scheme, what, threads));
        const float *values = weight.as<float>().data() + begin * cols, *made = rounded.as<float>().data();
        error += trace_of_quadratic_form(count, cols, statistics.hessian(), threads,
                                         [&](int64_t first, std::span<double> difference) {
                                           for (int64_t i = 0; i < std::ssize(difference); ++i) {
                                             const int64_t at = first * cols + i;
                                             difference[i] = values[at] - double{made[at]} / factors[i % cols];
                                           }
                                         });
      }
    }
    return error;
  };
  AwqFactors out;
  const auto try_step = [&](int step) {
    const double alpha = static_cast<double>(step) / kSteps;
    std::vector<float> factors = factors_for(statistics.abs_sum(), alpha);
    const double error = error_with(factors, step == 0 ? std::numeric_limits<double>::infinity() : out.error);
    if (step == 0) out.error_without = error;
    if (step != 0 && !(error < out.error)) return;
    out.error = error;
    out.alpha = alpha;
    out.factors = std::move(factors);
  };
  // From the middle on, where the best mostly lies, so that the others soon show that they are worse.
  try_step(0);
  for (int away = 0; away < kSteps; ++away) {
    const int step = kSteps / 2 + (away % 2 == 0 ? away / 2 : -(away + 1) / 2);
    if (step > 0) try_step(step);
  }
  double energy = 0;
  for (const Tensor& weight : weights) {
    energy += trace_of_quadratic_form(
        weight.shape()[0], cols, statistics.hessian(), threads, [&](int64_t first, std::span<double> rows) {
          std::copy_n(weight.as<float>().begin() + first * cols, rows.size(), rows.begin());
        });
  }
  if (energy > 0) {
    out.error /= energy;
    out.error_without /= energy;
  }
  return out;
}

}  // namespace octet

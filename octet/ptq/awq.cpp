// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/awq.h"

#include <algorithm>
#include <cmath>

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

Tensor multiplied(const Tensor& weight, std::span<const float> factors) {
  Tensor out = Tensor::copy_of(weight.view());
  const std::span<float> values = out.mutable_as<float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i % factors.size()];
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

  // tr(ΔW · H · ΔWᵀ) of all weights quantized with these factors; rows are weighed with H as it was.
  const auto error_with = [&](std::span<const float> factors) {
    double error = 0;
    for (const Tensor& weight : weights) {
      const Tensor scaled = multiplied(weight, factors);
      const Tensor rounded = dequantize(quantize_weight(scaled.view(), scheme, what, threads));
      const std::span<const float> values = weight.as<float>(), made = rounded.as<float>();
      error += trace_of_quadratic_form(weight.shape()[0], cols, statistics.hessian(), threads,
                                       [&](int64_t first, std::span<double> difference) {
                                         for (int64_t i = 0; i < std::ssize(difference); ++i) {
                                           const int64_t at = first * cols + i;
                                           difference[i] = values[at] - double{made[at]} / factors[i % cols];
                                         }
                                       });
    }
    return error;
  };
  AwqFactors out;
  for (int step = 0; step < kSteps; ++step) {
    const double alpha = static_cast<double>(step) / kSteps;
    std::vector<float> factors = factors_for(statistics.abs_sum(), alpha);
    const double error = error_with(factors);
    if (step == 0) out.error_without = error;
    if (step != 0 && !(error < out.error)) continue;
    out.error = error;
    out.alpha = alpha;
    out.factors = std::move(factors);
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

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/alpha_search.h"

#include <algorithm>
#include <array>

#include "octet/ptq/fold.h"
#include "octet/quant/range_search.h"

namespace octet {
namespace {

// Of a static mode, that of the columns' ranges divided by the factors, which may be none.
ActivationScale scale_with(const LayerOutputError& error, std::span<const float> factors) {
  const ActivationSample& sample = error.sample();
  if (!is_static(error.mode())) return {};
  Range range;
  for (size_t i = 0; i < sample.smallest().size(); ++i) {
    const float factor = factors.empty() ? 1.0f : factors[i];
    range.low = std::min(range.low, sample.smallest()[i] / factor);
    range.high = std::max(range.high, sample.largest()[i] / factor);
  }
  return scale_for(error.mode(), range, error.activation_bits());
}

}  // namespace

std::span<const double> alpha_grid() noexcept {
  constexpr int kSteps = 20;
  static const std::array<double, kSteps + 1> grid = [] {
    std::array<double, kSteps + 1> values{};
    for (int i = 0; i <= kSteps; ++i) values[static_cast<size_t>(i)] = static_cast<double>(i) / kSteps;
    return values;
  }();
  return grid;
}

AlphaChoice search_alpha(const LayerOutputError& error, const FoldPair& pair, std::span<const double> grid) {
  const ActivationSample& sample = error.sample();
  const std::vector<float> absmax = sample.absmax();
  std::vector<ConstTensorView> into;
  for (const LayerToQuantize& layer : error.layers()) into.push_back(layer.weight);
  const auto error_with = [&](std::span<const float> factors) {
    const std::array<ActivationScale, 1> scale = {scale_with(error, factors)};
    return error.with(factors, scale).front();
  };
  AlphaChoice choice;
  choice.factors.assign(absmax.size(), 1.0f);
  choice.error = choice.error_without = error_with({});
  for (const double alpha : grid) {
    std::vector<float> factors = smoothquant_factors(absmax, into, alpha, pair);
    choice.tried.push_back({alpha, error_with(factors)});
    if (choice.tried.back().error >= choice.error) continue;
    choice.error = choice.tried.back().error;
    choice.alpha = alpha;
    choice.factors = std::move(factors);
  }
  return choice;
}

}  // namespace octet

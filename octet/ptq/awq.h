// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "octet/ptq/input_statistics.h"
#include "octet/tensor/scheme.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// What AWQ found for the layers that read one input.
struct AwqFactors {
  std::vector<float>
      factors;       ///< [inputs], positive: columns of the weights times these, what they read divided by them
  double alpha = 0;  ///< the exponent that they come from; 0: all are 1
  double error = 0, error_without = 0;  ///< Σ tr(ΔW · H · ΔWᵀ) / Σ tr(W · H · Wᵀ), with these factors and with none
};

/// Activation-aware scaling (Lin et al., 2024): factors f = m^alpha / √(max m^alpha · min m^alpha), m being the mean
/// |x| of each input as a share of the largest, m^alpha at least 1e-4, alpha that of 0, 0.05, … 0.95 whose rounded
/// weights Q(W · f) / f have the least output error tr(ΔW · H · ΔWᵀ), summed over the weights `into` [outᵢ, inputs]
/// that read the input; of equal errors the least alpha. An input that was always 0 keeps the factor 1. Throws
/// ShapeError where shapes do not fit and NumericError for NaN or infinity. The bits do not depend on `threads` (0: as
/// many as there are).
AwqFactors awq_factors(const InputStatistics& statistics, std::span<const ConstTensorView> into,
                       const WeightScheme& scheme, const std::string& what, int threads = 0);

}  // namespace octet

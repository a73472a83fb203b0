// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// How codes and scales of a weight are found. None changes what they mean.
enum class WeightAlgorithm : uint8_t {
  kRoundToNearest,  ///< quantize_weight of octet/quant/quantize.h
  kGptq,            ///< errors made good in later columns (Frantar et al., 2022)
  kHessianScales,   ///< scales that minimize tr(ΔW · H · ΔWᵀ), codes rounded to nearest
  kHqq,             ///< scales, zero points or minima by half-quadratic splitting (Badri and Shaji, 2023); no data
};

struct WeightAlgorithmOptions {
  WeightAlgorithm algorithm = WeightAlgorithm::kRoundToNearest;

  // Of kGptq:
  int64_t block_size = 128;  ///< columns whose errors reach later ones together; changes no bit
  /// What is added to H's diagonal, as a share of its mean.
  double percdamp = 0.01;
  bool act_order = false;      ///< columns by falling H[i, i]; groups are of neighbours in that order
  bool static_groups = false;  ///< groups of neighbouring columns, scales from the weight as it was
};

/// Whether the algorithm reads what a layer's inputs were like.
constexpr bool needs_statistics(WeightAlgorithm algorithm) noexcept {
  return algorithm == WeightAlgorithm::kGptq || algorithm == WeightAlgorithm::kHessianScales;
}

}  // namespace octet

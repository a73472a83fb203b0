// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

namespace octet {

/// How codes and scales of a weight are found. None changes what they mean.
enum class WeightAlgorithm : uint8_t {
  kRoundToNearest,  ///< quantize_weight of octet/quant/quantize.h
  kGptq,            ///< errors made good in later columns (Frantar et al., 2022)
  kHessianScales,   ///< scales that minimize tr(ΔW · H · ΔWᵀ), codes rounded to nearest
  kHqq,             ///< scales, zero points or minima by half-quadratic splitting (Badri and Shaji, 2023); no data
  kAdaRound,        ///< up or down, learned softly (Nagel et al., 2020) by what blocks give (Li et al., 2021)
  kSignRound,       ///< the same by signs of gradients, without softness (Cheng et al., 2024)
};

/// How rounding is learned (see learn_rounding).
struct RoundingOptions {
  int64_t iterations = 200;                  ///< steps
  int64_t batch_size = 4;                    ///< samples of a step
  std::optional<double> learning_rate = {};  ///< none: 0.05 of kAdaRound, 1 / iterations of kSignRound
  double round_weight = 1;  ///< of kAdaRound: of what takes the softness away, beside the error of rounding to nearest

  friend bool operator==(const RoundingOptions&, const RoundingOptions&) = default;
};

struct WeightAlgorithmOptions {
  WeightAlgorithm algorithm = WeightAlgorithm::kRoundToNearest;

  // Of kGptq:
  int64_t block_size = 128;  ///< columns whose errors reach later ones together; changes no bit
  /// What is added to H's diagonal, as a share of its mean.
  double percdamp = 0.01;
  bool act_order = false;      ///< columns by falling H[i, i]; groups are of neighbours in that order
  bool static_groups = false;  ///< groups of neighbouring columns, scales from the weight as it was

  RoundingOptions rounding = {};  ///< of kAdaRound and kSignRound
};

/// Whether the algorithm learns how to round, all layers of a block together.
constexpr bool learns_rounding(WeightAlgorithm algorithm) noexcept {
  return algorithm == WeightAlgorithm::kAdaRound || algorithm == WeightAlgorithm::kSignRound;
}

/// Whether the algorithm reads what a layer's inputs were like.
constexpr bool needs_statistics(WeightAlgorithm algorithm) noexcept {
  return algorithm == WeightAlgorithm::kGptq || algorithm == WeightAlgorithm::kHessianScales;
}

/// Whether the algorithm makes good what quantizing earlier layers did to its data.
constexpr bool sees_earlier_errors(WeightAlgorithm algorithm) noexcept {
  return needs_statistics(algorithm) || learns_rounding(algorithm);
}

}  // namespace octet

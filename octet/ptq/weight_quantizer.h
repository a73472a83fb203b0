// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "octet/ptq/input_statistics.h"
#include "octet/tensor/qtensor.h"

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

  // Of GPTQ:
  int64_t block_size = 128;  ///< columns whose errors reach later ones together; changes no bit
  /// What is added to H's diagonal, as a share of its mean.
  double percdamp = 0.01;
  bool act_order = false;      ///< columns by falling H[i, i]; groups are of neighbours in that order
  bool static_groups = false;  ///< groups of neighbouring columns, scales from the weight as it was
};

/// A quantized weight and how that went.
struct QuantizedWeight {
  QTensor tensor;
  std::vector<std::string> notes = {};  ///< what is to be told: "3 dead columns", "damped 10 times as much as asked"
  double output_error = 0;  ///< tr(ΔW · H · ΔWᵀ) / tr(W · H · Wᵀ); NaN without statistics, 0 where both are 0
};

/// The scheme that the result of quantize_weight will have, known before there is data: `scheme`, reordered where GPTQ
/// with act_order makes groups of its own.
WeightScheme resulting_scheme(const WeightScheme& scheme, const WeightAlgorithmOptions& options);

/// Whether the algorithm reads statistics.
bool needs_statistics(WeightAlgorithm algorithm) noexcept;

/// Quantizes a float weight [out, in] of any width. `statistics`, of its inputs, may be null for algorithms that need
/// none. Throws UsageError where they are missing or an option is impossible, ShapeError where shapes do not fit, and
/// NumericError for NaN or infinity; each names the layer as `what`. The bits do not depend on `threads` (0: as many as
/// there are).
QuantizedWeight quantize_weight(ConstTensorView weight, const WeightScheme& scheme,
                                const WeightAlgorithmOptions& options, const InputStatistics* statistics,
                                const std::string& what, int threads = 0);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octet/ptq/input_statistics.h"
#include "octet/quant/weight_algorithm.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// A quantized weight and how that went.
struct QuantizedWeight {
  QTensor tensor;
  std::vector<std::string> notes = {};  ///< what is to be told: "3 dead columns", "damped 10 times as much as asked"
  double output_error = 0;  ///< tr(ΔW · H · ΔWᵀ) / tr(W · H · Wᵀ); NaN without statistics, 0 where both are 0
};

/// The scheme that the result of quantize_weight will have, known before there is data: `scheme`, reordered where GPTQ
/// with act_order makes groups of its own.
WeightScheme resulting_scheme(const WeightScheme& scheme, const WeightAlgorithmOptions& options);

/// Quantizes a float weight [out, in] of any width; columns of `outliers` (ascending) stay out of it, in 16 bits, and
/// have to be 0 in the statistics. `statistics`, of its inputs, may be null for algorithms that need
/// none. Throws UsageError where they are missing or an option is impossible, ShapeError where shapes do not fit, and
/// NumericError for NaN or infinity; each names the layer as `what`. The bits do not depend on `threads` (0: as many as
/// there are).
QuantizedWeight quantize_weight(ConstTensorView weight, const WeightScheme& scheme,
                                const WeightAlgorithmOptions& options, const InputStatistics* statistics,
                                const std::string& what, int threads = 0, std::span<const int32_t> outliers = {});

}  // namespace octet

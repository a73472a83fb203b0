// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "octet/ptq/weight_quantizer.h"

namespace octet {

/// Codes of a weight [out, inputs] of finite fp32 values rounded to nearest on grids that minimize tr(ΔW · H · ΔWᵀ),
/// the error of its outputs over calibration, by coordinate descent: one group of a row after another gets that of its
/// shortened ranges (octet/quant/quantize.h) which is best beside the other groups as they are, beginning with the
/// grids that the scheme's range estimator finds. So the error is never larger than with those. The shares 1.00, 0.96,
/// … 0.52 are tried, then three hundredths around the best; of equal errors the one met first counts.
QuantizedWeight hessian_scales(std::span<const float> weight, int64_t rows, const WeightScheme& scheme,
                               const InputStatistics& statistics, int threads);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "octet/ptq/weight_quantizer.h"

namespace octet {

/// Half-quadratic quantization (Badri and Shaji, 2023) of a weight [out, in] of finite fp32 values, without data. The
/// error's lp norm with p = 0.7, which a few large errors weigh little in, is minimized group by group: in turn
///
///   E ← shrink(W - decode(Q)),  shrink(x) = sign(x) · max(0, |x| - |x|^(p-1) / β)
///   grid ← the least squares of decode(Q) against W - E
///   Q ← the codes of W on the grid
///
/// β being 10 at first and 1.01 times as much after each of at most 20 turns, until the mean of |W - decode(Q)| no
/// longer falls; the grid before that is kept. What is fitted is the minimum, as in the paper, whose zero points are
/// real numbers; of a symmetric scheme, which has none, the scale; and of one with whole zero points both, the fitted
/// one rounded. The scheme's range estimator gives the first grid. Columns of `outliers` have no part in that.
QuantizedWeight hqq(std::span<const float> weight, int64_t rows, int64_t cols, const WeightScheme& scheme,
                    std::span<const int32_t> outliers, int threads);

}  // namespace octet

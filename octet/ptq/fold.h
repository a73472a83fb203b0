// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "octet/models/model.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// Factors that move between the layers of a FoldPair, one for each column of the weights in `into`: the columns are
/// multiplied by them, what `from` gives is divided by them, so that activations become easier to quantize and weights
/// harder, or the reverse, and what the model computes stays, but for rounding, as it was.

/// SmoothQuant (Xiao et al., 2023, equation 4):
///
///   s_j = a_j^alpha / w_j^(1 - alpha)      a_j = max |x_j| over calibration, w_j = max |W[:, j]| over all of `into`
///
/// of columns that read one channel of pair.from, a and w being the largest of them all. A channel whose activations or
/// weights are all 0 keeps the factor 1; factors stay in [1e-5, 1e5]. alpha in [0, 1] says how much of the difficulty
/// moves into the weights. Throws ShapeError where sizes do not fit, NumericError for NaN and infinity.
std::vector<float> smoothquant_factors(std::span<const float> activation_absmax, std::span<const ConstTensorView> into,
                                       double alpha, const FoldPair& pair = {});

/// Factors that were found for each column by itself made equal, to their geometric mean, in the columns that read one
/// channel of pair.from; the same factors where each column has a channel of its own.
std::vector<float> tied_factors(std::vector<float> factors, const FoldPair& pair);

/// What `from` has for each channel, divided by the channel's factor: a normalization's gamma or beta [channels], the
/// bias [channels] or the weight [channels, inputs] of a linear layer, of any float dtype. Each value is rounded once,
/// to fp32. Throws ShapeError where sizes do not fit and Error for columns of one channel with different factors.
Tensor fold_into_outputs(ConstTensorView values, std::span<const float> factors, const FoldPair& pair = {});

/// A weight [outputs, inputs] of `into`, of any float dtype, its columns multiplied by the factors. Each value is
/// rounded once, to fp32.
Tensor fold_into_inputs(ConstTensorView weight, std::span<const float> factors);

}  // namespace octet

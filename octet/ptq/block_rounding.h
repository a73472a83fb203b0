// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "octet/models/model.h"
#include "octet/quant/weight_algorithm.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// What learning has made of a block's codes.
struct LearnedRounding {
  std::map<std::string, QTensor> weights;  ///< by layer
  /// ‖y - y₀‖² / ‖y₀ - x‖² over all samples, with codes rounded to nearest, and with those above.
  double nearest_error = 0, error = 0;
};

/// Hidden states of samples around a block, [tokens, width] each.
struct BlockStates {
  std::span<const float> inputs;   ///< x, what the block will read: of quantized blocks before it
  std::span<const float> targets;  ///< y₀, what it gives in the float model
};

/// Learns whether each weight of a block is rounded down or up, all its layers at once and by what the block gives
/// (block reconstruction: Li et al., "BRECQ", 2021). A weight w lies t = (w - minimum) / scale + zero_point codes up
/// the grid that rounding to nearest has found, and its code is
///
///   clamp(⌊t⌋ + h(v), lowest, highest)
///
/// kSignRound (Cheng et al., "Optimize Weight Rounding via Signed Gradient Descent", 2024): h(v) is 1 for v ≥ 0, else
/// 0; gradients pass straight through it. At first v = t - ⌊t⌋ - ½, rounding to nearest; each step moves it by
/// learning_rate, falling to 0, against the sign of the gradient of ‖y - y₀‖².
///
/// kAdaRound (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020): h(v) = clamp(1.2 ·
/// σ(v) - 0.1, 0, 1), at first with h(v) = t - ⌊t⌋. Adam changes v by the gradient of
///
///   ‖y - y₀‖² / E + round_weight / weights · Σ (1 - |2 h(v) - 1|^β)
///
/// E being the error of codes rounded to nearest. The second term, left out of the first fifth of all steps, makes all
/// h(v) 0 or 1 while β falls from 20 to 2. It takes thousands of steps, where kSignRound takes hundreds.
///
/// y is what the block gives for the next batch_size samples, in turn, its other layers and its activations in float.
/// Where learning does worse than rounding to nearest, over all samples, that stays.
///
/// `block` of `model`, a float one that is not laid out, is as it was in the end. `schemes` has its layers that are to
/// be quantized. `advance` is told of samples that were trained on. The bits do not depend on threads.
LearnedRounding learn_rounding(Model& model, Backend& backend, int64_t block, const TokenBatch& samples,
                               const BlockStates& states, const std::map<std::string, WeightScheme>& schemes,
                               WeightAlgorithm algorithm, const RoundingOptions& options,
                               const std::function<void(int64_t samples)>& advance);

}  // namespace octet

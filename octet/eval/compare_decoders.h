// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "octet/eval/perplexity.h"

namespace octet {

/// The distributions p = softmax(reference) and q = softmax(other) that two rows of logits mean.
struct SoftmaxComparison {
  double kl = 0;  ///< Kullback-Leibler divergence Σ p (log p - log q), in nats; ≥ 0
  double reference_log_sum = 0, other_log_sum = 0;  ///< log Σ e^x of the logits
};

/// All NaN where a row holds NaN.
SoftmaxComparison compare_softmax(std::span<const float> reference, std::span<const float> other);

/// The value below which a share `fraction` (0 to 1) of `sorted` lies, ascending, interpolated linearly between
/// neighbours (numpy's default). Throws Error for no values.
double percentile(std::span<const double> sorted, double fraction);

/// How far the predictions of a decoder lie from a reference's, over the scored tokens of a text's windows.
struct DecoderComparison {
  int64_t tokens = 0;
  Estimate kl_mean;  ///< KL(reference ‖ other), in nats a token; the error takes tokens as independent
  double kl_p50 = 0, kl_p90 = 0, kl_p99 = 0, kl_max = 0;
  double top1_agreement = 0;  ///< share of tokens where both hold the same one most likely (the lowest id of equals)
  NllSums reference, other;
  double perplexity_ratio = 0;  ///< other / reference
};

/// Runs both on the windows, on `threads` threads outside the models (0: all). Throws UsageError where one is no
/// decoder, ShapeError where their vocabularies differ in size, NumericError for logits with NaN or infinity.
DecoderComparison compare_decoders(Session& reference, Session& other, const TextWindows& text, int threads,
                                   const std::function<void(int64_t windows)>& advance = {});

}  // namespace octet

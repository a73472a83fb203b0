// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "octet/nn/trainable.h"
#include "octet/tensor/scheme.h"

namespace octet {

/// The ranges of a weight that is trained quantized, one for each scale, as what training changes too (LSQ: Esser et
/// al., 2020): c stands for the largest magnitude that codes tell apart.
///
/// Weights beyond their range are brought back to its end after each step, and a range beyond all of its weights ends
/// at the largest of them. So c is always the largest magnitude of its weights, absmax finds the scales again, and a
/// checkpoint needs nothing but the weights.
class WeightClips {
 public:
  /// Of `weight`, which must outlive it, the ranges that `scheme` finds. Throws UsageError, naming `site`, where the
  /// scheme is not symmetric.
  WeightClips(Trainables& all, const Trainable& weight, const WeightScheme& scheme, const std::string& site);

  /// The scheme by which the weights are to be quantized after apply().
  const WeightScheme& scheme() const noexcept { return scheme_; }
  /// Weights and ranges as above; `values`, the weights, in both places.
  void apply(Backend& backend, std::span<float> values) const;
  /// Adds to the gradient of the ranges, from that of the weights, which is that of `rounded`, what their codes stand
  /// for: d rounded / dc is (rounded - weight) / c inside the range, and rounded / c at its ends.
  void add_gradient(Backend& backend, std::span<const float> rounded) const;

 private:
  const Trainable* weight_;
  WeightScheme scheme_;
  int64_t width_;  ///< weights of a range
  Trainable* clips_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/ptq/activation_sample.h"
#include "octet/quant/range_estimator.h"
#include "octet/tensor/scheme.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// A linear layer in float and what a recipe is to make of it.
struct LayerToQuantize {
  std::string name;
  ConstTensorView weight;                     ///< [outputs, inputs], any float dtype
  std::optional<Scheme> scheme;               ///< none: stays float
  std::vector<int32_t> outlier_columns = {};  ///< of a scheme with outliers
};

/// What quantizing weights and activations does to the outputs of the layers that read one input, on sampled rows, by
/// the products that would serve the quantized model:
///
///   √(Σ ‖ŷ - y‖² / Σ ‖y‖²)     over the rows and over the layers that have a scheme
///
/// Weights are rounded to nearest. What layers say must outlive this.
class LayerOutputError {
 public:
  /// Throws ShapeError where a layer does not read rows of the sample, Error where the sample is empty.
  LayerOutputError(Backend& backend, std::vector<LayerToQuantize> layers, const ActivationSample& sample);

  const std::vector<LayerToQuantize>& layers() const noexcept { return layers_; }
  const ActivationSample& sample() const noexcept { return sample_; }
  /// The mode of the first layer that has a scheme; kFloat if none has.
  ActivationMode mode() const noexcept;
  int activation_bits() const noexcept;
  /// With columns of weights multiplied, and the input divided, by `factors` [inputs] (none: all 1). An error for each
  /// of `inputs`, scales that layers with static activations read their input by; others do not look at them. 0 where
  /// no layer has a scheme.
  std::vector<double> with(std::span<const float> factors, std::span<const ActivationScale> inputs) const;

 private:
  Scheme first_scheme() const noexcept;
  std::vector<float> multiply(const PackedWeight& weight, const Tensor& x, const ActivationScale& input) const;

  Backend& backend_;
  std::vector<LayerToQuantize> layers_;
  const ActivationSample& sample_;
  Tensor x_;
  std::vector<std::vector<float>> outputs_;  ///< of layers with a scheme, in float
  double energy_ = 0;
};

/// Of range estimates of one site (ActivationRangeEstimator::estimates) the one that disturbs the outputs of its layers
/// least: which values matter, only the weights that multiply them know. Of equals the first.
struct RangeChoice {
  RangeEstimate estimate;
  double output_error = 0;     ///< with it
  std::vector<double> errors;  ///< with each
};
RangeChoice best_range(const LayerOutputError& error, std::span<const RangeEstimate> estimates);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/layer_output_error.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "octet/base/error.h"
#include "octet/nn/workspace.h"
#include "octet/ptq/fold.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

Activation upload(Backend& backend, const Tensor& x, const DeviceMemory& memory) {
  backend.upload(std::as_bytes(x.as<float>()), memory.span());
  return {.memory = memory.span(), .rows = x.shape()[0], .cols = x.shape()[1], .stride = x.shape()[1]};
}

}  // namespace

LayerOutputError::LayerOutputError(Backend& backend, std::vector<LayerToQuantize> layers,
                                   const ActivationSample& sample)
    : backend_(backend), layers_(std::move(layers)), sample_(sample), x_(sample.rows()) {
  if (x_.shape()[0] == 0) fail("site '{}': no rows were sampled; calibration data must reach it", sample.site());
  for (const LayerToQuantize& layer : layers_) {
    if (layer.weight.shape.rank() != 2 || layer.weight.shape[1] != sample.columns()) {
      fail<ShapeError>("layer '{}': a weight of shape {} does not read the {} columns of site '{}'", layer.name,
                       to_string(layer.weight.shape), sample.columns(), sample.site());
    }
    if (!layer.scheme) continue;
    const std::array<ConstTensorView, 1> parts = {layer.weight};
    outputs_.push_back(multiply(*backend_.pack(parts), x_, {}));
    for (const float y : outputs_.back()) energy_ += double{y} * double{y};
  }
}

Scheme LayerOutputError::first_scheme() const noexcept {
  const auto first =
      std::ranges::find_if(layers_, [](const LayerToQuantize& layer) { return layer.scheme.has_value(); });
  return first == layers_.end() ? Scheme() : *first->scheme;
}

ActivationMode LayerOutputError::mode() const noexcept { return first_scheme().activations; }

int LayerOutputError::activation_bits() const noexcept { return first_scheme().activation_bits; }

std::vector<float> LayerOutputError::multiply(const PackedWeight& weight, const Tensor& x,
                                              const ActivationScale& input) const {
  const int64_t rows = x.shape()[0], outputs = weight.rows();
  const DeviceMemory x_memory(backend_, x.bytes()), y_memory(backend_, rows * outputs * int64_t{sizeof(float)});
  const Activation y{.memory = y_memory.span(), .rows = rows, .cols = outputs, .stride = outputs};
  backend_.linear({.x = upload(backend_, x, x_memory), .weight = &weight, .y = y, .input = input});
  if (backend_.take_fault()) fail<NumericError>("site '{}': its input holds NaN or infinity", sample_.site());
  std::vector<float> out(static_cast<size_t>(rows * outputs));
  backend_.download(y, out);
  return out;
}

std::vector<double> LayerOutputError::with(std::span<const float> factors,
                                           std::span<const ActivationScale> inputs) const {
  std::vector<double> errors(inputs.size(), 0.0);
  if (energy_ == 0) return errors;
  Tensor x = Tensor::copy_of(x_.view());
  if (!factors.empty()) {
    const std::span<float> values = x.mutable_as<float>();
    for (size_t i = 0; i < values.size(); ++i) values[i] /= factors[i % factors.size()];
  }
  size_t output = 0;
  for (const LayerToQuantize& layer : layers_) {
    if (!layer.scheme) continue;
    const Tensor folded = factors.empty() ? Tensor() : fold_into_inputs(layer.weight, factors);
    const QTensor codes = quantize_weight(factors.empty() ? layer.weight : folded.view(), layer.scheme->weight,
                                          layer.name, backend_.threads(), layer.outlier_columns);
    const std::array<const QTensor*, 1> parts = {&codes};
    const std::unique_ptr<PackedWeight> packed = backend_.pack(parts, layer.scheme->activations);
    const std::vector<float>& wanted = outputs_[output++];
    double squares = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      // Where nothing is static, all scales give the same.
      if (i == 0 || is_static(layer.scheme->activations)) {
        const std::vector<float> got = multiply(*packed, x, inputs[i]);
        squares = 0;
        for (size_t k = 0; k < got.size(); ++k) {
          const double difference = double{got[k]} - double{wanted[k]};
          squares += difference * difference;
        }
      }
      errors[i] += squares;
    }
  }
  for (double& error : errors) error = std::sqrt(error / energy_);
  return errors;
}

RangeChoice best_range(const LayerOutputError& error, std::span<const RangeEstimate> estimates) {
  if (estimates.empty()) fail("site '{}': no ranges to choose from", error.sample().site());
  std::vector<ActivationScale> scales;
  for (const RangeEstimate& estimate : estimates) scales.push_back(estimate.scale);
  const std::vector<double> errors = error.with({}, scales);
  const auto least = static_cast<size_t>(std::ranges::min_element(errors) - errors.begin());
  return {.estimate = estimates[least], .output_error = errors[least], .errors = errors};
}

}  // namespace octet

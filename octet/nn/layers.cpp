// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/layers.h"

#include "octet/base/error.h"

namespace octet {

void Normalization::set(Tensor gamma, std::optional<Tensor> beta) {
  if (gamma.shape() != gamma_.shape() || beta.has_value() != beta_.has_value() ||
      (beta && beta->shape() != beta_->shape())) {
    fail<ShapeError>("normalization '{}': other values of another shape", layer_);
  }
  gamma_ = std::move(gamma);
  beta_ = std::move(beta);
}

void Normalization::prepare(Backend& backend) {
  if (trained_gamma_ != nullptr) return;
  const int64_t bytes = gamma_.shape().elements() * int64_t{sizeof(float)};
  memory_ = DeviceMemory(backend, beta_ ? 2 * bytes : bytes);
  backend.upload(std::as_bytes(to_f32(gamma_.view()).as<float>()), memory_.span().slice(0, bytes));
  if (beta_) backend.upload(std::as_bytes(to_f32(beta_->view()).as<float>()), memory_.span().slice(bytes, bytes));
}

void Normalization::forward(Context& context, const Activation& x, const Activation& y) const {
  normalize(context, rows(), x, y);
}

NormalizeRows Normalization::rows(std::optional<Activation> y) const {
  if (trained_gamma_ != nullptr) {
    const DeviceSpan beta = trained_beta_ != nullptr ? trained_beta_->values().memory : DeviceSpan();
    return {.gamma = trained_gamma_->values().memory, .beta = beta, .eps = eps_, .y = y};
  }
  if (!beta_) return {.gamma = memory_.span(), .beta = {}, .eps = eps_, .y = y};
  const int64_t bytes = memory_.span().bytes() / 2;
  return {.gamma = memory_.span().slice(0, bytes), .beta = memory_.span().slice(bytes, bytes), .eps = eps_, .y = y};
}

void Normalization::train(Trainables& all) {
  const int64_t width = gamma_.shape().elements();
  const auto add = [&](const Tensor& values, const char* suffix) {
    return &all.add({{layer_ + suffix, 0, width}}, to_f32(values.view()).as<float>(), width, Trainable::Kind::kVector);
  };
  trained_gamma_ = add(gamma_, ".weight");
  if (beta_) trained_beta_ = add(*beta_, ".bias");
  release();
}

void Normalization::stop_training() noexcept { trained_gamma_ = trained_beta_ = nullptr; }

void Normalization::backward(Context& context, const Activation& x, const Activation& dy, const Activation& dx,
                             bool adds) const {
  NormGradientOp op{.x = x,
                    .gamma = trained_gamma_->values().memory,
                    .eps = eps_,
                    .dy = dy,
                    .dx = dx,
                    .adds = adds,
                    .dgamma = trained_gamma_->gradient().memory};
  if (trained_beta_ != nullptr) op.dbeta = trained_beta_->gradient().memory;
  context.backend.norm_gradient(op);
}

void normalize(Context& context, const NormalizeRows& how, const Activation& x, const Activation& y) {
  if (how.beta.empty()) {
    context.backend.rms_norm({.x = x, .gamma = how.gamma, .eps = how.eps, .y = y});
  } else {
    context.backend.layer_norm({.x = x, .gamma = how.gamma, .beta = how.beta, .eps = how.eps, .y = y});
  }
}

void Rotary::prepare(Backend& backend) {
  const auto bytes = std::as_bytes(std::span<const float>(frequencies_));
  memory_ = DeviceMemory(backend, static_cast<int64_t>(bytes.size()));
  backend.upload(bytes, memory_.span());
}

void Rotary::forward(Context& context, const Activation& x, const HeadColumns& heads, DeviceSpan positions,
                     bool backward) const {
  context.backend.rope({.x = x,
                        .heads = heads,
                        .rotary_width = 2 * static_cast<int64_t>(frequencies_.size()),
                        .layout = layout_,
                        .positions = positions,
                        .frequencies = memory_.span(),
                        .factor = factor_,
                        .backward = backward});
}

Trainable& Embedding::train(Trainables& all) {
  const Tensor values = to_f32(table_.view());
  trained_ =
      &all.add({{layer_ + ".weight", 0, table_.shape()[0]}}, values.as<float>(), width(), Trainable::Kind::kMatrix);
  device_table_ = trained_->values().row_range(first_, entries());
  return *trained_;
}

void Embedding::backward(Context& context, DeviceSpan indices, const Activation& dy) const {
  context.backend.embed_gradient(
      {.indices = indices, .dy = dy, .dtable = trained_->gradient().row_range(first_, entries())});
}

void Embedding::prepare(Backend& backend) {
  if (trained_ != nullptr) return;
  device_table_ = backend.table(table_).row_range(first_, entries());
}

}  // namespace octet

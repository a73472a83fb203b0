// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/layers.h"

namespace octet {

void LayerNorm::prepare(Backend& backend) {
  const int64_t bytes = gamma_.shape().elements() * int64_t{sizeof(float)};
  memory_ = DeviceMemory(backend, 2 * bytes);
  backend.upload(std::as_bytes(to_f32(gamma_.view()).as<float>()), memory_.span().slice(0, bytes));
  backend.upload(std::as_bytes(to_f32(beta_.view()).as<float>()), memory_.span().slice(bytes, bytes));
}

void LayerNorm::forward(Context& context, const Activation& x, const Activation& y) const {
  const int64_t bytes = memory_.span().bytes() / 2;
  context.backend.layer_norm({.x = x,
                              .gamma = memory_.span().slice(0, bytes),
                              .beta = memory_.span().slice(bytes, bytes),
                              .eps = eps_,
                              .y = y});
}

NormalizeRows LayerNorm::rows(std::optional<Activation> y) const {
  const int64_t bytes = memory_.span().bytes() / 2;
  return {.gamma = memory_.span().slice(0, bytes), .beta = memory_.span().slice(bytes, bytes), .eps = eps_, .y = y};
}

void RmsNorm::prepare(Backend& backend) {
  memory_ = DeviceMemory(backend, gamma_.shape().elements() * int64_t{sizeof(float)});
  backend.upload(std::as_bytes(to_f32(gamma_.view()).as<float>()), memory_.span());
}

void RmsNorm::forward(Context& context, const Activation& x, const Activation& y) const {
  context.backend.rms_norm({.x = x, .gamma = memory_.span(), .eps = eps_, .y = y});
}

NormalizeRows RmsNorm::rows(std::optional<Activation> y) const {
  return {.gamma = memory_.span(), .beta = {}, .eps = eps_, .y = y};
}

void Rotary::prepare(Backend& backend) {
  const auto bytes = std::as_bytes(std::span<const float>(frequencies_));
  memory_ = DeviceMemory(backend, static_cast<int64_t>(bytes.size()));
  backend.upload(bytes, memory_.span());
}

void Rotary::forward(Context& context, const Activation& x, const HeadColumns& heads, DeviceSpan positions) const {
  context.backend.rope({.x = x,
                        .heads = heads,
                        .rotary_width = 2 * static_cast<int64_t>(frequencies_.size()),
                        .layout = layout_,
                        .positions = positions,
                        .frequencies = memory_.span(),
                        .factor = factor_});
}

}  // namespace octet

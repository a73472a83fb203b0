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

}  // namespace octet

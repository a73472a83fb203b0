// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/token_embedding.h"

#include "octet/base/error.h"

namespace octet {

TokenEmbedding::TokenEmbedding(Linear::Part weight, QuantSites& sites) : entries_(weight.weight.shape[0]) {
  if (weight.weight.scheme) {
    std::vector<Linear::Part> parts;
    parts.push_back(std::move(weight));
    quantized_.emplace(std::move(parts), sites);
  } else {
    weight.weight.load();
    table_.emplace(weight.weight.layer, std::get<Tensor>(std::move(weight.weight.value)));
  }
}

void TokenEmbedding::prepare(Backend& backend) {
  if (table_) table_->prepare(backend);
  if (quantized_) quantized_->prepare(backend);
}

EmbedOp::Lookup TokenEmbedding::lookup(DeviceSpan indices) const {
  if (trained_ != nullptr) return {trained_->values(), indices};
  if (table_) return table_->lookup(indices);
  return {.table = {}, .indices = indices, .packed = &quantized_->packed()};
}

Trainable& TokenEmbedding::train(Trainables& all) {
  if (!table_) fail<UsageError>("'{}' is quantized; training starts from float weights", quantized_->site().name);
  trained_ = &table_->train(all);
  return *trained_;
}

void TokenEmbedding::backward(Context& context, DeviceSpan indices, const Activation& dy) const {
  context.backend.embed_gradient({.indices = indices, .dy = dy, .dtable = trained_->gradient()});
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/token_embedding.h"

namespace octet {

TokenEmbedding::TokenEmbedding(Linear::Part weight, QuantSites& sites) : entries_(weight.weight.shape[0]) {
  if (weight.weight.scheme) {
    std::vector<Linear::Part> parts;
    parts.push_back(std::move(weight));
    quantized_.emplace(std::move(parts), sites);
  } else {
    weight.weight.load();
    table_.emplace(std::get<Tensor>(std::move(weight.weight.value)));
  }
}

void TokenEmbedding::prepare(Backend& backend) {
  if (table_) table_->prepare(backend);
  if (quantized_) quantized_->prepare(backend);
}

EmbedOp::Lookup TokenEmbedding::lookup(DeviceSpan indices) const {
  if (table_) return table_->lookup(indices);
  return {.table = {}, .indices = indices, .packed = &quantized_->packed()};
}

}  // namespace octet

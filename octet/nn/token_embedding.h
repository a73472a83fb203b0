// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "octet/nn/layers.h"
#include "octet/nn/linear.h"

namespace octet {

/// The vectors of a vocabulary's tokens [entries, width]: a float table, read in its stored dtype where it lies, or a
/// quantized one, packed as a weight, which an output head may multiply by as well (tied embeddings: one copy of it).
class TokenEmbedding {
 public:
  /// Quantized where `weight` has a scheme.
  TokenEmbedding(Linear::Part weight, QuantSites& sites);

  int64_t entries() const noexcept { return entries_; }
  /// None where the table is float.
  const Linear* linear() const noexcept { return quantized_ ? &*quantized_ : nullptr; }

  void prepare(Backend& backend);
  int64_t packed_bytes() const noexcept { return quantized_ ? quantized_->packed_bytes() : 0; }
  /// The rows that int32 `indices` name; they must lie inside the table.
  EmbedOp::Lookup lookup(DeviceSpan indices) const;

  /// From now on the vectors are what training changes. Throws UsageError for a quantized table.
  Trainable& train(Trainables& all);
  /// Adds to the gradients of the rows that were looked up.
  void backward(Context& context, DeviceSpan indices, const Activation& dy) const;

 private:
  int64_t entries_;
  std::optional<Embedding> table_;
  std::optional<Linear> quantized_;
  Trainable* trained_ = nullptr;
};

}  // namespace octet

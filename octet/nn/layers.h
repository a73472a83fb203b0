// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/nn/context.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// Layer normalization (Ba, Kiros and Hinton, 2016) over the last dimension; gamma and beta [width], any float dtype.
class LayerNorm {
 public:
  LayerNorm(Tensor gamma, Tensor beta, float eps) : gamma_(std::move(gamma)), beta_(std::move(beta)), eps_(eps) {}

  void prepare(Backend& backend);
  int64_t packed_bytes() const noexcept { return memory_.span().bytes(); }
  /// y [T, width] may be x.
  void forward(Context& context, const Activation& x, const Activation& y) const;

 private:
  Tensor gamma_, beta_;
  float eps_;
  DeviceMemory memory_;  ///< gamma, then beta, fp32
};

/// A table of vectors [entries, width], read in its stored dtype where it lies.
class Embedding {
 public:
  explicit Embedding(Tensor table) : table_(std::move(table)) {}

  const Tensor& table() const noexcept { return table_; }
  void prepare(Backend& backend) { device_table_ = backend.table(table_); }
  /// The rows that int32 `indices` name; they must lie inside the table.
  EmbedOp::Lookup lookup(DeviceSpan indices) const { return {device_table_, indices}; }

 private:
  Tensor table_;
  DeviceTable device_table_;
};

}  // namespace octet

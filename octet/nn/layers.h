// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

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
  /// The same as what a linear layer does first (see Linear::forward); `y` gets the normalized rows too.
  NormalizeRows rows(std::optional<Activation> y = std::nullopt) const;

 private:
  Tensor gamma_, beta_;
  float eps_;
  DeviceMemory memory_;  ///< gamma, then beta, fp32
};

/// Root-mean-square normalization (Zhang and Sennrich, 2019) over the last dimension; gamma [width], any float dtype.
class RmsNorm {
 public:
  RmsNorm(Tensor gamma, float eps) : gamma_(std::move(gamma)), eps_(eps) {}

  void prepare(Backend& backend);
  int64_t packed_bytes() const noexcept { return memory_.span().bytes(); }
  /// y [T, width] may be x.
  void forward(Context& context, const Activation& x, const Activation& y) const;
  /// The same as what a linear layer does first (see Linear::forward); `y` gets the normalized rows too.
  NormalizeRows rows(std::optional<Activation> y = std::nullopt) const;

 private:
  Tensor gamma_;
  float eps_;
  DeviceMemory memory_;  ///< gamma, fp32
};

/// Rotary position embedding (Su et al., 2021): how fast each pair of a head's columns turns, see RopeOp.
class Rotary {
 public:
  /// `frequencies` in radians a position, one for each pair of columns; `factor` on sine and cosine.
  Rotary(std::vector<float> frequencies, float factor, RotaryLayout layout = RotaryLayout::kHalves)
      : frequencies_(std::move(frequencies)), factor_(factor), layout_(layout) {}

  void prepare(Backend& backend);
  int64_t packed_bytes() const noexcept { return memory_.span().bytes(); }
  /// Turns the heads of x [T, heads.columns()] in place, by int32 positions [T].
  void forward(Context& context, const Activation& x, const HeadColumns& heads, DeviceSpan positions) const;

 private:
  std::vector<float> frequencies_;
  float factor_;
  RotaryLayout layout_;
  DeviceMemory memory_;
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

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "octet/nn/context.h"
#include "octet/nn/trainable.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// Normalization over the last dimension: of layers (Ba, Kiros and Hinton, 2016), or, without beta, by the root of the
/// mean square (Zhang and Sennrich, 2019); gamma and beta [width], any float dtype.
class Normalization {
 public:
  /// `layer` is the name that its tensors go by.
  Normalization(std::string layer, Tensor gamma, std::optional<Tensor> beta, float eps)
      : layer_(std::move(layer)), gamma_(std::move(gamma)), beta_(std::move(beta)), eps_(eps) {}

  const std::string& layer() const noexcept { return layer_; }
  const Tensor& gamma() const noexcept { return gamma_; }
  const std::optional<Tensor>& beta() const noexcept { return beta_; }
  /// Other values in their place, for the next prepare.
  void set(Tensor gamma, std::optional<Tensor> beta);
  void prepare(Backend& backend);
  void release() noexcept { memory_ = DeviceMemory(); }
  int64_t packed_bytes() const noexcept { return memory_.span().bytes(); }
  /// y [T, width] may be x.
  void forward(Context& context, const Activation& x, const Activation& y) const;
  /// The same as what a linear layer does first (see Linear::forward); `y` gets the normalized rows too.
  NormalizeRows rows(std::optional<Activation> y = std::nullopt) const;

  /// From now on gamma and beta are what training changes.
  void train(Trainables& all);
  void stop_training() noexcept;
  /// dx, that of the x which forward read, from dy (which it may be), written or added to; gradients of gamma and beta
  /// are added to theirs.
  void backward(Context& context, const Activation& x, const Activation& dy, const Activation& dx, bool adds) const;

 private:
  std::string layer_;
  Tensor gamma_;
  std::optional<Tensor> beta_;
  float eps_;
  DeviceMemory memory_;  ///< gamma, then beta, fp32
  Trainable *trained_gamma_ = nullptr, *trained_beta_ = nullptr;
};

/// Rows of x normalized into y, which may be x.
void normalize(Context& context, const NormalizeRows& how, const Activation& x, const Activation& y);

/// Rotary position embedding (Su et al., 2021): how fast each pair of a head's columns turns, see RopeOp.
class Rotary {
 public:
  /// `frequencies` in radians a position, one for each pair of columns; `factor` on sine and cosine.
  Rotary(std::vector<float> frequencies, float factor, RotaryLayout layout = RotaryLayout::kHalves)
      : frequencies_(std::move(frequencies)), factor_(factor), layout_(layout) {}

  void prepare(Backend& backend);
  int64_t packed_bytes() const noexcept { return memory_.span().bytes(); }
  /// Turns the heads of x [T, heads.columns()] in place, by int32 positions [T].
  /// `backward`: the other way, as their gradients turn.
  void forward(Context& context, const Activation& x, const HeadColumns& heads, DeviceSpan positions,
               bool backward = false) const;

 private:
  std::vector<float> frequencies_;
  float factor_;
  RotaryLayout layout_;
  DeviceMemory memory_;
};

/// A table of vectors [entries, width], read in its stored dtype where it lies.
class Embedding {
 public:
  /// `layer` is the name that its tensor goes by. Index 0 is row `first`: entries are those from there on.
  Embedding(std::string layer, Tensor table, int64_t first = 0)
      : layer_(std::move(layer)), table_(std::move(table)), first_(first) {}

  int64_t entries() const noexcept { return table_.shape()[0] - first_; }
  int64_t width() const noexcept { return table_.shape()[1]; }
  void prepare(Backend& backend);
  /// The entries that int32 `indices` name; they must lie inside the table.
  EmbedOp::Lookup lookup(DeviceSpan indices) const { return {device_table_, indices}; }

  /// From now on the table is what training changes.
  Trainable& train(Trainables& all);
  /// Adds to the gradients of the entries that were looked up.
  void backward(Context& context, DeviceSpan indices, const Activation& dy) const;

 private:
  std::string layer_;
  Tensor table_;
  int64_t first_;
  DeviceTable device_table_;
  Trainable* trained_ = nullptr;
};

}  // namespace octet

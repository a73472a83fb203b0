// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "octet/backend/backend.h"

namespace octet {

/// A backend that passes everything on to another, for those that watch what goes by.
class ForwardingBackend : public Backend {
 public:
  /// `inner` must outlive it.
  explicit ForwardingBackend(Backend& inner) : inner_(&inner) {}

  std::string describe() const override { return inner_->describe(); }
  int threads() const noexcept override { return inner_->threads(); }
  DeviceSpan allocate(int64_t bytes) override { return inner_->allocate(bytes); }
  void free(DeviceSpan memory) noexcept override { inner_->free(memory); }
  void upload(std::span<const std::byte> source, DeviceSpan target) override { inner_->upload(source, target); }
  void download(DeviceSpan source, std::span<std::byte> target) override { inner_->download(source, target); }
  void download(const Activation& x, std::span<float> target) override { inner_->download(x, target); }
  void copy(DeviceSpan source, DeviceSpan target) override { inner_->copy(source, target); }
  void fill_zero(DeviceSpan target) override { inner_->fill_zero(target); }
  DeviceTable table(const Tensor& tensor) override { return inner_->table(tensor); }
  std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts) override { return inner_->pack(parts); }
  std::unique_ptr<PackedWeight> pack(std::span<const QTensor* const> parts, ActivationMode activations) override {
    return inner_->pack(parts, activations);
  }
  std::unique_ptr<PackedWeight> pack(const DeviceTable& values) override { return inner_->pack(values); }
  QTensor unpack(const PackedWeight& packed) const override { return inner_->unpack(packed); }
  int64_t kv_bytes(DType dtype, int64_t kv_heads, int64_t head_width) const override {
    return inner_->kv_bytes(dtype, kv_heads, head_width);
  }
  void embed(const EmbedOp& op) override { inner_->embed(op); }
  void widen(const WidenOp& op) override { inner_->widen(op); }
  void linear(const LinearOp& op) override { inner_->linear(op); }
  void matmul(const MatmulOp& op) override { inner_->matmul(op); }
  void layer_norm(const LayerNormOp& op) override { inner_->layer_norm(op); }
  void rms_norm(const RmsNormOp& op) override { inner_->rms_norm(op); }
  void rope(const RopeOp& op) override { inner_->rope(op); }
  void gated(const GatedOp& op) override { inner_->gated(op); }
  void attention(const AttentionOp& op) override { inner_->attention(op); }
  void pool(const PoolOp& op) override { inner_->pool(op); }
  void l2_normalize(const Activation& x) override { inner_->l2_normalize(x); }
  void nonlinearity(const NonlinearityOp& op) override { inner_->nonlinearity(op); }
  void nonlinearity_gradient(const NonlinearityGradientOp& op) override { inner_->nonlinearity_gradient(op); }
  void gated_gradient(const GatedGradientOp& op) override { inner_->gated_gradient(op); }
  void norm_gradient(const NormGradientOp& op) override { inner_->norm_gradient(op); }
  void attention_gradient(const AttentionGradientOp& op) override { inner_->attention_gradient(op); }
  void pool_gradient(const PoolGradientOp& op) override { inner_->pool_gradient(op); }
  void embed_gradient(const EmbedGradientOp& op) override { inner_->embed_gradient(op); }
  void column_sums(const ColumnSumsOp& op) override { inner_->column_sums(op); }
  void add(const AddOp& op) override { inner_->add(op); }
  void dropout(const DropoutOp& op) override { inner_->dropout(op); }
  void round_trip(const RoundTripOp& op) override { inner_->round_trip(op); }
  void clip_gradient(const ClipGradientOp& op) override { inner_->clip_gradient(op); }
  void cross_entropy(const CrossEntropyOp& op) override { inner_->cross_entropy(op); }
  void distill(const DistillOp& op) override { inner_->distill(op); }
  void squared_error(const SquaredErrorOp& op) override { inner_->squared_error(op); }
  void adamw(const AdamwOp& op) override { inner_->adamw(op); }
  void sgd(const SgdOp& op) override { inner_->sgd(op); }
  double squared_norm(DeviceSpan x, int64_t count) override { return inner_->squared_norm(x, count); }
  std::optional<NumericFault> take_fault() override { return inner_->take_fault(); }

 protected:
  Backend& inner() noexcept { return *inner_; }

 private:
  Backend* inner_;
};

}  // namespace octet

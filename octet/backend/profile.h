// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "octet/backend/backend.h"

namespace octet {

/// A backend that passes everything on to another, and keeps the time that each operation took.
class ProfilingBackend final : public Backend {
 public:
  /// One kind of operation, on matrices of one size.
  struct Entry {
    std::string name;  ///< "linear 384 → 1,536", "attention"
    int64_t rows = 0;
    int64_t calls = 0;
    double seconds = 0;
    double multiplications = 0;  ///< of all calls of a linear operation; 0 for others
  };

  explicit ProfilingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  /// Since the last clear(), those that took longest first.
  std::vector<Entry> entries() const;
  void clear() { entries_.clear(); }

  std::string describe() const override { return inner_->describe(); }
  int threads() const noexcept override { return inner_->threads(); }
  DeviceSpan allocate(int64_t bytes) override { return inner_->allocate(bytes); }
  void free(DeviceSpan memory) noexcept override { inner_->free(memory); }
  void upload(std::span<const std::byte> source, DeviceSpan target) override { inner_->upload(source, target); }
  void download(DeviceSpan source, std::span<std::byte> target) override { inner_->download(source, target); }
  void download(const Activation& x, std::span<float> target) override { inner_->download(x, target); }
  void copy(DeviceSpan source, DeviceSpan target) override { inner_->copy(source, target); }
  DeviceTable table(const Tensor& tensor) override { return inner_->table(tensor); }
  std::unique_ptr<PackedWeight> pack(std::span<const ConstTensorView> parts) override { return inner_->pack(parts); }
  std::unique_ptr<PackedWeight> pack(std::span<const QTensor* const> parts, ActivationMode activations) override {
    return inner_->pack(parts, activations);
  }
  QTensor unpack(const PackedWeight& packed) const override { return inner_->unpack(packed); }
  int64_t kv_bytes(DType dtype, int64_t kv_heads, int64_t head_width) const override {
    return inner_->kv_bytes(dtype, kv_heads, head_width);
  }
  std::optional<NumericFault> take_fault() override { return inner_->take_fault(); }

  void embed(const EmbedOp& op) override;
  void linear(const LinearOp& op) override;
  void layer_norm(const LayerNormOp& op) override;
  void rms_norm(const RmsNormOp& op) override;
  void rope(const RopeOp& op) override;
  void gated(const GatedOp& op) override;
  void attention(const AttentionOp& op) override;
  void pool(const PoolOp& op) override;
  void l2_normalize(const Activation& x) override;

 private:
  template <class Run>
  void timed(const std::string& name, int64_t rows, double multiplications, Run run);

  std::unique_ptr<Backend> inner_;
  std::map<std::pair<std::string, int64_t>, Entry> entries_;  ///< by name and rows
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "octet/backend/forwarding.h"

namespace octet {

/// A backend that passes everything on to another, and keeps the time that each operation took.
class ProfilingBackend final : public ForwardingBackend {
 public:
  /// One kind of operation, on matrices of one size.
  struct Entry {
    std::string name;  ///< "linear 384 → 1,536", "attention"
    int64_t rows = 0;
    int64_t calls = 0;
    double seconds = 0;
    double multiplications = 0;  ///< of all calls of a linear operation; 0 for others
  };

  explicit ProfilingBackend(std::unique_ptr<Backend> inner) : ForwardingBackend(*inner), owned_(std::move(inner)) {}

  /// Since the last clear(), those that took longest first.
  std::vector<Entry> entries() const;
  void clear() { entries_.clear(); }

  void embed(const EmbedOp& op) override;
  void linear(const LinearOp& op) override;
  void matmul(const MatmulOp& op) override;
  void layer_norm(const LayerNormOp& op) override;
  void rms_norm(const RmsNormOp& op) override;
  void rope(const RopeOp& op) override;
  void gated(const GatedOp& op) override;
  void attention(const AttentionOp& op) override;
  void pool(const PoolOp& op) override;
  void l2_normalize(const Activation& x) override;
  void nonlinearity(const NonlinearityOp& op) override;
  void nonlinearity_gradient(const NonlinearityGradientOp& op) override;
  void gated_gradient(const GatedGradientOp& op) override;
  void norm_gradient(const NormGradientOp& op) override;
  void attention_gradient(const AttentionGradientOp& op) override;
  void pool_gradient(const PoolGradientOp& op) override;
  void embed_gradient(const EmbedGradientOp& op) override;
  void column_sums(const ColumnSumsOp& op) override;
  void add(const AddOp& op) override;
  void dropout(const DropoutOp& op) override;
  void round_trip(const RoundTripOp& op) override;
  void clip_gradient(const ClipGradientOp& op) override;
  void cross_entropy(const CrossEntropyOp& op) override;
  void distill(const DistillOp& op) override;
  void squared_error(const SquaredErrorOp& op) override;
  void adamw(const AdamwOp& op) override;

 private:
  template <class Run>
  void timed(const std::string& name, int64_t rows, double multiplications, Run run);

  std::unique_ptr<Backend> owned_;
  std::map<std::pair<std::string, int64_t>, Entry> entries_;  ///< by name and rows
};

}  // namespace octet

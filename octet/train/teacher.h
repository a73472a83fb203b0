// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "octet/models/session.h"
#include "octet/nn/trainable.h"
#include "octet/train/loss.h"

namespace octet {

/// How a student learns from its teacher; see TrainConfig.
struct DistillOptions {
  double alpha = 0.5, temperature = 2, hidden = 0;
};

/// A trained model whose outputs another one learns (knowledge distillation: Hinton, Vinyals and Dean, 2015), and its
/// hidden states too, where asked for (TinyBERT: Jiao et al., 2020): of a student with fewer blocks, block b is to be
/// like the block (b + 1) · T / S - 1 of the teacher, so that their ends are alike.
class Teacher {
 public:
  /// Throws UsageError where hidden states are asked for that `student` cannot have: of another width, or more blocks.
  Teacher(const std::filesystem::path& model, const ModelInfo& student, const DistillOptions& options,
          const CpuBackendOptions& cpu);

  /// Says what it thinks of a batch. Hidden states stay in `training`'s kept memory, in the scope that the caller has
  /// open, and `training` compares the student's with them in its passes: their gradients are those of `term` times the
  /// sum over tokens of what of_hidden() is the sum of.
  void look_at(Training& training, const TokenBatch& batch, float term);
  /// As apply_loss, of the task's loss and the distance from the outputs together.
  double apply(Context& context, LossKind kind, const LabelledBatch& batch, float factor, const Activation& output);
  /// After the student's forward pass: options.hidden · Σ over tokens of the mean over pieces and columns of squared
  /// differences.
  double of_hidden() const noexcept { return of_hidden_; }

 private:
  int64_t piece_for(int64_t piece) const noexcept;

  Session session_;
  DistillOptions options_;
  int64_t blocks_;  ///< of the student
  Tensor output_;
  double of_hidden_ = 0;
  std::vector<Activation> states_;  ///< of each of the student's pieces; then the gradients that they turn into
};

}  // namespace octet

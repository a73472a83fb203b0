// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "octet/models/token_batch.h"
#include "octet/nn/context.h"

namespace octet {

/// What a loss compares a model's output with.
enum class LossKind : uint8_t {
  kClasses,  ///< cross-entropy of each row that has a label: of a text's classes, or of the next token
  kGrades,   ///< squared error of one number a row
  kSpan,     ///< half the cross-entropies over a sequence's tokens of an answer's start and of its end
};

/// Examples as a model reads them, with what it should say.
struct LabelledBatch {
  TokenBatch tokens;
  std::vector<int32_t> labels;                       ///< of kClasses, one a row of the output; -1: none
  std::vector<int32_t> rows;                         ///< tokens that outputs are of, ascending; none: all
  std::vector<float> grades;                         ///< of kGrades
  std::vector<std::pair<int32_t, int32_t>> answers;  ///< of kSpan: first and last token, from the sequence's first on

  /// Terms that the loss is the mean of.
  int64_t terms(LossKind kind) const noexcept;

  /// Where labels are a token's and few have one, as of masked tokens: makes `rows` those, and `labels` theirs, so that
  /// a model gives nothing for the others.
  void leave_out_unlabelled();
};

/// The sum of a batch's losses. The rows of `output` are replaced by the gradient of `factor` times the sum.
/// Throws Error for a label that is no column of the output.
double apply_loss(Context& context, LossKind kind, const LabelledBatch& batch, float factor, const Activation& output);

/// The sum of a batch's distances from what `teacher`, of the shape of `output`, says: of classes and spans the
/// divergence of distributions at `temperature` (see DistillOp), of grades the squared error. `d` becomes the gradient
/// of `factor` times the sum by `output`.
double distill(Context& context, LossKind kind, const LabelledBatch& batch, float temperature, float factor,
               const Activation& teacher, const Activation& output, const Activation& d);

}  // namespace octet

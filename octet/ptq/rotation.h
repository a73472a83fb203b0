// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "octet/io/checkpoint.h"

namespace octet {

struct RotationOptions {
  uint64_t seed = 0;                                              ///< of the random signs
  std::function<void(int64_t done, int64_t total)> advance = {};  ///< follows the tensors
};

struct RotationReport {
  int64_t width = 0, block = 0;            ///< of hidden states, and of what is mixed together
  int64_t head_width = 0, head_block = 0;  ///< of values; 0 where no block has a layer of its own for them
  int64_t tensors = 0;                     ///< that were turned
  bool untied = false;                     ///< the head got a weight of its own
  int64_t bytes_before = 0, bytes_after = 0;
};

/// Writes the float model of `checkpoint` again, its hidden states turned by an orthogonal matrix Q (HadamardRotation)
/// and its heads of values by another one Q', both folded into the weights (the offline rotations of QuaRot, Ashkboos
/// et al., 2024; the ones that need products at run time are not made). What the model computes stays but for rounding,
/// and no column of what its layers read is much larger than others, which is what quantizers suffer from.
///
///   reads hidden states, after a normalization with gamma γ   W · diag(γ) · Q, and 1 in the place of γ
///   writes to them                                            Qᵀ · W, Qᵀ · bias
///   embedding                                                 E · Q
///   makes values, reads them                                  Q'ᵀ · W, Q'ᵀ · bias of each head;  W · Q' of each head
///
/// Products are in fp64, rounded to fp32, the dtype of all that changes, after the columns and after the rows were
/// turned; everything else is copied. A head that is
/// tied to the embedding gets a weight of its own, as only its γ is folded into it. `out` must not exist; it appears
/// whole or not at all. Throws UsageError for a model whose normalizations are no root mean squares, that has no head,
/// that is quantized, or that is a GGUF file.
RotationReport rotate_model(const Checkpoint& checkpoint, const std::filesystem::path& out,
                            const RotationOptions& options = {});

}  // namespace octet

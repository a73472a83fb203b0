// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"
#include "octet/backend/gradient_ops.h"

namespace octet::cpu {

/// One of an operation's rows, and of its heads.
struct AttentionRow {
  int64_t row, head, heads;
};

/// Which elements a Dropout keeps.
class DropoutMask {
 public:
  /// Throws Error for a probability that is not in [0, 1); `what` says whose.
  DropoutMask(const KernelTable& table, const Dropout& dropout, const char* what);

  bool drops() const noexcept { return dropout_.probability > 0; }
  float factor() const noexcept { return 1 / (1 - dropout_.probability); }

  /// y[i] = x[i] · factor, or 0 where element first + i is dropped. y may be x.
  void apply(uint64_t first, int64_t count, const float* x, float factor, float* y) const;

  /// The same in place, of the weights that a row and head of attention gives the keys from `key` on.
  void apply_to_weights(const AttentionRow& row, int64_t key, int64_t count, float factor, float* weights) const;

 private:
  const KernelTable& table_;
  Dropout dropout_;
};

}  // namespace octet::cpu

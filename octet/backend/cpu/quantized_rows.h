// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/workspace.h"
#include "octet/tensor/scheme.h"

namespace octet::cpu {

/// Rows of x as codes, with what an INT8 product and its epilogue need to know of them: where they lie in a workspace.
struct QuantizedRows {
  const Int8Kernels& kernels;
  int64_t depth;
  int64_t stride;  ///< bytes from a row of codes to the next
  int64_t step;    ///< k whose codes are summed
  int64_t sum_count;
  int64_t group_count;  ///< groups that minima meet the sums of; 0 where there are no minima
  Layout::Part<std::byte> codes;
  Layout::Part<int32_t> sums;  ///< [rows][sum_count]
  Layout::Part<float> scales;
  Layout::Part<float> group_sums;  ///< [rows][group_count]

  /// Room for `rows` rows in `layout`. `group`: k of a sum that is rescaled by itself; 0: all.
  QuantizedRows(const Int8Kernels& kernels, int64_t rows, int64_t depth, int64_t group, bool minima, Layout& layout);

  /// Makes codes of the row x [depth] at its `place` in memory, by the scale of a static `mode` or the row's own. False
  /// where x holds NaN or infinity: zero codes under a NaN scale then, so that what the row gives is NaN and says what
  /// happened if nobody asks for the fault.
  bool quantize(const KernelTable& table, ActivationMode mode, const ActivationScale& input, const float* x,
                std::byte* memory, int64_t place) const;
};

}  // namespace octet::cpu

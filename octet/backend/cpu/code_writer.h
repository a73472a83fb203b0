// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/operations.h"

namespace octet::cpu {

/// Codes in [0, 255] are kept as int8, so much less: Σ (a - z) w = Σ (a - 128) w + (128 - z) Σ w.
inline constexpr int kUint8Offset = 128;

/// What static activations fix of a row's codes.
QuantizeRow static_row(ActivationMode mode, const ActivationScale& scale);

/// An operation's way to its y: tasks put fp32 results where `floats` says, and `write` makes codes of them, if y holds
/// codes, while they are in a cache.
class CodeWriter {
 public:
  struct Floats {
    float* data;
    int64_t stride;
  };

  /// For pieces of at most `rows` by `cols`; takes room for one in each worker's memory if y holds codes.
  CodeWriter(const KernelTable& table, const Activation& y, int64_t rows, int64_t cols, Layout& worker);

  /// The place of the piece whose first element is (row, col) of y.
  Floats floats(int64_t row, int64_t col, std::byte* memory) const;
  void write(int64_t row, int64_t rows, int64_t col, int64_t cols, std::byte* memory);

  /// The lowest row that held NaN or infinity, for which zeros stand.
  std::optional<int64_t> fault() const { return lowest_.get(); }

 private:
  const KernelTable& table_;
  Activation y_;
  QuantizeRow row_;
  int64_t stride_ = 0;
  Layout::Part<float> floats_;
  Layout::Part<int8_t> codes_;
  Layout::Part<int32_t> sums_;
  LowestRow lowest_;
};

}  // namespace octet::cpu

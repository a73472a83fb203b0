// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/backend.h"
#include "octet/backend/cpu/kernels.h"

/// How a block of the key-value cache lies in memory: head after head, each its keys in panels of tokens,
/// [tokens / width][head_width][width], then its values in panels of columns, [head_width / width][tokens][width], so
/// that products read both where they are.
///
/// I8: the panels of codes that KernelTable::int8_attention reads, of keys [tokens / width][width · head_width], of
/// values [head_width / width][tokens · width], the head width of keys rounded up to a multiple of kCodePadding; then a
/// scale for each key and one for each value, [tokens] fp32 each.
namespace octet::cpu {

/// Panels of int8 keys and values, and their scales.
struct CodePanels {
  int8_t *keys = nullptr, *values = nullptr;
  float *key_scales = nullptr, *value_scales = nullptr;  ///< [tokens]; NaN: that key or value held NaN or infinity
  int64_t capacity = 0;                                  ///< tokens that there is room for; a multiple of kCodePadding
};

/// What kKvBlockTokens tokens of one layer take, see Backend::kv_bytes.
int64_t kv_bytes(const KernelTable& table, DType dtype, int64_t heads, int64_t head_width);

/// The cached keys and values of one operation. Throws ShapeError where its tables do not fit the batch.
class KvReader {
 public:
  KvReader(const KernelTable& table, const AttentionOp& op);

  int64_t past(int64_t sequence) const noexcept { return past_[sequence]; }
  DType dtype() const noexcept { return dtype_; }
  bool widens() const noexcept { return dtype_ == DType::kF16; }
  int64_t key_elements() const noexcept { return kKvBlockTokens * head_width_; }
  int64_t value_elements() const noexcept { return kKvBlockTokens * padded_width_; }

  /// Writes the new rows of one sequence and head, rounded to the cache's float dtype.
  void append(const AttentionOp& op, int64_t sequence, int64_t head) const;

  /// Panels of the block that holds tokens [index · kKvBlockTokens, …); F16 ones widened into `buffer`, which has room
  /// for them.
  const float* keys(int64_t sequence, int64_t head, int64_t index, float* buffer) const;
  const float* values(int64_t sequence, int64_t head, int64_t index, float* buffer) const;

  /// The same of an I8 cache, to be read and written.
  CodePanels codes(int64_t sequence, int64_t head, int64_t index) const;

 private:
  std::byte* block(int64_t sequence, int64_t head, int64_t index) const;
  const float* widened(const std::byte* panels, int64_t count, float* buffer) const;

  const KernelTable& table_;
  std::byte* const* addresses_;
  const int32_t *first_block_, *past_;
  int64_t layer_bytes_, head_bytes_, head_width_, padded_width_;
  DType dtype_;
};

}  // namespace octet::cpu

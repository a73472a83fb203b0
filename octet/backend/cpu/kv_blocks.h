// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/backend.h"
#include "octet/backend/cpu/kernels.h"

/// How a block of the key-value cache lies in memory: head after head, each its keys in panels of tokens,
/// [tokens / width][head_width][width], then its values in panels of columns, [head_width / width][tokens][width], so
/// that products read both where they are.
namespace octet::cpu {

/// What kKvBlockTokens tokens of one layer take, see Backend::kv_bytes.
int64_t kv_bytes(const KernelTable& table, DType dtype, int64_t heads, int64_t head_width);

/// The cached keys and values of one operation. Throws ShapeError where its tables do not fit the batch.
class KvReader {
 public:
  KvReader(const KernelTable& table, const AttentionOp& op);

  int64_t past(int64_t sequence) const noexcept { return past_[sequence]; }
  bool widens() const noexcept { return dtype_ == DType::kF16; }
  int64_t key_elements() const noexcept { return kKvBlockTokens * head_width_; }
  int64_t value_elements() const noexcept { return kKvBlockTokens * padded_width_; }

  /// Writes the new rows of one sequence and head, rounded to the cache's dtype.
  void append(const AttentionOp& op, int64_t sequence, int64_t head) const;

  /// Panels of the block that holds tokens [index · kKvBlockTokens, …); F16 ones widened into `buffer`, which has room
  /// for them.
  const float* keys(int64_t sequence, int64_t head, int64_t index, float* buffer) const;
  const float* values(int64_t sequence, int64_t head, int64_t index, float* buffer) const;

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

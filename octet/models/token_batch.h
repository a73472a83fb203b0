// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "octet/nn/context.h"
#include "octet/nn/kv_cache.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// Token sequences of any lengths, one after another: sequence b is tokens [offsets[b], offsets[b+1]). There is no
/// padding: a masked token is left out, and the positions of the others say where it was.
struct TokenBatch {
  std::vector<int32_t> ids, positions, type_ids;  ///< [tokens]
  std::vector<int32_t> offsets = {0};             ///< [sequences + 1]

  int64_t tokens() const noexcept { return static_cast<int64_t>(ids.size()); }
  int64_t sequences() const noexcept { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t longest() const noexcept;

  /// A sequence at positions first_position, first_position + 1, …; type ids 0 where none are given. Throws ShapeError
  /// if their number differs.
  void add(std::span<const int32_t> sequence_ids, std::span<const int32_t> sequence_type_ids = {},
           int64_t first_position = 0);

  /// Sequences [first, last) as a batch of their own.
  TokenBatch slice(int64_t first, int64_t last) const;

  /// Rows of a matrix ids [B, S] of I32 (or I64), tokens with mask 0 left out. mask and type_ids, of the same shape,
  /// may be null. Throws ShapeError for other shapes, Error for masks that are not 0 or 1 and numbers beyond int32.
  static TokenBatch from_matrix(const Tensor& ids, const Tensor* mask, const Tensor* type_ids);
};

/// A TokenBatch and its copy in a backend's memory.
struct DeviceBatch {
  const TokenBatch& host;
  DeviceSpan ids, positions, type_ids, offsets;
  std::optional<KvView> kv = {};  ///< where the sequences continue those of a cache
};

/// Uploads into the open scope of the context's workspace.
DeviceBatch upload(Context& context, const TokenBatch& batch);

}  // namespace octet

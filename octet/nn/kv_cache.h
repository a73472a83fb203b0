// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "octet/nn/workspace.h"

namespace octet {

/// What one forward pass knows of a KvCache: the blocks of its sequences, and how many tokens each had before.
struct KvView {
  KvBlocks blocks;          ///< of layer 0
  int64_t layer_bytes = 0;  ///< from a layer to the next

  KvBlocks layer(int64_t index) const noexcept {
    KvBlocks of_layer = blocks;
    of_layer.layer_bytes = index * layer_bytes;
    return of_layer;
  }
};

/// Keys and values of the tokens that sequences have had so far, for all layers of a model, in blocks of
/// kKvBlockTokens tokens that are taken and given back one by one.
class KvCache {
 public:
  struct Shape {
    int64_t layers = 0, heads = 0, head_width = 0;  ///< heads: of keys and values
    DType dtype = DType::kF32;                      ///< F32, F16 or I8, which keys and values are rounded to
    int64_t max_tokens = 0;                         ///< the longest a sequence may become
  };

  KvCache(Backend& backend, const Shape& shape);

  DType dtype() const noexcept { return shape_.dtype; }

  /// A new sequence without tokens; its number.
  int add_sequence();
  /// Gives its blocks back. The number may be handed out again.
  void remove_sequence(int sequence);
  int64_t length(int sequence) const { return at(sequence).length; }
  /// Forgets the tokens from `length` on.
  void truncate(int sequence, int64_t length);

  /// Room for the tokens of a batch: sequences[b] grows by offsets[b + 1] - offsets[b]. The view is good until the
  /// workspace scope around the call closes. Throws Error where a sequence would become longer than the longest.
  KvView extend(Workspace& workspace, std::span<const int> sequences, std::span<const int32_t> offsets);

  int64_t bytes() const noexcept { return static_cast<int64_t>(blocks_.size()) * block_bytes_; }  ///< held

 private:
  struct Sequence {
    bool used = false;
    int64_t length = 0;
    std::vector<size_t> blocks;  ///< places in blocks_
  };

  const Sequence& at(int sequence) const;

  Backend* backend_;
  Shape shape_;
  int64_t layer_bytes_, block_bytes_;
  std::vector<DeviceMemory> blocks_;
  std::vector<size_t> free_;
  std::vector<Sequence> sequences_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <utility>
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
/// kKvBlockTokens tokens. Sequences that begin with the same tokens read the same blocks: equal tokens at equal places
/// have equal keys and values, to the bit. A block that several read is copied before one of them writes to it. What a
/// removed sequence leaves behind can be found until its memory is needed (paged attention: Kwon et al., 2023).
class KvCache {
 public:
  struct Shape {
    int64_t layers = 0, heads = 0, head_width = 0;  ///< heads: of keys and values
    DType dtype = DType::kF32;                      ///< F32, F16 or I8, which keys and values are rounded to
    int64_t max_tokens = 0;                         ///< the longest a sequence may become
  };

  KvCache(Backend& backend, const Shape& shape);

  DType dtype() const noexcept { return shape_.dtype; }

  /// A new sequence, without tokens or with the first cached_prefix(ids) of `ids`; its number.
  int add_sequence(std::span<const int32_t> ids = {});
  /// How many of the first `ids` are there already, in whole blocks; at least the last is not counted, for it must be
  /// run to know what follows.
  int64_t cached_prefix(std::span<const int32_t> ids) const;
  /// A new sequence with the tokens of another, and its blocks; its number.
  int fork(int sequence);
  /// Gives its blocks back. The number may be handed out again.
  void remove_sequence(int sequence);
  int64_t length(int sequence) const { return std::ssize(at(sequence).tokens); }
  std::span<const int32_t> tokens(int sequence) const { return at(sequence).tokens; }
  /// Forgets the tokens from `length` on.
  void truncate(int sequence, int64_t length);

  /// Room for the tokens `ids` of a batch: sequences[b] grows by those from offsets[b] to offsets[b + 1]. The view is
  /// good until the workspace scope around the call closes. Throws Error where a sequence would become longer than the
  /// longest.
  KvView extend(Workspace& workspace, std::span<const int> sequences, std::span<const int32_t> offsets,
                std::span<const int32_t> ids);
  /// All tokens of these sequences have been run: others may begin with them.
  void publish(std::span<const int> sequences);

  int64_t bytes() const noexcept { return std::ssize(blocks_) * block_bytes_; }  ///< held

 private:
  // What a full block holds: its tokens after the text that ends with the block before, 0 for none. A number of a text
  // is never given again, so that one whose beginning is gone cannot be found.
  using TextKey = std::pair<uint64_t, std::vector<int32_t>>;
  struct Text {
    uint64_t number;
    size_t block;
  };
  using Texts = std::map<TextKey, Text>;

  struct Block {
    DeviceMemory memory;
    int readers = 0;                           ///< sequences
    std::optional<Texts::iterator> text = {};  ///< by which it can be found
    std::list<size_t>::iterator place = {};    ///< in idle_, without readers
  };
  struct Sequence {
    bool used = false;
    std::vector<int32_t> tokens;
    std::vector<size_t> blocks;   ///< places in blocks_
    std::vector<uint64_t> texts;  ///< numbers of the first of them, which are published
  };

  size_t index(int sequence) const;  ///< in sequences_
  const Sequence& at(int sequence) const { return sequences_[index(sequence)]; }
  Sequence& at(int sequence) { return sequences_[index(sequence)]; }
  int unused_number();
  /// The longest published beginning of `ids`: visit(text) block by block.
  template <class Visit>
  void for_each_cached(std::span<const int32_t> ids, Visit visit) const;
  size_t take_block();
  void read(size_t block);
  void release(size_t block);
  void hide(Block& block);
  /// Makes the last block, where it has room left, one that this sequence alone reads and nobody finds.
  void own_last_block(Sequence& sequence);

  Backend* backend_;
  Shape shape_;
  int64_t layer_bytes_, block_bytes_;
  std::vector<Block> blocks_;
  std::list<size_t> idle_;  ///< blocks without readers, those to be taken first in front
  std::vector<Sequence> sequences_;
  Texts texts_;
  uint64_t last_text_ = 0;
};

}  // namespace octet

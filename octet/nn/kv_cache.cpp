// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/kv_cache.h"

#include <algorithm>

#include "octet/base/checked.h"
#include "octet/base/error.h"

namespace octet {

KvCache::KvCache(Backend& backend, const Shape& shape)
    : backend_(&backend),
      shape_(shape),
      layer_bytes_(backend.kv_bytes(shape.dtype, shape.heads, shape.head_width)),
      block_bytes_(checked_mul(layer_bytes_, shape.layers)) {}

const KvCache::Sequence& KvCache::at(int sequence) const {
  const auto index = static_cast<size_t>(sequence);
  if (sequence < 0 || index >= sequences_.size() || !sequences_[index].used) {
    fail("the key-value cache has no sequence {}", sequence);
  }
  return sequences_[index];
}

int KvCache::add_sequence() {
  const auto unused = std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.used; });
  const auto index = static_cast<int>(unused - sequences_.begin());
  if (unused == sequences_.end()) sequences_.emplace_back();
  sequences_[static_cast<size_t>(index)] = {.used = true, .length = 0, .blocks = {}};
  return index;
}

void KvCache::remove_sequence(int sequence) {
  truncate(sequence, 0);
  sequences_[static_cast<size_t>(sequence)].used = false;
}

void KvCache::truncate(int sequence, int64_t length) {
  if (length < 0 || length > at(sequence).length) {
    fail("sequence {} has {} tokens and cannot keep {}", sequence, at(sequence).length, length);
  }
  Sequence& s = sequences_[static_cast<size_t>(sequence)];
  s.length = length;
  const auto kept = static_cast<size_t>((length + kKvBlockTokens - 1) / kKvBlockTokens);
  free_.insert(free_.end(), s.blocks.begin() + static_cast<std::ptrdiff_t>(kept), s.blocks.end());
  s.blocks.resize(kept);
}

KvView KvCache::extend(Workspace& workspace, std::span<const int> sequences, std::span<const int32_t> offsets) {
  if (offsets.size() != sequences.size() + 1) {
    fail<ShapeError>("a batch of {} sequences for {} of the cache", offsets.size() - 1, sequences.size());
  }
  std::vector<int32_t> past, first_block = {0};
  std::vector<std::byte*> addresses;
  for (size_t b = 0; b < sequences.size(); ++b) {
    if (std::find(sequences.begin(), sequences.begin() + static_cast<std::ptrdiff_t>(b), sequences[b]) !=
        sequences.begin() + static_cast<std::ptrdiff_t>(b)) {
      fail("sequence {} of the key-value cache stands twice in a batch", sequences[b]);
    }
    const int64_t length = at(sequences[b]).length + offsets[b + 1] - offsets[b];
    if (length > shape_.max_tokens) {
      fail("a sequence of {} tokens; this model's longest is {}. Shorten the prompt or generate less.", length,
           shape_.max_tokens);
    }
  }
  for (size_t b = 0; b < sequences.size(); ++b) {
    Sequence& s = sequences_[static_cast<size_t>(sequences[b])];
    past.push_back(narrow<int32_t>(s.length));
    s.length += offsets[b + 1] - offsets[b];
    while (static_cast<int64_t>(s.blocks.size()) * kKvBlockTokens < s.length) {
      if (free_.empty()) {
        blocks_.emplace_back(*backend_, block_bytes_);
        free_.push_back(blocks_.size() - 1);
      }
      s.blocks.push_back(free_.back());
      free_.pop_back();
    }
    for (const size_t block : s.blocks) addresses.push_back(blocks_[block].span().address());
    first_block.push_back(narrow<int32_t>(static_cast<int64_t>(addresses.size())));
  }
  return {.blocks = {.addresses = workspace.upload(std::span<std::byte* const>(addresses)),
                     .first_block = workspace.upload(std::span<const int32_t>(first_block)),
                     .past = workspace.upload(std::span<const int32_t>(past)),
                     .layer_bytes = 0,
                     .dtype = shape_.dtype},
          .layer_bytes = layer_bytes_};
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/kv_cache.h"

#include <algorithm>

#include "octet/base/checked.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr auto kBlockTokens = static_cast<size_t>(kKvBlockTokens);

std::vector<int32_t> tokens_of_block(std::span<const int32_t> ids, size_t block) {
  const auto tokens = ids.subspan(block * kBlockTokens, kBlockTokens);
  return {tokens.begin(), tokens.end()};
}

}  // namespace

KvCache::KvCache(Backend& backend, const Shape& shape)
    : backend_(&backend),
      shape_(shape),
      layer_bytes_(backend.kv_bytes(shape.dtype, shape.heads, shape.head_width)),
      block_bytes_(checked_mul(layer_bytes_, shape.layers)) {}

size_t KvCache::index(int sequence) const {
  const auto index = static_cast<size_t>(sequence);
  if (sequence < 0 || index >= sequences_.size() || !sequences_[index].used) {
    fail("the key-value cache has no sequence {}", sequence);
  }
  return index;
}

int KvCache::unused_number() {
  const auto unused = std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.used; });
  const auto number = static_cast<int>(unused - sequences_.begin());
  if (unused == sequences_.end()) sequences_.emplace_back();
  return number;
}

template <class Visit>
void KvCache::for_each_cached(std::span<const int32_t> ids, Visit visit) const {
  uint64_t before = 0;
  for (size_t block = 0; (block + 1) * kBlockTokens < ids.size(); ++block) {
    const auto text = texts_.find({before, tokens_of_block(ids, block)});
    if (text == texts_.end()) return;
    before = text->second.number;
    visit(text->second);
  }
}

int64_t KvCache::cached_prefix(std::span<const int32_t> ids) const {
  int64_t tokens = 0;
  for_each_cached(ids, [&](const Text&) { tokens += kKvBlockTokens; });
  return tokens;
}

int KvCache::add_sequence(std::span<const int32_t> ids) {
  Sequence added{.used = true, .tokens = {}, .blocks = {}, .texts = {}};
  for_each_cached(ids, [&](const Text& text) {
    added.blocks.push_back(text.block);
    added.texts.push_back(text.number);
  });
  const auto cached = ids.first(added.blocks.size() * kBlockTokens);
  added.tokens.assign(cached.begin(), cached.end());
  const int number = unused_number();
  for (const size_t block : added.blocks) read(block);
  sequences_[static_cast<size_t>(number)] = std::move(added);
  return number;
}

int KvCache::fork(int sequence) {
  Sequence copy = at(sequence);
  const int number = unused_number();
  for (const size_t block : copy.blocks) read(block);
  sequences_[static_cast<size_t>(number)] = std::move(copy);
  return number;
}

void KvCache::remove_sequence(int sequence) {
  truncate(sequence, 0);
  at(sequence).used = false;
}

void KvCache::truncate(int sequence, int64_t length) {
  Sequence& s = at(sequence);
  if (length < 0 || length > std::ssize(s.tokens)) {
    fail("sequence {} has {} tokens and cannot keep {}", sequence, s.tokens.size(), length);
  }
  const auto kept = static_cast<size_t>(length);
  s.tokens.resize(kept);
  s.texts.resize(std::min(s.texts.size(), kept / kBlockTokens));
  // The last ones first: of blocks that can be found, what continues a text is taken before what it continues.
  for (const size_t blocks = (kept + kBlockTokens - 1) / kBlockTokens; s.blocks.size() > blocks; s.blocks.pop_back())
    release(s.blocks.back());
}

void KvCache::read(size_t block) {
  if (blocks_[block].readers++ == 0) idle_.erase(blocks_[block].place);
}

void KvCache::release(size_t block) {
  Block& released = blocks_[block];
  if (--released.readers > 0) return;
  released.place = idle_.insert(released.text ? idle_.end() : idle_.begin(), block);
}

void KvCache::hide(Block& block) {
  if (block.text) texts_.erase(*block.text);
  block.text.reset();
}

size_t KvCache::take_block() {
  if (idle_.empty()) {
    blocks_.push_back({.memory = DeviceMemory(*backend_, block_bytes_)});
    blocks_.back().place = idle_.insert(idle_.begin(), blocks_.size() - 1);
  }
  const size_t block = idle_.front();
  hide(blocks_[block]);
  read(block);
  return block;
}

void KvCache::own_last_block(Sequence& sequence) {
  if (sequence.tokens.size() % kBlockTokens == 0) return;
  const size_t shared = sequence.blocks.back();
  if (blocks_[shared].readers == 1) {
    hide(blocks_[shared]);
    return;
  }
  const size_t own = take_block();
  backend_->copy(blocks_[shared].memory.span(), blocks_[own].memory.span());
  sequence.blocks.back() = own;
  release(shared);
}

KvView KvCache::extend(Workspace& workspace, std::span<const int> sequences, std::span<const int32_t> offsets,
                       std::span<const int32_t> ids) {
  if (offsets.size() != sequences.size() + 1 || std::cmp_not_equal(offsets.back(), ids.size())) {
    fail<ShapeError>("a batch of {} sequences and {} tokens for {} of the cache", offsets.size() - 1, ids.size(),
                     sequences.size());
  }
  for (size_t b = 0; b < sequences.size(); ++b) {
    if (std::find(sequences.begin(), sequences.begin() + static_cast<std::ptrdiff_t>(b), sequences[b]) !=
        sequences.begin() + static_cast<std::ptrdiff_t>(b)) {
      fail("sequence {} of the key-value cache stands twice in a batch", sequences[b]);
    }
    const int64_t grown = length(sequences[b]) + offsets[b + 1] - offsets[b];
    if (grown > shape_.max_tokens) {
      fail("a sequence of {} tokens; this model's longest is {}. Shorten the prompt or generate less.", grown,
           shape_.max_tokens);
    }
  }
  std::vector<int32_t> past, first_block = {0};
  std::vector<std::byte*> addresses;
  for (size_t b = 0; b < sequences.size(); ++b) {
    Sequence& s = at(sequences[b]);
    past.push_back(narrow<int32_t>(std::ssize(s.tokens)));
    const auto added = ids.subspan(static_cast<size_t>(offsets[b]), static_cast<size_t>(offsets[b + 1] - offsets[b]));
    if (!added.empty()) own_last_block(s);
    s.tokens.insert(s.tokens.end(), added.begin(), added.end());
    while (s.blocks.size() * kBlockTokens < s.tokens.size()) s.blocks.push_back(take_block());
    for (const size_t block : s.blocks) addresses.push_back(blocks_[block].memory.span().address());
    first_block.push_back(narrow<int32_t>(std::ssize(addresses)));
  }
  return {.blocks = {.addresses = workspace.upload(std::span<std::byte* const>(addresses)),
                     .first_block = workspace.upload(std::span<const int32_t>(first_block)),
                     .past = workspace.upload(std::span<const int32_t>(past)),
                     .layer_bytes = 0,
                     .dtype = shape_.dtype},
          .layer_bytes = layer_bytes_};
}

void KvCache::publish(std::span<const int> sequences) {
  for (const int sequence : sequences) {
    Sequence& s = at(sequence);
    while ((s.texts.size() + 1) * kBlockTokens <= s.tokens.size()) {
      size_t& block = s.blocks[s.texts.size()];
      const uint64_t before = s.texts.empty() ? 0 : s.texts.back();
      const auto [text, is_new] = texts_.try_emplace({before, tokens_of_block(s.tokens, s.texts.size())},
                                                     Text{.number = last_text_ + 1, .block = block});
      if (is_new) {
        ++last_text_;
        blocks_[block].text = text;
      } else if (text->second.block != block) {
        // Two sequences have run the same text side by side: one of its copies is enough.
        read(text->second.block);
        release(block);
        block = text->second.block;
      }
      s.texts.push_back(text->second.number);
    }
  }
}

}  // namespace octet

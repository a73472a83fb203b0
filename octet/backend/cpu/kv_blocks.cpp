// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/kv_blocks.h"

#include "octet/backend/cpu/operations.h"
#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/tensor/half.h"

namespace octet::cpu {
namespace {

void put(float value, float* to) { *to = value; }
void put(float value, Half* to) { *to = to_half(value); }

// One token's key and value into a block, at place `token` of it.
template <class T>
void put_token(const float* key, const float* value, int64_t head_width, int64_t width, int64_t token, T* keys,
               T* values) {
  T* const key_lane = keys + token / width * width * head_width + token % width;
  for (int64_t d = 0; d < head_width; ++d) put(key[d], key_lane + d * width);
  for (int64_t d = 0; d < head_width; ++d) {
    put(value[d], values + (d / width * kKvBlockTokens + token) * width + d % width);
  }
}

// Of the codes of keys, of values, and of the scales of either.
int64_t key_bytes(int64_t head_width) { return checked_mul(kKvBlockTokens, round_up(head_width, kCodePadding)); }
int64_t value_bytes(const KernelTable& table, int64_t head_width) {
  return checked_mul(kKvBlockTokens, round_up(head_width, table.panel_width));
}
constexpr int64_t kScaleBytes = kKvBlockTokens * sizeof(float);

int64_t code_bytes(const KernelTable& table, int64_t head_width) {
  return checked_add(checked_add(key_bytes(head_width), value_bytes(table, head_width)), 2 * kScaleBytes);
}

}  // namespace

int64_t kv_bytes(const KernelTable& table, DType dtype, int64_t heads, int64_t head_width) {
  if (dtype == DType::kI8) return checked_mul(heads, code_bytes(table, head_width));
  if (dtype != DType::kF32 && dtype != DType::kF16) fail("a cache of {}; F32, F16 or I8 is needed", name(dtype));
  const int64_t columns = checked_add(head_width, round_up(head_width, table.panel_width));
  return checked_mul(checked_mul(heads, columns), kKvBlockTokens * byte_size(dtype));
}

KvReader::KvReader(const KernelTable& table, const AttentionOp& op)
    : table_(table),
      addresses_(reinterpret_cast<std::byte* const*>(op.cache->addresses.address())),
      first_block_(int32s(op.cache->first_block)),
      past_(int32s(op.cache->past)),
      layer_bytes_(op.cache->layer_bytes),
      head_bytes_(kv_bytes(table, op.cache->dtype, 1, op.head_width)),
      head_width_(op.head_width),
      padded_width_(round_up(op.head_width, table.panel_width)),
      dtype_(op.cache->dtype) {
  check_vector(op.cache->first_block, op.sequences + 1, "attention: first_block");
  check_vector(op.cache->past, op.sequences, "attention: past");
  const int32_t* offsets = int32s(op.offsets);
  for (int64_t b = 0; b < op.sequences; ++b) {
    const int64_t tokens = int64_t{past_[b]} + offsets[b + 1] - offsets[b];
    const int64_t blocks = int64_t{first_block_[b + 1]} - first_block_[b];
    if (past_[b] < 0 || first_block_[b] < 0 || blocks * kKvBlockTokens < tokens) {
      fail<ShapeError>("attention: the cache has {} blocks for the {} tokens of sequence {}", blocks, tokens, b);
    }
  }
  check_vector(op.cache->addresses, checked_mul(2, first_block_[op.sequences]), "attention: addresses of blocks");
}

std::byte* KvReader::block(int64_t sequence, int64_t head, int64_t index) const {
  return addresses_[first_block_[sequence] + index] + layer_bytes_ + head * head_bytes_;
}

void KvReader::append(const AttentionOp& op, int64_t sequence, int64_t head) const {
  const int32_t* offsets = int32s(op.offsets);
  for (int64_t row = offsets[sequence], token = past_[sequence]; row < offsets[sequence + 1]; ++row, ++token) {
    const float* key = data(op.k) + row * op.k.stride + head * op.head_stride;
    const float* value = data(op.v) + row * op.v.stride + head * op.head_stride;
    std::byte* const to = block(sequence, head, token / kKvBlockTokens);
    const auto into = [&](auto* keys) {
      put_token(key, value, head_width_, int64_t{table_.panel_width}, token % kKvBlockTokens, keys,
                keys + key_elements());
    };
    widens() ? into(reinterpret_cast<Half*>(to)) : into(reinterpret_cast<float*>(to));
  }
}

const float* KvReader::widened(const std::byte* panels, int64_t count, float* buffer) const {
  if (!widens()) return reinterpret_cast<const float*>(panels);
  table_.embed(panels, TableElement::kF16, count, Start::kFromZero, buffer);
  return buffer;
}

const float* KvReader::keys(int64_t sequence, int64_t head, int64_t index, float* buffer) const {
  return widened(block(sequence, head, index), key_elements(), buffer);
}

const float* KvReader::values(int64_t sequence, int64_t head, int64_t index, float* buffer) const {
  return widened(block(sequence, head, index) + key_elements() * byte_size(dtype_), value_elements(), buffer);
}

CodePanels KvReader::codes(int64_t sequence, int64_t head, int64_t index) const {
  std::byte* const keys = block(sequence, head, index);
  std::byte* const values = keys + key_bytes(head_width_);
  std::byte* const scales = values + value_bytes(table_, head_width_);
  return {.keys = reinterpret_cast<int8_t*>(keys),
          .values = reinterpret_cast<int8_t*>(values),
          .key_scales = reinterpret_cast<float*>(scales),
          .value_scales = reinterpret_cast<float*>(scales + kScaleBytes),
          .capacity = kKvBlockTokens};
}

}  // namespace octet::cpu

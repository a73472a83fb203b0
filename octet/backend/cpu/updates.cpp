// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "octet/backend/cpu/operations.h"
#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/tensor/half.h"

// Steps of optimizers.
namespace octet::cpu {
namespace {

// Elements that are made fp32 at once, where they are stored in 16 bits.
constexpr int64_t kChunk = 1024;
// Philox gives 128 bits.
constexpr int64_t kSixteens = 8;

// A vector that is stored as fp32, fp16 or bf16.
class Stored {
 public:
  Stored(const KernelTable& table, DeviceSpan memory, int64_t count, DType type, const UpdateStorage& storage,
         uint32_t vector, const char* operand)
      : table_(table),
        address_(memory.address()),
        type_(type),
        storage_(storage),
        stream_(4 * storage.stream + vector) {
    if (type != DType::kF32 && type != DType::kF16 && type != DType::kBF16)
      fail<ShapeError>("{}: {} cannot be trained; F32, F16 and BF16 can", operand, name(type));
    if (memory.bytes() != checked_mul(count, byte_size(type)))
      fail<ShapeError>("{}: {} bytes for {} elements of {}", operand, memory.bytes(), count, name(type));
  }

  bool in_place() const { return type_ == DType::kF32; }
  float* at(int64_t i) const { return reinterpret_cast<float*>(address_) + i; }

  void load(int64_t first, int64_t count, float* out) const {
    const uint16_t* const bits = sixteens() + first;
    type_ == DType::kF16 ? halves_to_floats(bits, count, out) : bfloat16s_to_floats(bits, count, out);
  }

  void store(int64_t first, int64_t count, const float* values) const {
    const int64_t before = first % kSixteens, draws = (before + count + kSixteens - 1) / kSixteens;
    std::array<uint32_t, (kChunk + 2 * kSixteens) / 2> words;
    table_.random_words({.counter = static_cast<uint64_t>(first / kSixteens),
                         .count = draws,
                         .stream = stream_,
                         .step = storage_.step,
                         .seed = storage_.seed,
                         .words = words.data()});
    // Of a word the low half comes first.
    std::array<uint16_t, 2 * words.size()> random;
    for (int64_t i = 0; i < draws * kSixteens / 2; ++i) {
      random[2 * i] = static_cast<uint16_t>(words[i]);
      random[2 * i + 1] = static_cast<uint16_t>(words[i] >> 16);
    }
    const uint16_t* const own = random.data() + before;
    type_ == DType::kF16 ? floats_to_halves_stochastically(values, own, count, sixteens() + first)
                         : floats_to_bfloat16s_stochastically(values, own, count, sixteens() + first);
  }

 private:
  uint16_t* sixteens() const { return reinterpret_cast<uint16_t*>(address_); }

  const KernelTable& table_;
  std::byte* address_;
  DType type_;
  UpdateStorage storage_;
  uint32_t stream_;
};

// Some elements of a Stored as fp32: where they lie, or here. They are stored by write().
class Chunk {
 public:
  Chunk(const Stored& stored, int64_t first, int64_t count) : stored_(stored), first_(first), count_(count) {
    if (!stored.in_place()) stored.load(first, count, own_.data());
  }

  float* data() { return stored_.in_place() ? stored_.at(first_) : own_.data(); }
  void write() {
    if (!stored_.in_place()) stored_.store(first_, count_, own_.data());
  }

  // Of a vector whose roots are what 16 bits hold.
  void square() {
    if (!stored_.in_place()) std::transform(own_.begin(), end(), own_.begin(), [](float root) { return root * root; });
  }
  void write_root() {
    if (!stored_.in_place()) std::transform(own_.begin(), end(), own_.begin(), [](float x) { return std::sqrt(x); });
    write();
  }

 private:
  float* end() { return own_.data() + count_; }

  const Stored& stored_;
  int64_t first_, count_;
  std::array<float, kChunk> own_;
};

// Calls body(first, count) for parts of a vector, on all threads.
template <class Body>
void for_chunks(int threads, int64_t count, Body body) {
  for_row_blocks(threads, count, 1, [&](int64_t first, int64_t elements) {
    for (int64_t i = first; i < first + elements; i += kChunk) body(i, std::min(kChunk, first + elements - i));
  });
}

}  // namespace

void adamw(const KernelTable& table, int threads, const AdamwOp& op) {
  check_vector(op.gradient, op.count, "adamw: gradient");
  const Stored weights(table, op.weights, op.count, op.storage.weights, op.storage, 0, "adamw: weights");
  const Stored m(table, op.m, op.count, op.storage.moments, op.storage, 1, "adamw: m");
  const Stored v(table, op.v, op.count, op.storage.moments, op.storage, 2, "adamw: v");
  for_chunks(threads, op.count, [&](int64_t first, int64_t count) {
    Chunk own_weights(weights, first, count), own_m(m, first, count), own_v(v, first, count);
    own_v.square();
    table.gradients.adamw({own_weights.data(), floats(op.gradient) + first, own_m.data(), own_v.data(), count, op.rate,
                           op.beta1, op.beta2, op.eps, op.decay, op.correction1, op.correction2, op.gradient_factor});
    own_weights.write();
    own_m.write();
    own_v.write_root();
  });
}

void sgd(const KernelTable& table, int threads, const SgdOp& op) {
  check_vector(op.gradient, op.count, "sgd: gradient");
  const Stored weights(table, op.weights, op.count, op.storage.weights, op.storage, 0, "sgd: weights");
  const Stored moments(table, op.v, op.count, op.storage.moments, op.storage, 1, "sgd: v");
  for_chunks(threads, op.count, [&](int64_t first, int64_t count) {
    Chunk own_weights(weights, first, count), own_v(moments, first, count);
    float *const w = own_weights.data(), *const v = own_v.data();
    const float* const gradient = floats(op.gradient) + first;
    for (int64_t i = 0; i < count; ++i) {
      v[i] = op.momentum * v[i] + (gradient[i] * op.gradient_factor + op.decay * w[i]);
      w[i] -= op.rate * v[i];
    }
    own_weights.write();
    own_v.write();
  });
}

}  // namespace octet::cpu

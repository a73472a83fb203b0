// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "octet/base/checked.h"
#include "octet/tensor/tensor.h"

namespace octet::cpu {

/// Lays arrays out one after the other, each on its own cache lines.
class Layout {
 public:
  template <class T>
  class Part {
   public:
    explicit Part(int64_t offset) : offset_(offset) {}
    T* in(std::byte* base) const { return reinterpret_cast<T*>(base + offset_); }

   private:
    int64_t offset_;
  };

  template <class T>
  Part<T> add(int64_t count) {
    const Part<T> part(bytes_);
    bytes_ = round_up(checked_add(bytes_, checked_mul(count, sizeof(T))), 64);
    return part;
  }
  int64_t bytes() const noexcept { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

/// Memory that operations use while they run: a part for each worker and a part for all. It grows when a larger
/// operation than before comes, so a repeated forward pass allocates nothing.
class Workspace {
 public:
  explicit Workspace(int threads) : threads_(threads), workers_(static_cast<size_t>(threads)) {}

  int threads() const noexcept { return threads_; }

  /// To be called before the parallel part of an operation; what was in the memory is lost.
  void reserve(const Layout& shared, const Layout& worker) {
    grow(shared_, shared.bytes());
    for (Tensor& memory : workers_) grow(memory, worker.bytes());
  }
  std::byte* shared() { return shared_.mutable_view().data; }
  std::byte* worker(int index) { return workers_[static_cast<size_t>(index)].mutable_view().data; }

 private:
  static void grow(Tensor& memory, int64_t bytes) {
    if (memory.bytes() < bytes) memory = Tensor(DType::kU8, {bytes});
  }

  int threads_;
  Tensor shared_;
  std::vector<Tensor> workers_;
};

}  // namespace octet::cpu

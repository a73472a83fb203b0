// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "octet/base/mapped_file.h"
#include "octet/tensor/dtype.h"
#include "octet/tensor/shape.h"

namespace octet {

namespace detail {
void check_element_type(DType held, DType asked);
}

/// Looks at a contiguous row-major tensor in host memory that something else owns.
struct ConstTensorView {
  DType dtype = DType::kF32;
  Shape shape;
  const std::byte* data = nullptr;

  int64_t bytes() const noexcept { return shape.elements() * byte_size(dtype); }

  /// The elements as T. Throws Error if dtype is another.
  template <class T>
  std::span<const T> as() const {
    detail::check_element_type(dtype, DTypeOf<T>::value);
    return {reinterpret_cast<const T*>(data), static_cast<size_t>(shape.elements())};
  }
};

/// The same, to write to.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::byte* data = nullptr;

  int64_t bytes() const noexcept { return shape.elements() * byte_size(dtype); }
  operator ConstTensorView() const noexcept { return {dtype, shape, data}; }

  template <class T>
  std::span<T> as() const {
    detail::check_element_type(dtype, DTypeOf<T>::value);
    return {reinterpret_cast<T*>(data), static_cast<size_t>(shape.elements())};
  }
};

/// Owns a contiguous row-major tensor in host memory: an allocation of its own, or a read-only part of a mapped file,
/// which it keeps mapped. Movable, not copyable: a copy is asked for by name.
class Tensor {
 public:
  Tensor() = default;
  /// Zeros, aligned to a cache line. Throws Error where memory does not suffice.
  Tensor(DType dtype, Shape shape);
  /// `shape` elements of `dtype` at byte `offset` of `file`. Throws FormatError where they do not lie inside the file
  /// or are not aligned to their size (copy such a tensor instead).
  static Tensor mapped(std::shared_ptr<const MappedFile> file, int64_t offset, DType dtype, Shape shape);
  /// A copy in memory of its own.
  static Tensor copy_of(ConstTensorView source);

  DType dtype() const noexcept { return dtype_; }
  const Shape& shape() const noexcept { return shape_; }
  int64_t bytes() const noexcept { return shape_.elements() * byte_size(dtype_); }
  bool is_mapped() const noexcept { return file_ != nullptr; }

  ConstTensorView view() const noexcept { return {dtype_, shape_, file_ ? mapped_ : memory_.get()}; }
  /// Throws Error for a mapped tensor.
  TensorView mutable_view();

  template <class T>
  std::span<const T> as() const {
    return view().as<T>();
  }
  template <class T>
  std::span<T> mutable_as() {
    return mutable_view().as<T>();
  }

  /// Lets go of a mapped tensor's resident pages (they are read again when touched); nothing for one in memory.
  void release_pages() const;

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };

  DType dtype_ = DType::kF32;
  Shape shape_{0};
  std::unique_ptr<std::byte, Free> memory_;
  std::shared_ptr<const MappedFile> file_;
  const std::byte* mapped_ = nullptr;
};

/// A float tensor of any width as fp32, in memory of its own; exact but for F64, which rounds. Throws Error for
/// integers.
Tensor to_f32(ConstTensorView source);

/// Elements [first, first + out.size()) of a float tensor, widened to fp32. Throws Error for integers.
void read_f32(ConstTensorView source, int64_t first, std::span<float> out);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "octet/base/checked.h"
#include "octet/base/error.h"

namespace octet {
namespace {

// A cache line, and the widest vector register.
constexpr int64_t kAlignment = 64;

}  // namespace

namespace detail {

void check_element_type(DType held, DType asked) {
  if (held != asked) fail("a tensor of {} was read as {}", name(held), name(asked));
}

}  // namespace detail

void Tensor::Free::operator()(std::byte* memory) const noexcept { std::free(memory); }

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(shape) {
  const int64_t bytes = checked_mul(shape.elements(), byte_size(dtype));
  const int64_t rounded = round_up(checked_add(bytes, kAlignment), kAlignment);  // never zero
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, static_cast<size_t>(rounded))));
  if (!memory_) fail("not enough memory for a tensor of {} bytes, shape {}", bytes, to_string(shape));
  std::memset(memory_.get(), 0, static_cast<size_t>(bytes));
}

Tensor Tensor::mapped(std::shared_ptr<const MappedFile> file, int64_t offset, DType dtype, Shape shape) {
  const int64_t bytes = checked_mul(shape.elements(), byte_size(dtype));
  const std::span<const std::byte> all = file->bytes();
  if (offset < 0 || std::cmp_greater(checked_add(offset, bytes), all.size())) {
    fail<FormatError>("{}: a tensor at byte {} of {} bytes does not lie inside the file of {} bytes",
                      file->path().string(), offset, bytes, all.size());
  }
  Tensor tensor;
  tensor.mapped_ = all.data() + offset;
  if (reinterpret_cast<uintptr_t>(tensor.mapped_) % static_cast<uintptr_t>(byte_size(dtype)) != 0) {
    fail<FormatError>("{}: a tensor of {} at byte {} is not aligned", file->path().string(), name(dtype), offset);
  }
  tensor.dtype_ = dtype;
  tensor.shape_ = shape;
  tensor.file_ = std::move(file);
  return tensor;
}

Tensor Tensor::copy_of(ConstTensorView source) {
  Tensor tensor(source.dtype, source.shape);
  std::copy_n(source.data, source.bytes(), tensor.memory_.get());
  return tensor;
}

TensorView Tensor::mutable_view() {
  if (is_mapped()) fail("a mapped tensor cannot be written to");
  return {dtype_, shape_, memory_.get()};
}

void Tensor::release_pages() const {
  if (file_) file_->release({mapped_, static_cast<size_t>(bytes())});
}

void read_f32(ConstTensorView source, int64_t first, std::span<float> out) {
  if (first < 0 || checked_add(first, static_cast<int64_t>(out.size())) > source.shape.elements()) {
    fail<ShapeError>("elements {} to {} of a tensor {}", first, first + static_cast<int64_t>(out.size()),
                     to_string(source.shape));
  }
  const auto widen = [&](auto elements, auto convert) {
    std::transform(elements.begin() + first, elements.begin() + first + static_cast<int64_t>(out.size()), out.begin(),
                   convert);
  };
  switch (source.dtype) {
    case DType::kF64:
      return widen(source.as<double>(), [](double x) { return static_cast<float>(x); });
    case DType::kF32:
      return widen(source.as<float>(), [](float x) { return x; });
    case DType::kF16:
      return widen(source.as<Half>(), [](Half x) { return to_float(x); });
    case DType::kBF16:
      return widen(source.as<BFloat16>(), [](BFloat16 x) { return to_float(x); });
    default:
      fail("a tensor of {} was read as floating point", name(source.dtype));
  }
}

Tensor to_f32(ConstTensorView source) {
  Tensor out(DType::kF32, source.shape);
  read_f32(source, 0, out.mutable_as<float>());
  return out;
}

}  // namespace octet

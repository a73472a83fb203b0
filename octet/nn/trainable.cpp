// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/trainable.h"

#include <algorithm>
#include <cstddef>

#include "octet/tensor/narrow.h"

namespace octet {

Trainable::Trainable(Backend& backend, std::vector<TrainedRows> parts, std::span<const float> values, int64_t cols,
                     Kind kind, DType dtype)
    : parts_(std::move(parts)),
      rows_(cols == 0 ? 0 : std::ssize(values) / cols),
      cols_(cols),
      kind_(kind),
      dtype_(dtype),
      values_(backend, std::ssize(values) * byte_size(dtype)),
      gradient_(backend, std::ssize(values) * int64_t{sizeof(float)}) {
  upload(backend, values);
  zero_gradient(backend);
}

void Trainable::zero_gradient(Backend& backend) const { backend.fill_zero(gradient_.span()); }

std::vector<float> Trainable::download(Backend& backend) const {
  std::vector<float> out(static_cast<size_t>(elements()));
  if (dtype_ == DType::kF32) {
    backend.download(values_.span(), std::as_writable_bytes(std::span(out)));
    return out;
  }
  std::vector<std::byte> stored(static_cast<size_t>(values_.span().bytes()));
  backend.download(values_.span(), stored);
  read_f32({dtype_, {rows_, cols_}, stored.data()}, 0, out);
  return out;
}

void Trainable::upload(Backend& backend, std::span<const float> values) const {
  if (dtype_ == DType::kF32) {
    backend.upload(std::as_bytes(values), values_.span());
    return;
  }
  const Tensor rounded = narrowed(values, dtype_, {rows_, cols_});
  backend.upload({rounded.view().data, static_cast<size_t>(rounded.bytes())}, values_.span());
}

std::span<const float> Trainable::own(const TrainedRows& part, std::span<const float> all) const {
  const int64_t width = kind_ == Kind::kMatrix ? cols_ : 1;
  return all.subspan(static_cast<size_t>(part.first * width), static_cast<size_t>(part.rows * width));
}

Trainable& Trainables::add(std::vector<TrainedRows> parts, std::span<const float> values, int64_t cols,
                           Trainable::Kind kind) {
  const DType dtype = kind == Trainable::Kind::kMatrix ? matrices_ : DType::kF32;
  return *all_.emplace_back(std::make_unique<Trainable>(*backend_, std::move(parts), values, cols, kind, dtype));
}

Trainable& Trainables::add_clip(const std::string& site, std::span<const float> values) {
  const std::string name = site + ".input_clip";
  std::vector<TrainedRows> parts;
  if (values.size() == 1) {
    parts = {{name, 0, 1}};
  } else {
    parts = {{name + ".low", 0, 1}, {name + ".high", 1, 1}};
  }
  return add(std::move(parts), values, std::ssize(values), Trainable::Kind::kClip);
}

Trainable* Trainables::find(std::string_view tensor) const {
  for (const std::unique_ptr<Trainable>& trainable : all_) {
    if (std::ranges::any_of(trainable->parts(), [&](const TrainedRows& rows) { return rows.tensor == tensor; })) {
      return trainable.get();
    }
  }
  return nullptr;
}

int64_t Trainables::bytes() const noexcept {
  int64_t bytes = 0;
  for (const std::unique_ptr<Trainable>& trainable : all_)
    bytes += trainable->values().memory.bytes() + trainable->gradient().memory.bytes();
  return bytes;
}

}  // namespace octet

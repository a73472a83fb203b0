// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/packed_weight.h"

#include <algorithm>
#include <vector>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

namespace octet::cpu {
namespace {

// Where a row of the stacked weight comes from.
struct Source {
  size_t part;
  int64_t row;
};

std::vector<Source> sources_of(std::span<const Shape> shapes) {
  std::vector<Source> sources;
  for (size_t part = 0; part < shapes.size(); ++part) {
    for (int64_t row = 0; row < shapes[part][0]; ++row) sources.push_back({part, row});
  }
  return sources;
}

std::vector<Shape> shapes_of(std::span<const ConstTensorView> parts) {
  std::vector<Shape> shapes;
  for (const ConstTensorView& part : parts) shapes.push_back(part.shape);
  return shapes;
}

std::vector<Shape> shapes_of(std::span<const QTensor* const> parts) {
  std::vector<Shape> shapes;
  for (const QTensor* part : parts) {
    check(*part, "a weight to pack");
    if (part->scheme.bits != 8 || part->scheme.group_size != 0) {
      fail<ShapeError>("a weight to pack: 8 bits, one scale an output channel, are supported");
    }
    shapes.push_back(part->codes.shape());
  }
  return shapes;
}

}  // namespace

CpuWeight::CpuWeight(const KernelTable& table, Kind kind, std::span<const Shape> shapes) : table_(&table), kind_(kind) {
  if (shapes.empty()) fail<ShapeError>("no weight to pack");
  for (const Shape& shape : shapes) {
    if (shape.rank() != 2 || shape.elements() == 0) {
      fail<ShapeError>("a weight of shape {}; two dimensions that are not zero are needed", to_string(shape));
    }
    if (shape[1] != shapes.front()[1]) {
      fail<ShapeError>("weights of shapes {} and {} cannot be stacked into one product", to_string(shapes.front()),
                       to_string(shape));
    }
    rows_ = checked_add(rows_, shape[0]);
  }
  cols_ = shapes.front()[1];
  group_ = kind == Kind::kInt8 ? table.interleave : 1;
  panel_stride_ = checked_mul(round_up(cols_, group_), table.panel_width);
  panels_ = Tensor(kind == Kind::kFloat ? DType::kF32 : DType::kI8, {checked_mul(panel_count(), panel_stride_)});
  if (kind != Kind::kFloat) scales_ = Tensor(DType::kF32, {rows_, 1});
}

int64_t CpuWeight::offset(int64_t output, int64_t k) const noexcept {
  const int64_t width = table_->panel_width;
  return output / width * panel_stride_ + k / group_ * width * group_ + output % width * group_ + k % group_;
}

CpuWeight::CpuWeight(const KernelTable& table, int threads, std::span<const ConstTensorView> parts)
    : CpuWeight(table, Kind::kFloat, shapes_of(parts)) {
  const std::vector<Source> sources = sources_of(shapes_of(parts));
  const std::span<float> panels = panels_.mutable_as<float>();
  std::vector<std::vector<float>> buffers(static_cast<size_t>(threads), std::vector<float>(cols_));
  parallel_for(threads, panel_count(), [&](int64_t panel, int worker) {
    std::vector<float>& row = buffers[worker];
    const int64_t first = panel * table.panel_width, last = std::min(rows_, first + table.panel_width);
    for (int64_t n = first; n < last; ++n) {
      read_f32(parts[sources[n].part], sources[n].row * cols_, row);
      float* out = &panels[offset(n, 0)];
      for (int64_t k = 0; k < cols_; ++k) out[k * table.panel_width] = row[k];
    }
  });
}

CpuWeight::CpuWeight(const KernelTable& table, int threads, std::span<const QTensor* const> parts,
                     ActivationMode activations)
    : CpuWeight(table, activations == ActivationMode::kFloat ? Kind::kInt8FloatActivations : Kind::kInt8,
                shapes_of(parts)) {
  const std::vector<Source> sources = sources_of(shapes_of(parts));
  const std::span<int8_t> panels = panels_.mutable_as<int8_t>();
  const std::span<float> scales = scales_.mutable_as<float>();
  const int8_t flip = kind_ == Kind::kInt8 ? table.code_flip : int8_t{0};
  parallel_for(threads, panel_count(), [&](int64_t panel, int) {
    const int64_t first = panel * table.panel_width, last = std::min(rows_, first + table.panel_width);
    std::fill_n(&panels[panel * panel_stride_], panel_stride_, flip);  // the code 0, for the padding
    for (int64_t n = first; n < last; ++n) {
      const QTensor& part = *parts[sources[n].part];
      const int8_t* row = part.codes.as<int8_t>().data() + sources[n].row * cols_;
      for (int64_t k = 0; k < cols_; ++k) panels[offset(n, k)] = static_cast<int8_t>(row[k] ^ flip);
      scales[n] = part.scales.as<float>()[sources[n].row];
    }
  });
}

QTensor CpuWeight::unpack() const {
  if (kind_ == Kind::kFloat) fail("unpack was asked for a weight that is not quantized");
  const int8_t flip = kind_ == Kind::kInt8 ? table_->code_flip : int8_t{0};
  QTensor out{WeightScheme{}, Tensor(DType::kI8, {rows_, cols_}), Tensor::copy_of(scales_.view())};
  const std::span<int8_t> codes = out.codes.mutable_as<int8_t>();
  const std::span<const int8_t> panels = panels_.as<int8_t>();
  for (int64_t n = 0, i = 0; n < rows_; ++n) {
    for (int64_t k = 0; k < cols_; ++k, ++i) codes[i] = static_cast<int8_t>(panels[offset(n, k)] ^ flip);
  }
  return out;
}

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/packed_weight.h"

#include <algorithm>
#include <vector>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

namespace octet::cpu {
namespace {

// Nibbles are read four bytes at a time from any byte, so the last one is followed by so many that count for nothing.
constexpr int64_t kSpareBytes = 4;
// What a nibble holds beyond the code where there are no zero points.
constexpr int kNibbleZero = 8;

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
    shapes.push_back(part->codes.shape());
  }
  return shapes;
}

// The scheme of all parts; how their scales were found may differ.
WeightScheme scheme_of(std::span<const QTensor* const> parts) {
  if (parts.empty()) fail<ShapeError>("no weight to pack");
  const WeightScheme& first = parts.front()->scheme;
  for (const QTensor* part : parts) {
    WeightScheme scheme = part->scheme;
    scheme.range = first.range;
    if (scheme != first) {
      fail<ShapeError>("weights of the schemes '{}' and '{}' cannot be stacked into one product", to_string({first}),
                       to_string({part->scheme}));
    }
  }
  return first;
}

}  // namespace

PanelLayout::PanelLayout(const PanelFormat& format, int width)
    : depth_(std::max(format.interleave, format.nibble_block / width)), block_bytes_(depth_ * width * format.bits / 8) {
  const int interleave = format.interleave, block = format.nibble_block, half = block / 2;
  for (int lane = 0; lane < width; ++lane) {
    for (int k = 0; k < depth_; ++k) {
      const int element = (k / interleave * width + lane) * interleave + k % interleave;
      if (format.bits == 8) {
        places_.push_back({element, 0});
      } else {
        const int in_block = element % block;
        places_.push_back({element / block * half + in_block % half, in_block < half ? 0 : 4});
      }
    }
  }
}

CpuWeight::CpuWeight(const KernelTable& table, Kind kind, const WeightScheme& scheme, std::span<const Shape> shapes)
    : table_(&table), kind_(kind), scheme_(scheme), layout_(format(), table.panel_width) {
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
  if (kind == Kind::kFloat) {
    panel_stride_ = checked_mul(cols_, table.panel_width);
    panels_ = Tensor(DType::kF32, {checked_mul(panel_count(), panel_stride_)});
    return;
  }
  panel_stride_ = checked_mul(round_up(cols_, layout_.depth()), table.panel_width);
  panels_ = Tensor(DType::kU8, {checked_mul(panel_count(), panel_bytes()) + (bits() == 4 ? kSpareBytes : 0)});
  const int64_t scales = checked_mul(checked_mul(panel_count(), table.panel_width), group_count());
  scales_ = Tensor(DType::kF32, {scales});
  if (!scheme_.symmetric) zero_points_ = Tensor(DType::kU8, {scales});
}

const PanelFormat& CpuWeight::format() const noexcept {
  const bool bytes = scheme_.bits == 8;
  if (meets_int8()) return bytes ? table_->w8a8.format : table_->w4a8.format;
  return bytes ? table_->w8a16.format : table_->w4a16.format;
}

Groups CpuWeight::groups(int64_t panel, int64_t k) const {
  if (is_float()) return {};
  const int64_t first = panel * table_->panel_width;
  const int64_t at = group_offset(first, scheme_.group_size == 0 ? 0 : k / scheme_.group_size);
  return {.size = scheme_.group_size,
          .scales = scales_.as<float>().data() + at,
          .zeros = scheme_.symmetric ? nullptr : zero_points_.as<uint8_t>().data() + at,
          .panel_stride = group_count() * table_->panel_width,
          .stride = scheme_.group_size == 0 ? 0 : table_->panel_width};
}

CpuWeight::CpuWeight(const KernelTable& table, int threads, std::span<const ConstTensorView> parts)
    : CpuWeight(table, Kind::kFloat, {}, shapes_of(parts)) {
  const std::vector<Source> sources = sources_of(shapes_of(parts));
  const std::span<float> panels = panels_.mutable_as<float>();
  const int64_t width = table.panel_width;
  std::vector<std::vector<float>> buffers(static_cast<size_t>(threads), std::vector<float>(cols_));
  parallel_for(threads, panel_count(), [&](int64_t panel, int worker) {
    std::vector<float>& row = buffers[worker];
    const int64_t first = panel * width, last = std::min(rows_, first + width);
    for (int64_t n = first; n < last; ++n) {
      read_f32(parts[sources[n].part], sources[n].row * cols_, row);
      float* out = &panels[panel * panel_stride_ + n - first];
      for (int64_t k = 0; k < cols_; ++k) out[k * width] = row[k];
    }
  });
}

template <class Visit>
void CpuWeight::for_places(int64_t output, Visit visit) const {
  const int64_t width = table_->panel_width, lane = output % width;
  int64_t block = output / width * panel_bytes();
  for (int64_t first = 0; first < cols_; first += layout_.depth(), block += layout_.block_bytes()) {
    const int64_t count = std::min(layout_.depth(), cols_ - first);
    for (int64_t k = 0; k < count; ++k) {
      const PanelLayout::Place place = layout_.place(lane, k);
      visit(first + k, block + place.byte, place.shift);
    }
  }
}

template <class Visit>
void CpuWeight::for_codes(int64_t output, Visit visit) const {
  const uint8_t* panels = panels_.as<uint8_t>().data();
  if (scheme_.bits == 8) {
    const auto flip = static_cast<uint8_t>(format().flip);
    for_places(output, [&](int64_t k, int64_t byte, int) { visit(k, static_cast<int8_t>(panels[byte] ^ flip)); });
  } else {
    const int zero = scheme_.symmetric ? kNibbleZero : 0;
    for_places(output, [&](int64_t k, int64_t byte, int shift) {
      visit(k, static_cast<int8_t>((panels[byte] >> shift & 15) - zero));
    });
  }
}

CpuWeight::CpuWeight(const KernelTable& table, int threads, std::span<const QTensor* const> parts,
                     ActivationMode activations)
    : CpuWeight(table, activations == ActivationMode::kFloat ? Kind::kFloatActivations : Kind::kInt8Activations,
                scheme_of(parts), shapes_of(parts)) {
  const std::vector<Source> sources = sources_of(shapes_of(parts));
  const std::span<uint8_t> panels = panels_.mutable_as<uint8_t>();
  const std::span<float> scales = scales_.mutable_as<float>();
  const bool nibbles = scheme_.bits == 4, symmetric = scheme_.symmetric;
  const auto flip = static_cast<uint8_t>(format().flip);
  parallel_for(threads, panel_count(), [&](int64_t panel, int) {
    // Bytes of the padding mean the code 0; nibbles of it are multiplied by zeros or left out.
    if (!nibbles) std::fill_n(&panels[panel * panel_bytes()], panel_bytes(), flip);
    const int64_t first = panel * table.panel_width, last = std::min(rows_, first + table.panel_width);
    for (int64_t n = first; n < last; ++n) {
      const QTensor& part = *parts[sources[n].part];
      const int64_t row = sources[n].row;
      const int8_t* codes = part.codes.as<int8_t>().data() + row * cols_;
      if (nibbles) {
        const int zero = symmetric ? kNibbleZero : 0;
        for_places(n, [&](int64_t k, int64_t byte, int shift) {
          panels[byte] = static_cast<uint8_t>(panels[byte] | ((codes[k] + zero) << shift));
        });
      } else {
        for_places(n, [&](int64_t k, int64_t byte, int) { panels[byte] = static_cast<uint8_t>(codes[k]) ^ flip; });
      }
      for (int64_t g = 0; g < group_count(); ++g) {
        const int64_t from = row * group_count() + g, to = group_offset(n, g);
        scales[to] = part.scales.as<float>()[from];
        if (!symmetric) {
          zero_points_.mutable_as<uint8_t>()[to] = static_cast<uint8_t>(part.zero_points.as<int8_t>()[from]);
        }
      }
    }
  });
}

QTensor CpuWeight::unpack() const {
  if (is_float()) fail("unpack was asked for a weight that is not quantized");
  const Shape per_group{rows_, group_count()};
  QTensor out{scheme_, Tensor(DType::kI8, {rows_, cols_}), Tensor(DType::kF32, per_group)};
  if (!scheme_.symmetric) out.zero_points = Tensor(DType::kI8, per_group);
  int8_t* codes = out.codes.mutable_as<int8_t>().data();
  for (int64_t n = 0, i = 0; n < rows_; ++n, codes += cols_) {
    for_codes(n, [codes](int64_t k, int8_t code) { codes[k] = code; });
    for (int64_t g = 0; g < group_count(); ++g, ++i) {
      out.scales.mutable_as<float>()[i] = scales_.as<float>()[group_offset(n, g)];
      if (!scheme_.symmetric) {
        out.zero_points.mutable_as<int8_t>()[i] = static_cast<int8_t>(zero_points_.as<uint8_t>()[group_offset(n, g)]);
      }
    }
  }
  return out;
}

void CpuWeight::read_row(int64_t index, Start start, float* y) const {
  if (is_float()) fail("a row of a weight that is not quantized was asked for");
  const int64_t group = scheme_.group_size == 0 ? cols_ : scheme_.group_size;
  const float* scales = scales_.as<float>().data();
  const uint8_t* zeros = scheme_.symmetric ? nullptr : zero_points_.as<uint8_t>().data();
  int64_t end = 0, at = 0;  // of the group that k is in
  for_codes(index, [&](int64_t k, int8_t code) {
    if (k == end) {
      at = group_offset(index, k / group);
      end += group;
    }
    const float value = static_cast<float>(code - (zeros != nullptr ? zeros[at] : 0)) * scales[at];
    y[k] = start == Start::kFromTile ? y[k] + value : value;
  });
}

}  // namespace octet::cpu

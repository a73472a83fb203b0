// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/packed_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

namespace octet::cpu {
namespace {

// Nibbles are read four bytes at a time from any byte, so the last one is followed by so many that count for nothing.
constexpr int64_t kSpareBytes = 4;
// What a nibble of a symmetric scheme holds beyond the code.
constexpr int kNibbleZero = 8;

constexpr PanelFormat kFp32Format = {.bits = 32};

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

CpuWeight::Kind kind_of(std::span<const ConstTensorView> parts) {
  const auto all = [parts](DType dtype) {
    return std::ranges::all_of(parts, [dtype](const ConstTensorView& part) { return part.dtype == dtype; });
  };
  if (all(DType::kF16)) return CpuWeight::Kind::kF16;
  return all(DType::kBF16) ? CpuWeight::Kind::kBF16 : CpuWeight::Kind::kF32;
}

DType dtype_of(CpuWeight::Kind kind) {
  if (kind == CpuWeight::Kind::kF16) return DType::kF16;
  return kind == CpuWeight::Kind::kBF16 ? DType::kBF16 : DType::kF32;
}

template <class Element>
void read_as(ConstTensorView source, int64_t first, std::span<Element> out) {
  std::copy_n(source.as<Element>().begin() + first, out.size(), out.begin());
}
template <>
void read_as(ConstTensorView source, int64_t first, std::span<float> out) {
  read_f32(source, first, out);
}

}  // namespace

PanelLayout::PanelLayout(const PanelFormat& format, int width)
    : depth_(std::max(format.interleave, format.nibble_block / width)), block_bytes_(depth_ * width * format.bits / 8) {
  const int interleave = format.interleave, block = format.nibble_block, half = block / 2;
  for (int lane = 0; lane < width; ++lane) {
    for (int k = 0; k < depth_; ++k) {
      const int element = (k / interleave * width + lane) * interleave + k % interleave;
      if (format.bits >= 8) {
        places_.push_back({element * (format.bits / 8), 0});
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
  panel_stride_ = checked_mul(round_up(cols_, layout_.depth()), table.panel_width);
  if (is_float()) {
    panels_ = Tensor(dtype_of(kind), {checked_mul(panel_count(), panel_stride_)});
    return;
  }
  panels_ = Tensor(DType::kU8, {checked_mul(panel_count(), panel_bytes()) + (bits() == 4 ? kSpareBytes : 0)});
  const int64_t scales = checked_mul(checked_mul(panel_count(), table.panel_width), group_count());
  scales_ = Tensor(DType::kF32, {scales});
  if (scheme_.mapping == CodeMapping::kZeroPoint) zero_points_ = Tensor(DType::kU8, {scales});
  if (scheme_.mapping == CodeMapping::kMinimum) minima_ = Tensor(DType::kF32, {scales});
}

const PanelFormat& CpuWeight::format() const noexcept {
  if (meets_int8()) return scheme_.bits == 8 ? table_->w8a8.format : table_->w4a8.format;
  const FloatKernels* narrow = float_kernels();
  return narrow != nullptr ? narrow->format : kFp32Format;
}

Groups CpuWeight::groups(int64_t panel, int64_t k) const {
  if (is_float()) return {};
  const int64_t first = panel * table_->panel_width;
  const int64_t at = group_offset(first, scheme_.group_size == 0 ? 0 : k / scheme_.group_size);
  return {.size = scheme_.group_size,
          .scales = scales_.as<float>().data() + at,
          .zeros = scheme_.mapping == CodeMapping::kZeroPoint ? zero_points_.as<uint8_t>().data() + at : nullptr,
          .minima = scheme_.mapping == CodeMapping::kMinimum ? minima_.as<float>().data() + at : nullptr,
          .panel_stride = group_count() * table_->panel_width,
          .stride = scheme_.group_size == 0 ? 0 : table_->panel_width};
}

const FloatKernels* CpuWeight::float_kernels() const noexcept {
  if (kind_ == Kind::kF32) return nullptr;
  if (kind_ == Kind::kF16) return &table_->f16;
  if (kind_ == Kind::kBF16) return &table_->bf16;
  return scheme_.bits == 8 ? &table_->w8a16 : &table_->w4a16;
}

int CpuWeight::nibble_offset() const noexcept { return scheme_.mapping == CodeMapping::kSymmetric ? kNibbleZero : 0; }

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
    const int offset = nibble_offset();
    for_places(output, [&](int64_t k, int64_t byte, int shift) {
      visit(k, static_cast<int8_t>((panels[byte] >> shift & 15) - offset));
    });
  }
}

CpuWeight::CpuWeight(const KernelTable& table, int threads, std::span<const ConstTensorView> parts)
    : CpuWeight(table, kind_of(parts), {}, shapes_of(parts)) {
  if (kind_ == Kind::kF16) {
    fill<Half>(threads, parts);
  } else if (kind_ == Kind::kBF16) {
    fill<BFloat16>(threads, parts);
  } else {
    fill<float>(threads, parts);
  }
}

template <class Element>
void CpuWeight::fill(int threads, std::span<const ConstTensorView> parts) {
  const std::vector<Source> sources = sources_of(shapes_of(parts));
  std::byte* const panels = panels_.mutable_view().data;
  const int64_t width = table_->panel_width;
  std::vector<std::vector<Element>> buffers(static_cast<size_t>(threads), std::vector<Element>(cols_));
  parallel_for(threads, panel_count(), [&](int64_t panel, int worker) {
    std::vector<Element>& row = buffers[worker];
    const int64_t last = std::min(rows_, (panel + 1) * width);
    for (int64_t n = panel * width; n < last; ++n) {
      read_as<Element>(parts[sources[n].part], sources[n].row * cols_, row);
      for_places(n, [&](int64_t k, int64_t byte, int) { std::memcpy(panels + byte, &row[k], sizeof(Element)); });
    }
  });
}

CpuWeight::CpuWeight(const KernelTable& table, int threads, std::span<const QTensor* const> parts,
                     ActivationMode activations)
    : CpuWeight(table, activations == ActivationMode::kFloat ? Kind::kFloatActivations : Kind::kInt8Activations,
                scheme_of(parts), shapes_of(parts)) {
  const std::vector<Source> sources = sources_of(shapes_of(parts));
  const std::span<uint8_t> panels = panels_.mutable_as<uint8_t>();
  const std::span<float> scales = scales_.mutable_as<float>();
  const bool nibbles = scheme_.bits == 4;
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
        const int offset = nibble_offset();
        for_places(n, [&](int64_t k, int64_t byte, int shift) {
          panels[byte] = static_cast<uint8_t>(panels[byte] | ((codes[k] + offset) << shift));
        });
      } else {
        // Codes of a block lie side by side.
        const int64_t run = layout_.depth(), step = layout_.block_bytes();
        uint8_t* out = &panels[panel * panel_bytes() + (n - first) * run];
        int64_t k = 0;
        if (run == 4) {
          const uint32_t flips = uint32_t{0x01010101} * flip;
          for (; k + 4 <= cols_; k += 4, out += step) {
            uint32_t four;
            std::memcpy(&four, codes + k, 4);
            four ^= flips;
            std::memcpy(out, &four, 4);
          }
        }
        for (; k < cols_; k += run, out += step) {
          const int64_t count = std::min(run, cols_ - k);
          for (int64_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(codes[k + i]) ^ flip;
        }
      }
      for (int64_t g = 0; g < group_count(); ++g) {
        const int64_t from = row * group_count() + g, to = group_offset(n, g);
        scales[to] = part.scales.as<float>()[from];
        if (scheme_.mapping == CodeMapping::kZeroPoint) {
          zero_points_.mutable_as<uint8_t>()[to] = static_cast<uint8_t>(part.zero_points.as<int8_t>()[from]);
        }
        if (scheme_.mapping == CodeMapping::kMinimum) minima_.mutable_as<float>()[to] = part.minima.as<float>()[from];
      }
    }
  });
}

QTensor CpuWeight::unpack() const {
  if (is_float()) fail("unpack was asked for a weight that is not quantized");
  const Shape per_group{rows_, group_count()};
  QTensor out{scheme_, Tensor(DType::kI8, {rows_, cols_}), Tensor(DType::kF32, per_group)};
  const bool zero_points = scheme_.mapping == CodeMapping::kZeroPoint,
             minima = scheme_.mapping == CodeMapping::kMinimum;
  if (zero_points) out.zero_points = Tensor(DType::kI8, per_group);
  if (minima) out.minima = Tensor(DType::kF32, per_group);
  int8_t* codes = out.codes.mutable_as<int8_t>().data();
  for (int64_t n = 0, i = 0; n < rows_; ++n, codes += cols_) {
    for_codes(n, [codes](int64_t k, int8_t code) { codes[k] = code; });
    for (int64_t g = 0; g < group_count(); ++g, ++i) {
      const int64_t at = group_offset(n, g);
      out.scales.mutable_as<float>()[i] = scales_.as<float>()[at];
      if (zero_points) out.zero_points.mutable_as<int8_t>()[i] = static_cast<int8_t>(zero_points_.as<uint8_t>()[at]);
      if (minima) out.minima.mutable_as<float>()[i] = minima_.as<float>()[at];
    }
  }
  return out;
}

void CpuWeight::read_row(int64_t index, Start start, float* y) const {
  if (is_float()) fail("a row of a weight that is not quantized was asked for");
  const int64_t group = scheme_.group_size == 0 ? cols_ : scheme_.group_size;
  const float* scales = scales_.as<float>().data();
  const uint8_t* zeros = scheme_.mapping == CodeMapping::kZeroPoint ? zero_points_.as<uint8_t>().data() : nullptr;
  const float* minima = scheme_.mapping == CodeMapping::kMinimum ? minima_.as<float>().data() : nullptr;
  int64_t end = 0, at = 0;  // of the group that k is in
  for_codes(index, [&](int64_t k, int8_t code) {
    if (k == end) {
      at = group_offset(index, k / group);
      end += group;
    }
    const float steps = static_cast<float>(code - (zeros != nullptr ? zeros[at] : 0));
    const float value = minima != nullptr ? std::fma(steps, scales[at], minima[at]) : steps * scales[at];
    y[k] = start == Start::kFromTile ? y[k] + value : value;
  });
}

}  // namespace octet::cpu

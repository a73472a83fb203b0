// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/packed_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "octet/backend/cpu/operations.h"
#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

namespace octet::cpu {
namespace {

// Nibbles are read four bytes at a time from any byte, so the last one is followed by so many that count for nothing.
constexpr int64_t kSpareBytes = 4;
// What a nibble of a symmetric scheme holds beyond the code.
constexpr int kNibbleZero = 8;
// What the zero point of a byte holds beyond the code.
constexpr int kByteZero = 128;

// |Σ code · weight| ≤ 127 · 128 K fits int32 up to here: 16,256 · 132,104 = 2,147,482,624 < 2^31.
constexpr int64_t kLongestExactWeight = 132'104;
// And with a zero point |Σ (code - zero point) · weight| ≤ 255 · 128 K: 32,640 · 65,793 = 2,147,483,520 < 2^31.
constexpr int64_t kLongestExactZeroPoint = 65'793;
// Where weights have zero points of 8 bits too, |code - zero point| ≤ 255: 127 · 255 · 66,310 = 2,147,449,350 < 2^31,
constexpr int64_t kLongestExactShiftedWeight = 66'310;
// and 255 · 255 · 33,025 = 2,147,450,625 < 2^31.
constexpr int64_t kLongestExactShifted = 33'025;
// A longer K goes in chunks that rescale as groups do.
constexpr int64_t kChunk = 65'536, kChunkOfShifted = 32'768;

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

// Columns group by group, ascending within one. None where they lie so anyway.
Tensor column_order_of(std::span<const QTensor* const> parts) {
  const QTensor& first = *parts.front();
  if (!first.scheme.reordered) return {};
  const std::span<const int32_t> groups = first.group_index.as<int32_t>();
  for (const QTensor* part : parts) {
    if (!std::ranges::equal(part->group_index.as<int32_t>(), groups))
      fail<ShapeError>("weights whose columns are grouped differently cannot be stacked into one product");
  }
  if (std::ranges::is_sorted(groups)) return {};
  Tensor out(DType::kI32, {first.cols()});
  const std::span<int32_t> order = out.mutable_as<int32_t>();
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [groups](int32_t column) { return groups[column]; });
  return out;
}

// The outlier columns of all parts.
Tensor outlier_columns_of(std::span<const QTensor* const> parts) {
  const QTensor& first = *parts.front();
  for (const QTensor* part : parts) {
    if (!std::ranges::equal(part->outlier_indices(), first.outlier_indices()) ||
        part->outliers.dtype() != first.outliers.dtype()) {
      fail<ShapeError>("weights of different outlier columns cannot be stacked into one product");
    }
  }
  return Tensor::copy_of(first.outlier_columns.view());
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

// One row's codes into their places in [k / interleave][lane][k % interleave], from those of its first k on.
template <int interleave>
void spread(const int8_t* codes, int64_t count, int64_t width, uint8_t* to) {
  int64_t k = 0;
  for (; k + interleave <= count; k += interleave, to += width * interleave) {
    std::memcpy(to, codes + k, interleave);
  }
  if (k < count) std::memcpy(to, codes + k, static_cast<size_t>(count - k));
}

// Bytes of nibbles from codes, one to a byte, in the order that PanelFormat gives them.
void pair_nibbles(const uint8_t* codes, int64_t count, int block, uint8_t offset, uint8_t* out) {
  const auto pair = [offset](uint8_t low, uint8_t high) {
    return static_cast<uint8_t>(static_cast<uint8_t>(low + offset) | static_cast<uint8_t>(high + offset) << 4);
  };
  if (block == 2) {  // a loop that can be vectorized
    for (int64_t i = 0; i < count / 2; ++i) out[i] = pair(codes[2 * i], codes[2 * i + 1]);
    return;
  }
  const int64_t half = block / 2;
  for (; count > 0; count -= block, codes += block, out += half) {
    for (int64_t i = 0; i < half; ++i) out[i] = pair(codes[i], codes[i + half]);
  }
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

int CpuWeight::zero_offset() const noexcept { return scheme_.bits == 8 ? kByteZero : 0; }

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
  activations_ = activations;
  column_order_ = column_order_of(parts);
  const std::span<const int32_t> order = column_order();
  const std::vector<Source> sources = sources_of(shapes_of(parts));
  if (activations == ActivationMode::kStaticPerTensorZeroPoint) {
    if (bits() != 8) fail<ShapeError>("activations with a zero point need 8-bit weights, not {}-bit ones", bits());
    column_sums_ = Tensor(DType::kI32, {checked_mul(checked_mul(panel_count(), table.panel_width), sum_count())});
  }
  if (scheme_.outliers) {
    outlier_columns_ = outlier_columns_of(parts);
    std::vector<ConstTensorView> outliers;
    for (const QTensor* part : parts) outliers.push_back(part->outliers.view());
    if (outlier_columns_.bytes() != 0) outliers_ = std::make_unique<CpuWeight>(table, threads, outliers);
  }
  holds_lowest_codes_ =
      meets_int8() && bits() == 8 && std::ranges::any_of(parts, [](const QTensor* part) {
        return std::ranges::find(part->codes.as<int8_t>(), int8_t{-128}) != part->codes.as<int8_t>().end();
      });
  const std::span<float> scales = scales_.mutable_as<float>();
  parallel_for(threads, panel_count(), [&](int64_t panel, int) {
    const int64_t first = panel * table.panel_width, last = std::min(rows_, first + table.panel_width);
    std::vector<const int8_t*> codes;
    std::vector<int8_t> ordered(order.size() * static_cast<size_t>(last - first));
    for (int64_t n = first; n < last; ++n) {
      const QTensor& part = *parts[sources[n].part];
      const int64_t row = sources[n].row;
      const int8_t* row_codes = part.codes.as<int8_t>().data() + row * cols_;
      if (!order.empty()) {
        int8_t* const to = ordered.data() + (n - first) * cols_;
        std::ranges::transform(order, to, [row_codes](int32_t column) { return row_codes[column]; });
        row_codes = to;
      }
      codes.push_back(row_codes);
      for (int64_t g = 0; g < group_count(); ++g) {
        const int64_t from = row * group_count() + g, to = group_offset(n, g);
        scales[to] = part.scales.as<float>()[from];
        if (scheme_.mapping == CodeMapping::kZeroPoint) {
          zero_points_.mutable_as<uint8_t>()[to] =
              static_cast<uint8_t>(part.zero_points.as<int8_t>()[from] + zero_offset());
        }
        if (scheme_.mapping == CodeMapping::kMinimum) minima_.mutable_as<float>()[to] = part.minima.as<float>()[from];
      }
    }
    pack_codes(panel, codes);
    if (column_sums_.bytes() != 0) sum_codes(panel, codes);
  });
}

void CpuWeight::pack_codes(int64_t panel, std::span<const int8_t* const> rows) {
  // So few that the buffer stays in the L1 cache; a multiple of what any format has in a block.
  constexpr int64_t kStrip = 128;
  const int64_t width = table_->panel_width, depth = panel_stride_ / width;
  uint8_t* out = panels_.mutable_as<uint8_t>().data() + panel * panel_bytes();
  // Padding means the code 0; nibbles of it are multiplied by zeros or left out.
  std::vector<uint8_t> strip(static_cast<size_t>(kStrip * width));
  for (int64_t first = 0; first < depth; first += kStrip) {
    const int64_t count = std::min(kStrip, cols_ - first), places = std::min(kStrip, depth - first) * width;
    if (count < kStrip) std::ranges::fill(strip, 0);
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      uint8_t* const to = strip.data() + lane * static_cast<size_t>(format().interleave);
      switch (format().interleave) {
        case 1:
          spread<1>(rows[lane] + first, count, width, to);
          break;
        case 4:
          spread<4>(rows[lane] + first, count, width, to);
          break;
        case 8:
          spread<8>(rows[lane] + first, count, width, to);
          break;
        default:
          fail("{} neighbouring codes side by side: no kernel has that", format().interleave);
      }
    }
    if (bits() == 4) {
      pair_nibbles(strip.data(), places, format().nibble_block, static_cast<uint8_t>(nibble_offset()), out);
      out += places / 2;
    } else {
      std::transform(strip.begin(), strip.begin() + places, out,
                     [flip = static_cast<uint8_t>(format().flip)](uint8_t code) { return code ^ flip; });
      out += places;
    }
  }
}

void CpuWeight::sum_codes(int64_t panel, std::span<const int8_t* const> rows) {
  const int64_t width = table_->panel_width, depth = sum_depth() == 0 ? cols_ : sum_depth();
  int32_t* out = column_sums_.mutable_as<int32_t>().data() + panel * sum_count() * width;
  for (int64_t first = 0; first < cols_; first += depth, out += width) {
    const int64_t last = std::min(cols_, first + depth);
    std::transform(rows.begin(), rows.end(), out,
                   [first, last](const int8_t* codes) { return std::accumulate(codes + first, codes + last, 0); });
    if (!shifts_bytes()) continue;
    const uint8_t* const zeros = groups(panel, first).zeros;
    for (size_t lane = 0; lane < rows.size(); ++lane)
      out[lane] -= static_cast<int32_t>(last - first) * (zeros[lane] - kByteZero);
  }
}

int64_t CpuWeight::sum_depth() const noexcept {
  if (scheme_.group_size != 0) return scheme_.group_size;
  const bool zero_point = activations_ == ActivationMode::kStaticPerTensorZeroPoint;
  if (shifts_bytes()) {
    if (zero_point) return cols_ <= kLongestExactShifted ? 0 : kChunkOfShifted;
    return cols_ <= kLongestExactShiftedWeight ? 0 : kChunk;
  }
  return cols_ <= (zero_point ? kLongestExactZeroPoint : kLongestExactWeight) ? 0 : kChunk;
}

int64_t CpuWeight::sum_count() const noexcept {
  const int64_t depth = sum_depth();
  return depth == 0 ? 1 : (cols_ + depth - 1) / depth;
}

Int8Product::ColumnSums CpuWeight::column_sums(int64_t panel, int32_t factor) const {
  if (activations_ != ActivationMode::kStaticPerTensorZeroPoint) return {};
  const int64_t width = table_->panel_width, panel_stride = sum_count() * width;
  return {.sums = column_sums_.as<int32_t>().data() + panel * panel_stride,
          .factor = factor,
          .panel_stride = panel_stride,
          .stride = width};
}

QTensor CpuWeight::unpack() const {
  if (is_float()) fail("unpack was asked for a weight that is not quantized");
  const Shape per_group{rows_, group_count()};
  QTensor out{scheme_, Tensor(DType::kI8, {rows_, cols_}), Tensor(DType::kF32, per_group)};
  const bool zero_points = scheme_.mapping == CodeMapping::kZeroPoint,
             minima = scheme_.mapping == CodeMapping::kMinimum;
  if (zero_points) out.zero_points = Tensor(DType::kI8, per_group);
  if (minima) out.minima = Tensor(DType::kF32, per_group);
  const std::span<const int32_t> order = column_order();
  const auto column = [order](int64_t k) { return order.empty() ? k : order[k]; };
  if (scheme_.reordered) {
    out.group_index = Tensor(DType::kI32, {cols_});
    const std::span<int32_t> groups = out.group_index.mutable_as<int32_t>();
    for (int64_t k = 0; k < cols_; ++k) groups[column(k)] = static_cast<int32_t>(k / scheme_.group_size);
  }
  if (scheme_.outliers) {
    out.outlier_columns = Tensor::copy_of(outlier_columns_.view());
    out.outliers = outliers_ == nullptr ? Tensor(DType::kF16, {rows_, 0}) : outliers_->unpack_floats();
  }
  int8_t* codes = out.codes.mutable_as<int8_t>().data();
  for (int64_t n = 0, i = 0; n < rows_; ++n, codes += cols_) {
    for_codes(n, [codes, &column](int64_t k, int8_t code) { codes[column(k)] = code; });
    for (int64_t g = 0; g < group_count(); ++g, ++i) {
      const int64_t at = group_offset(n, g);
      out.scales.mutable_as<float>()[i] = scales_.as<float>()[at];
      if (zero_points) {
        out.zero_points.mutable_as<int8_t>()[i] = static_cast<int8_t>(zero_points_.as<uint8_t>()[at] - zero_offset());
      }
      if (minima) out.minima.mutable_as<float>()[i] = minima_.as<float>()[at];
    }
  }
  return out;
}

Tensor CpuWeight::unpack_floats() const {
  Tensor out(panels_.dtype(), {rows_, cols_});
  const int64_t size = byte_size(panels_.dtype());
  const std::byte* const panels = panels_.view().data;
  std::byte* to = out.mutable_view().data;
  for (int64_t n = 0; n < rows_; ++n, to += cols_ * size) {
    for_places(n, [&](int64_t k, int64_t byte, int) { std::memcpy(to + k * size, panels + byte, size); });
  }
  return out;
}

void CpuWeight::read_row(int64_t index, Start start, float* y) const {
  if (is_float()) fail("a row of a weight that is not quantized was asked for");
  if (outliers_ != nullptr) fail("a row of a weight with outlier columns was asked for; only products read those");
  const int64_t group = scheme_.group_size == 0 ? cols_ : scheme_.group_size;
  const float* scales = scales_.as<float>().data();
  const uint8_t* zeros = scheme_.mapping == CodeMapping::kZeroPoint ? zero_points_.as<uint8_t>().data() : nullptr;
  const float* minima = scheme_.mapping == CodeMapping::kMinimum ? minima_.as<float>().data() : nullptr;
  const std::span<const int32_t> order = column_order();
  int64_t end = 0, at = 0;  // of the group that k is in
  for_codes(index, [&](int64_t k, int8_t code) {
    if (k == end) {
      at = group_offset(index, k / group);
      end += group;
    }
    const float steps = static_cast<float>(code - (zeros != nullptr ? zeros[at] - zero_offset() : 0));
    const float value = minima != nullptr ? std::fma(steps, scales[at], minima[at]) : steps * scales[at];
    float& to = y[order.empty() ? k : order[k]];
    to = start == Start::kFromTile ? to + value : value;
  });
}

}  // namespace octet::cpu

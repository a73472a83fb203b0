// SPDX-License-Identifier: Apache-2.0
#include "octet/io/compressed_tensors.h"

#include <algorithm>
#include <array>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/packed_codes.h"
#include "octet/tensor/transpose.h"

namespace octet {
namespace {

constexpr const char* kWeight = ".weight";
constexpr const char* kPacked = ".weight_packed";
constexpr const char* kShape = ".weight_shape";
constexpr const char* kScale = ".weight_scale";
constexpr const char* kZeroPoint = ".weight_zero_point";
constexpr const char* kInputScale = ".input_scale";
constexpr const char* kInputZeroPoint = ".input_zero_point";
constexpr const char* kAttentionScale = "_scale";
constexpr const char* kGroupIndex = ".weight_g_idx";
constexpr const char* kOutlierColumns = ".outlier_columns";
constexpr const char* kOutliers = ".outliers";

// What a 4-bit code with a zero point is more than in a file, and what is added to 4-bit codes before they are packed:
// the two cancel where both apply.
constexpr int kHalfOf4Bits = 8;

// What is added to 8-bit codes before they are packed.
constexpr int kHalfOf8Bits = 128;

// Adds to every code.
Tensor shifted(ConstTensorView codes, int offset) {
  Tensor out(DType::kI8, codes.shape);
  const std::span<const int8_t> from = codes.as<int8_t>();
  std::transform(from.begin(), from.end(), out.mutable_as<int8_t>().begin(),
                 [offset](int8_t code) { return static_cast<int8_t>(code + offset); });
  return out;
}

// From a QTensor's codes, or zero points, to those that words hold,
int packed_offset(const WeightScheme& scheme) {
  if (scheme.bits == 8) return kHalfOf8Bits;
  return scheme.mapping == CodeMapping::kSymmetric ? kHalfOf4Bits : 0;
}

// and to those that bytes hold.
int plain_offset(const WeightScheme& scheme) { return packed_offset(scheme) - (1 << (scheme.bits - 1)); }

// A layer's stored tensors, fetched and checked one by one.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, const std::string& layer, const StoredScheme& stored)
      : checkpoint_(checkpoint),
        layer_(layer),
        scheme_(stored.scheme.weight),
        format_(stored.format),
        one_scale_(stored.one_scale) {}

  Tensor codes() const {
    if (format_ == WeightFormat::kPackQuantized) return packed_codes();
    Tensor codes = matrix(kWeight, DType::kI8);
    if (scheme_.bits == 8) return codes;
    // A byte has room for what is no code; a shift could hide it.
    const std::span<const int8_t> values = codes.as<int8_t>();
    const auto bad = std::find_if(values.begin(), values.end(), [](int8_t code) { return code < -8 || code > 7; });
    if (bad != values.end()) fail<FormatError>("{}: the 4-bit code {}; they lie in [-8, 7]", where(kWeight), *bad);
    if (scheme_.mapping == CodeMapping::kSymmetric) return codes;
    Tensor out = shifted(codes.view(), -plain_offset(scheme_));
    codes.release_pages();
    return out;
  }

  // [out, groups] F32; [out] will do where a row has one, and [1] or [] where they all share it.
  Tensor scales(const Shape& per_group) const {
    const Tensor stored = checkpoint_.tensor(layer_ + kScale);
    const bool narrow_or_float =
        stored.dtype() == DType::kF32 || stored.dtype() == DType::kF16 || stored.dtype() == DType::kBF16;
    const bool one_a_row = per_group[1] == 1 && stored.shape() == Shape{per_group[0]};
    if (one_scale_ && narrow_or_float && stored.shape().elements() == 1) {
      Tensor out(DType::kF32, per_group);
      float scale = 0;
      read_f32(stored.view(), 0, std::span(&scale, 1));
      std::ranges::fill(out.mutable_as<float>(), scale);
      return out;
    }
    if (!narrow_or_float || (stored.shape() != per_group && !one_a_row)) {
      fail<FormatError>("{} is {} {}; F32, F16 or BF16 {} is needed", where(kScale), name(stored.dtype()),
                        to_string(stored.shape()), to_string(per_group));
    }
    Tensor out(DType::kF32, per_group);
    read_f32(stored.view(), 0, out.mutable_as<float>());
    return out;
  }

  // [out, groups], as a QTensor has them. One that all share is not packed.
  Tensor zero_points(const Shape& per_group) const {
    if (one_scale_) {
      const Tensor stored = checkpoint_.tensor(layer_ + kZeroPoint);
      if (stored.dtype() != DType::kI8 || stored.shape().elements() != 1) {
        fail<FormatError>("{} is {} {}; one number is needed, I8", where(kZeroPoint), name(stored.dtype()),
                          to_string(stored.shape()));
      }
      Tensor out(DType::kI8, per_group);
      std::ranges::fill(out.mutable_as<int8_t>(), plain_zero_point(stored.as<int8_t>()[0]));
      return out;
    }
    if (format_ == WeightFormat::kIntQuantized) {
      const Tensor stored = matrix(kZeroPoint, DType::kI8);
      expect_shape(stored, per_group);
      Tensor out(DType::kI8, per_group);
      std::ranges::transform(stored.as<int8_t>(), out.mutable_as<int8_t>().begin(),
                             [this](int8_t value) { return plain_zero_point(value); });
      return out;
    }
    const Tensor stored = matrix(kZeroPoint, DType::kI32);
    expect_shape(stored, {words_for(per_group[0], scheme_.bits), per_group[1]});
    const Tensor words = transposed(stored.view());
    return transposed(unpack_codes(words.view(), per_group[0], scheme_.bits, packed_offset(scheme_)).view());
  }

  // Some writers store zero points of symmetric weights: zeros, as they are or packed, which change nothing.
  void refuse_zero_points() const {
    if (!checkpoint_.contains(layer_ + kZeroPoint)) return;
    const Tensor stored = checkpoint_.tensor(layer_ + kZeroPoint);
    const std::span<const std::byte> bytes(stored.view().data, static_cast<size_t>(stored.bytes()));
    if (std::any_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
      fail<FormatError>("{} is not zero; the scheme is symmetric", where(kZeroPoint));
    }
  }

  // [in]: the group of each column. Older writers store one where groups are of neighbours too.
  Tensor group_index(int64_t cols) const {
    const Tensor stored = checkpoint_.tensor(layer_ + kGroupIndex);
    if (stored.shape() != Shape{cols} || (stored.dtype() != DType::kI32 && stored.dtype() != DType::kI64)) {
      fail<FormatError>("{} is {} {}; I32 {} is needed", where(kGroupIndex), name(stored.dtype()),
                        to_string(stored.shape()), to_string(Shape{cols}));
    }
    if (stored.dtype() == DType::kI32) return Tensor::copy_of(stored.view());
    Tensor out(DType::kI32, {cols});
    std::ranges::transform(stored.as<int64_t>(), out.mutable_as<int32_t>().begin(), [&](int64_t group) {
      if (!std::in_range<int32_t>(group)) fail<FormatError>("{}: the group {}", where(kGroupIndex), group);
      return static_cast<int32_t>(group);
    });
    return out;
  }

  // Groups are of neighbours, which an index may repeat (or be all -1, as when it has not been filled).
  void refuse_other_groups(int64_t cols) const {
    if (!checkpoint_.contains(layer_ + kGroupIndex)) return;
    const Tensor stored = group_index(cols);
    const std::span<const int32_t> groups = stored.as<int32_t>();
    const int64_t width = scheme_.group_size == 0 ? cols : scheme_.group_size;
    for (int64_t i = 0; i < cols; ++i) {
      if (groups[i] == -1 || groups[i] == i / width) continue;
      fail<FormatError>("{}: column {} is of group {}; reordered columns need \"actorder\": \"group\" in config.json",
                        where(kGroupIndex), i, groups[i]);
    }
  }

  std::string where(const char* part = "") const {
    return fmt::format("{}: tensor {}", checkpoint_.folder().string(), quote_name(layer_ + part));
  }

 private:
  // What a byte of a file says.
  int8_t plain_zero_point(int8_t value) const {
    if (scheme_.bits == 4 && (value < -8 || value > 7))
      fail<FormatError>("{}: the zero point {}; they lie in [-8, 7]", where(kZeroPoint), value);
    return static_cast<int8_t>(value - plain_offset(scheme_));
  }

  Tensor matrix(const char* part, DType dtype) const {
    Tensor tensor = checkpoint_.tensor(layer_ + part);
    if (tensor.dtype() != dtype || tensor.shape().rank() != 2) {
      fail<FormatError>("{} is {} {}; {} of two dimensions is needed", where(part), name(tensor.dtype()),
                        to_string(tensor.shape()), name(dtype));
    }
    return tensor;
  }

  void expect_shape(const Tensor& zero_points, const Shape& shape) const {
    if (zero_points.shape() == shape) return;
    fail<FormatError>("{} has the shape {}; {} is needed", where(kZeroPoint), to_string(zero_points.shape()),
                      to_string(shape));
  }

  Tensor packed_codes() const {
    const Tensor packed = matrix(kPacked, DType::kI32);
    const Tensor shape = checkpoint_.tensor(layer_ + kShape);
    if (shape.shape() != Shape{2} || (shape.dtype() != DType::kI64 && shape.dtype() != DType::kI32)) {
      fail<FormatError>("{} is {} {}; two integers are needed", where(kShape), name(shape.dtype()),
                        to_string(shape.shape()));
    }
    std::array<int64_t, 2> extents{};
    if (shape.dtype() == DType::kI64) {
      std::copy_n(shape.as<int64_t>().begin(), 2, extents.begin());
    } else {
      std::copy_n(shape.as<int32_t>().begin(), 2, extents.begin());
    }
    const auto [rows, cols] = extents;
    if (rows != packed.shape()[0] || cols < 0 || words_for(cols, scheme_.bits) != packed.shape()[1]) {
      fail<FormatError>("{} says [{}, {}], which does not fit packed {}-bit codes of shape {}", where(kShape), rows,
                        cols, scheme_.bits, to_string(packed.shape()));
    }
    Tensor codes = unpack_codes(packed.view(), cols, scheme_.bits, packed_offset(scheme_));
    packed.release_pages();
    return codes;
  }

  const Checkpoint& checkpoint_;
  const std::string& layer_;
  const WeightScheme scheme_;
  const WeightFormat format_;
  const bool one_scale_;
};

Tensor zero_points_to_write(const QTensor& grid, WeightFormat format) {
  if (format == WeightFormat::kIntQuantized) return shifted(grid.zero_points.view(), plain_offset(grid.scheme));
  const Tensor columns = transposed(grid.zero_points.view());
  return transposed(pack_codes(columns.view(), grid.scheme.bits, packed_offset(grid.scheme)).view());
}

}  // namespace

std::vector<TensorSource> encode_weight(const std::string& layer, const QTensor& weight, WeightFormat format) {
  check(weight, layer);
  const std::span<const int32_t> outliers = weight.outlier_indices();
  return encode_weight(layer, weight.codes.shape(), weight.scheme, [&weight]() -> const QTensor& { return weight; },
                       format, {.columns = std::ssize(outliers), .dtype = weight.outliers.dtype()});
}

std::vector<TensorSource> encode_weight(const std::string& layer, const Shape& shape, const WeightScheme& scheme,
                                        const std::function<const QTensor&()>& weight, WeightFormat format,
                                        const OutlierShape& outliers) {
  const int64_t rows = shape[0], cols = shape[1];
  check(scheme, cols, layer);
  check_storable(scheme, layer);
  const bool symmetric = scheme.mapping == CodeMapping::kSymmetric;
  const int64_t groups = scheme.groups(cols);
  std::vector<TensorSource> out;
  switch (format) {
    case WeightFormat::kIntQuantized:
      out.push_back({layer + kWeight, DType::kI8, shape, [offset = plain_offset(scheme), weight] {
                       const ConstTensorView codes = weight().codes.view();
                       return offset == 0 ? Tensor::copy_of(codes) : shifted(codes, offset);
                     }});
      break;
    case WeightFormat::kPackQuantized:
      out.push_back({layer + kPacked, DType::kI32, {rows, words_for(cols, scheme.bits)}, [scheme, weight] {
                       return pack_codes(weight().codes.view(), scheme.bits, packed_offset(scheme));
                     }});
      out.push_back({layer + kShape, DType::kI64, {2}, [rows, cols] {
                       Tensor extents(DType::kI64, {2});
                       extents.mutable_as<int64_t>()[0] = rows;
                       extents.mutable_as<int64_t>()[1] = cols;
                       return extents;
                     }});
      break;
  }
  out.push_back(
      {layer + kScale, DType::kF32, {rows, groups}, [weight] { return Tensor::copy_of(weight().scales.view()); }});
  if (!symmetric) {
    const bool packed = format == WeightFormat::kPackQuantized;
    out.push_back({layer + kZeroPoint,
                   packed ? DType::kI32 : DType::kI8,
                   {packed ? words_for(rows, scheme.bits) : rows, groups},
                   [weight, format] { return zero_points_to_write(weight(), format); }});
  }
  if (scheme.reordered) {
    out.push_back(
        {layer + kGroupIndex, DType::kI32, {cols}, [weight] { return Tensor::copy_of(weight().group_index.view()); }});
  }
  if (scheme.outliers) {
    out.push_back({layer + kOutlierColumns, DType::kI32, {outliers.columns}, [weight] {
                     return Tensor::copy_of(weight().outlier_columns.view());
                   }});
    out.push_back({layer + kOutliers, outliers.dtype, {rows, outliers.columns}, [weight] {
                     return Tensor::copy_of(weight().outliers.view());
                   }});
  }
  return out;
}

int64_t encoded_bytes(const Shape& weight, const WeightScheme& scheme, WeightFormat format) {
  const int64_t rows = weight[0], cols = weight[1], groups = scheme.groups(cols);
  const int bits = scheme.bits;
  const bool packed = format == WeightFormat::kPackQuantized;
  int64_t bytes = rows * groups * byte_size(DType::kF32);
  if (scheme.mapping == CodeMapping::kMinimum) bytes += rows * groups * byte_size(DType::kF32);
  if (scheme.mapping == CodeMapping::kZeroPoint) {
    bytes += groups * (packed ? words_for(rows, bits) * byte_size(DType::kI32) : rows);
  }
  if (scheme.reordered) bytes += cols * byte_size(DType::kI32);
  if (!packed) return bytes + rows * cols;
  return bytes + rows * words_for(cols, bits) * byte_size(DType::kI32) + 2 * byte_size(DType::kI64);
}

int64_t encoded_outlier_bytes(int64_t outputs, int64_t columns) {
  return columns * (byte_size(DType::kI32) + outputs * byte_size(DType::kF16));
}

namespace {

TensorSource one_float(std::string name, float value) {
  return {std::move(name), DType::kF32, {1}, [value] {
            Tensor one(DType::kF32, {1});
            one.mutable_as<float>()[0] = value;
            return one;
          }};
}

}  // namespace

std::vector<TensorSource> encode_activation_scale(const std::string& layer, const ActivationScale& scale,
                                                  ActivationMode mode) {
  std::vector<TensorSource> out;
  if (!is_static(mode)) return out;
  out.push_back(one_float(layer + kInputScale, scale.scale));
  if (mode == ActivationMode::kStaticPerTensorZeroPoint) {
    out.push_back({layer + kInputZeroPoint, DType::kI8, {1}, [scale] {
                     Tensor one(DType::kI8, {1});
                     one.mutable_as<int8_t>()[0] = static_cast<int8_t>(scale.zero_point - (1 << (scale.bits - 1)));
                     return one;
                   }});
  }
  return out;
}

int64_t encoded_scale_bytes(ActivationMode mode) {
  if (!is_static(mode)) return 0;
  return byte_size(DType::kF32) + (mode == ActivationMode::kStaticPerTensorZeroPoint ? byte_size(DType::kI8) : 0);
}

namespace {

std::string where(const Checkpoint& checkpoint, const std::string& tensor) {
  return fmt::format("{}: tensor {}", checkpoint.folder().string(), quote_name(tensor));
}

Tensor one_number(const Checkpoint& checkpoint, const std::string& name, std::initializer_list<DType> offered) {
  Tensor tensor = checkpoint.tensor(name);
  if (tensor.shape().elements() != 1 || std::ranges::find(offered, tensor.dtype()) == offered.end()) {
    fail<FormatError>("{} is {} {}; one number is needed, {}", where(checkpoint, name), octet::name(tensor.dtype()),
                      to_string(tensor.shape()), octet::name(*offered.begin()));
  }
  return tensor;
}

ActivationScale read_scale(const Checkpoint& checkpoint, const std::string& name, ActivationMode mode, int zero_point,
                           int bits) {
  ActivationScale out{.zero_point = zero_point, .bits = bits};
  read_f32(one_number(checkpoint, name, {DType::kF32, DType::kF16, DType::kBF16}).view(), 0, std::span(&out.scale, 1));
  try {
    check(out, mode, where(checkpoint, name));
  } catch (const NumericError& error) {
    throw FormatError(error.what());
  }
  return out;
}

}  // namespace

ActivationScale decode_activation_scale(const Checkpoint& checkpoint, const std::string& layer, ActivationMode mode,
                                        int bits) {
  const std::string name = layer + kInputZeroPoint;
  int zero_point = 0;
  if (mode == ActivationMode::kStaticPerTensorZeroPoint) {
    zero_point = one_number(checkpoint, name, {DType::kI8}).as<int8_t>()[0] + (1 << (bits - 1));
  } else if (checkpoint.contains(name)) {
    // Some writers store the zero of a symmetric scheme.
    if (one_number(checkpoint, name, {DType::kI8}).as<int8_t>()[0] != 0)
      fail<FormatError>("{} is not zero; the scheme is symmetric", where(checkpoint, name));
  }
  return read_scale(checkpoint, layer + kInputScale, mode, zero_point, bits);
}

TensorSource encode_attention_scale(const std::string& operand, float scale) {
  return one_float(operand + kAttentionScale, scale);
}

float decode_attention_scale(const Checkpoint& checkpoint, const std::string& operand) {
  return read_scale(checkpoint, operand + kAttentionScale, ActivationMode::kStaticPerTensor, 0, 8).scale;
}

namespace {

Tensor read_outlier_columns(const Checkpoint& checkpoint, const std::string& layer, int64_t inputs) {
  const std::string name = layer + kOutlierColumns;
  const Tensor stored = checkpoint.tensor(name);
  if (stored.dtype() != DType::kI32 || stored.shape().rank() != 1 || stored.shape()[0] > inputs) {
    fail<FormatError>("{} is {} {}; I32 of one dimension is needed, and of at most the {} inputs",
                      where(checkpoint, name), octet::name(stored.dtype()), to_string(stored.shape()), inputs);
  }
  try {
    if (stored.bytes() != 0) check_outlier_columns(stored.as<int32_t>(), inputs, where(checkpoint, name));
  } catch (const Error& error) {
    throw FormatError(error.what());
  }
  return Tensor::copy_of(stored.view());
}

}  // namespace

std::vector<int32_t> decode_outlier_columns(const Checkpoint& checkpoint, const std::string& layer, int64_t inputs) {
  const Tensor columns = read_outlier_columns(checkpoint, layer, inputs);
  if (columns.bytes() == 0) return {};
  return {columns.as<int32_t>().begin(), columns.as<int32_t>().end()};
}

QTensor decode_weight(const Checkpoint& checkpoint, const std::string& layer, const StoredScheme& stored) {
  const LayerReader reader(checkpoint, layer, stored);
  QTensor out;
  out.scheme = stored.scheme.weight;
  out.codes = reader.codes();
  const int64_t cols = out.cols(), group_size = out.scheme.group_size;
  if (group_size != 0 && cols % group_size != 0) {
    fail<FormatError>("{}: its {} inputs are not a multiple of the group size {}", reader.where(), cols, group_size);
  }
  const Shape per_group{out.rows(), out.groups()};
  out.scales = reader.scales(per_group);
  if (out.scheme.mapping == CodeMapping::kSymmetric) {
    reader.refuse_zero_points();
  } else {
    out.zero_points = reader.zero_points(per_group);
  }
  if (out.scheme.reordered) {
    out.group_index = reader.group_index(cols);
  } else {
    reader.refuse_other_groups(cols);
  }
  if (out.scheme.outliers) {
    out.outlier_columns = read_outlier_columns(checkpoint, layer, cols);
    out.outliers = Tensor::copy_of(checkpoint.tensor(layer + kOutliers).view());
  } else if (checkpoint.contains(layer + kOutlierColumns) || checkpoint.contains(layer + kOutliers)) {
    fail<FormatError>("{}: config.json says nothing of outlier columns in this layer", reader.where(kOutliers));
  }
  try {
    check_group_index(out, cols, reader.where(kGroupIndex));
    check(out, reader.where());
  } catch (const Error& error) {
    throw FormatError(error.what());
  }
  return out;
}

}  // namespace octet

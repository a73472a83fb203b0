// SPDX-License-Identifier: Apache-2.0
#include "octet/io/compressed_tensors.h"

#include <algorithm>
#include <array>
#include <limits>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

constexpr int64_t kCodesPerWord = 4;
// code + 128 in eight bits is the code with its highest bit flipped.
constexpr uint8_t kOffset = 0x80;

int64_t words_for(int64_t cols) { return cols / kCodesPerWord + (cols % kCodesPerWord != 0); }

Tensor pack(ConstTensorView codes) {
  const int64_t rows = codes.shape[0], cols = codes.shape[1], row_bytes = words_for(cols) * kCodesPerWord;
  Tensor out(DType::kI32, {rows, words_for(cols)});
  const auto* from = reinterpret_cast<const uint8_t*>(codes.data);
  auto* to = reinterpret_cast<uint8_t*>(out.mutable_view().data);
  for (int64_t r = 0; r < rows; ++r) {
    std::transform(from + r * cols, from + (r + 1) * cols, to + r * row_bytes,
                   [](uint8_t code) { return static_cast<uint8_t>(code ^ kOffset); });
  }
  return out;
}

Tensor unpack(ConstTensorView packed, int64_t cols) {
  const int64_t rows = packed.shape[0], row_bytes = words_for(cols) * kCodesPerWord;
  Tensor out(DType::kI8, {rows, cols});
  const auto* from = reinterpret_cast<const uint8_t*>(packed.data);
  auto* to = reinterpret_cast<uint8_t*>(out.mutable_view().data);
  for (int64_t r = 0; r < rows; ++r) {
    std::transform(from + r * row_bytes, from + r * row_bytes + cols, to + r * cols,
                   [](uint8_t code) { return static_cast<uint8_t>(code ^ kOffset); });
  }
  return out;
}

// A layer's stored tensors, fetched and checked one by one.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, const std::string& layer) : checkpoint_(checkpoint), layer_(layer) {}

  Tensor matrix(const char* part, DType dtype) const {
    Tensor tensor = checkpoint_.tensor(layer_ + part);
    if (tensor.dtype() != dtype || tensor.shape().rank() != 2) {
      fail<FormatError>("{} is {} {}; {} of two dimensions is needed", where(part), name(tensor.dtype()),
                        to_string(tensor.shape()), name(dtype));
    }
    return tensor;
  }

  Tensor packed_codes() const {
    const Tensor packed = matrix(".weight_packed", DType::kI32);
    const Tensor shape = checkpoint_.tensor(layer_ + ".weight_shape");
    if (shape.shape() != Shape{2} || (shape.dtype() != DType::kI64 && shape.dtype() != DType::kI32)) {
      fail<FormatError>("{} is {} {}; two integers are needed", where(".weight_shape"), name(shape.dtype()),
                        to_string(shape.shape()));
    }
    std::array<int64_t, 2> extents{};
    if (shape.dtype() == DType::kI64) {
      std::copy_n(shape.as<int64_t>().begin(), 2, extents.begin());
    } else {
      std::copy_n(shape.as<int32_t>().begin(), 2, extents.begin());
    }
    const auto [rows, cols] = extents;
    if (rows != packed.shape()[0] || cols < 0 || words_for(cols) != packed.shape()[1]) {
      fail<FormatError>("{} says [{}, {}], which does not fit packed codes of shape {}", where(".weight_shape"), rows,
                        cols, to_string(packed.shape()));
    }
    Tensor codes = unpack(packed.view(), cols);
    packed.release_pages();
    return codes;
  }

  // [out] F32, of [out, 1] or [out].
  Tensor scales(int64_t rows) const {
    const char* part = ".weight_scale";
    const Tensor stored = checkpoint_.tensor(layer_ + part);
    const bool narrow_or_float =
        stored.dtype() == DType::kF32 || stored.dtype() == DType::kF16 || stored.dtype() == DType::kBF16;
    if (!narrow_or_float || (stored.shape() != Shape{rows, 1} && stored.shape() != Shape{rows})) {
      fail<FormatError>("{} is {} {}; F32, F16 or BF16 [{}, 1] is needed", where(part), name(stored.dtype()),
                        to_string(stored.shape()), rows);
    }
    Tensor out(DType::kF32, {rows, 1});
    read_f32(stored.view(), 0, out.mutable_as<float>());
    return out;
  }

  // Some writers store zero points that are all zero, which changes nothing.
  void refuse_zero_point() const {
    const std::string zero_point = layer_ + ".weight_zero_point";
    if (!checkpoint_.contains(zero_point)) return;
    const Tensor stored = checkpoint_.tensor(zero_point);
    const std::span<const std::byte> bytes(stored.view().data, static_cast<size_t>(stored.bytes()));
    if (std::any_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
      fail<FormatError>("{} is not zero; a zero point is not supported", where(".weight_zero_point"));
    }
  }

  std::string where(const char* part = "") const {
    return fmt::format("{}: tensor {}", checkpoint_.folder().string(), quote_name(layer_ + part));
  }

 private:
  const Checkpoint& checkpoint_;
  const std::string& layer_;
};

}  // namespace

std::vector<TensorSource> encode_weight(const std::string& layer, const QTensor& weight, WeightFormat format) {
  check(weight, layer);
  const int64_t rows = weight.rows(), cols = weight.cols();
  std::vector<TensorSource> out;
  switch (format) {
    case WeightFormat::kIntQuantized:
      out.push_back(
          {layer + ".weight", DType::kI8, {rows, cols}, [&weight] { return Tensor::copy_of(weight.codes.view()); }});
      break;
    case WeightFormat::kPackQuantized:
      out.push_back({layer + ".weight_packed", DType::kI32, {rows, words_for(cols)}, [&weight] {
                       return pack(weight.codes.view());
                     }});
      out.push_back({layer + ".weight_shape", DType::kI64, {2}, [rows, cols] {
                       Tensor shape(DType::kI64, {2});
                       shape.mutable_as<int64_t>()[0] = rows;
                       shape.mutable_as<int64_t>()[1] = cols;
                       return shape;
                     }});
      break;
  }
  out.push_back(
      {layer + ".weight_scale", DType::kF32, {rows, 1}, [&weight] { return Tensor::copy_of(weight.scales.view()); }});
  return out;
}

int64_t encoded_bytes(const Shape& weight, WeightFormat format) {
  const int64_t rows = weight[0], cols = weight[1], scales = rows * byte_size(DType::kF32);
  if (format == WeightFormat::kIntQuantized) return rows * cols + scales;
  return rows * words_for(cols) * byte_size(DType::kI32) + 2 * byte_size(DType::kI64) + scales;
}

QTensor decode_weight(const Checkpoint& checkpoint, const std::string& layer, WeightFormat format) {
  const LayerReader reader(checkpoint, layer);
  QTensor out;
  out.codes = format == WeightFormat::kIntQuantized ? reader.matrix(".weight", DType::kI8) : reader.packed_codes();
  out.scales = reader.scales(out.codes.shape()[0]);
  reader.refuse_zero_point();
  const std::span<const int8_t> codes = out.codes.as<int8_t>();
  if (std::find(codes.begin(), codes.end(), std::numeric_limits<int8_t>::min()) != codes.end()) {
    fail<FormatError>(
        "{}: holds the code -128. Octet's codes lie in [-127, 127], which keeps its integer products exact; "
        "quantize the float model with octet.",
        reader.where());
  }
  try {
    check(out, reader.where());
  } catch (const NumericError& error) {
    throw FormatError(error.what());
  }
  return out;
}

}  // namespace octet

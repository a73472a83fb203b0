// SPDX-License-Identifier: Apache-2.0
#include "octet/io/compressed_tensors.h"

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/quant/quantize.h"
#include "octet/tensor/half.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr WeightFormat kFormats[] = {WeightFormat::kIntQuantized, WeightFormat::kPackQuantized};

class CompressedTensors : public ScratchFolder {
 protected:
  // A checkpoint of these tensors; what is quantized is asked by format here, so config.json says nothing of it.
  Checkpoint checkpoint(SafetensorsWriter& writer) const {
    writer.write(folder_ / "model.safetensors");
    write("config.json", "{}");
    return Checkpoint::open(folder_);
  }
  static void add(SafetensorsWriter& writer, std::vector<TensorSource> sources) {
    for (TensorSource& source : sources) writer.add(std::move(source));
  }
};

struct Layout {
  WeightScheme scheme;
  WeightFormat format;

  StoredScheme stored() const { return {{scheme, ActivationMode::kFloat}, format}; }
};

// Everything that is written, with groups of 32.
std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (const WeightFormat format : kFormats) {
    for (const int64_t group_size : {0, 32}) {
      all.push_back({{.bits = 8, .group_size = group_size}, format});
      all.push_back({{.bits = 8, .group_size = group_size, .mapping = CodeMapping::kZeroPoint}, format});
      all.push_back({{.bits = 4, .group_size = group_size}, format});
      all.push_back({{.bits = 4, .group_size = group_size, .mapping = CodeMapping::kZeroPoint}, format});
    }
    all.push_back({{.bits = 8, .group_size = 32, .reordered = true}, format});
    all.push_back({{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint, .reordered = true}, format});
  }
  return all;
}

std::string text_of(const Layout& layout) {
  return to_string(layout.stored().scheme) + (layout.format == WeightFormat::kIntQuantized ? ", plain" : ", packed");
}

StoredScheme int8(WeightFormat format) { return {{}, format}; }

// Codes run through all that the scheme has.
QTensor sample(int64_t rows, int64_t cols, const WeightScheme& scheme = {}) {
  const int64_t groups = scheme.groups(cols);
  QTensor out{scheme, Tensor(DType::kI8, {rows, cols}), Tensor(DType::kF32, {rows, groups})};
  for (int64_t i = 0; i < rows * cols; ++i) {
    const int64_t code =
        scheme.bits == 8 ? i * 37 % 255 - 127 : i * 7 % 16 - (scheme.mapping == CodeMapping::kSymmetric ? 8 : 0);
    out.codes.mutable_as<int8_t>()[i] = static_cast<int8_t>(code);
  }
  // Scales that neither 16-bit type can hold, of both signs.
  for (int64_t i = 0; i < rows * groups; ++i)
    out.scales.mutable_as<float>()[i] = (i % 2 == 0 ? 1.0f : -1.0f) / (static_cast<float>(i) + 3.0f);
  if (scheme.mapping == CodeMapping::kZeroPoint) {
    out.zero_points = Tensor(DType::kI8, {rows, groups});
    for (int64_t i = 0; i < rows * groups; ++i)
      out.zero_points.mutable_as<int8_t>()[i] = static_cast<int8_t>(scheme.bits == 8 ? i * 85 % 256 - 128 : i * 5 % 16);
  }
  if (scheme.reordered) {
    out.group_index = Tensor(DType::kI32, {cols});
    for (int64_t i = 0; i < cols; ++i) out.group_index.mutable_as<int32_t>()[i] = static_cast<int32_t>(i % groups);
  }
  return out;
}

void expect_equal(const QTensor& a, const QTensor& b) {
  EXPECT_EQ(a.codes.shape(), b.codes.shape());
  EXPECT_EQ(a.scales.shape(), b.scales.shape());
  EXPECT_EQ(a.zero_points.shape(), b.zero_points.shape());
  EXPECT_EQ(a.scheme, b.scheme);
  EXPECT_EQ(bytes_of(a.codes), bytes_of(b.codes));
  EXPECT_EQ(bytes_of(a.scales), bytes_of(b.scales));
  EXPECT_EQ(bytes_of(a.zero_points), bytes_of(b.zero_points));
  EXPECT_EQ(bytes_of(a.group_index), bytes_of(b.group_index));
}

TEST_F(CompressedTensors, AnyShapeSurvivesWritingAndReading) {
  for (const Layout& layout : layouts()) {
    std::map<std::string, QTensor> weights;
    SafetensorsWriter writer;
    for (const int64_t cols : {0, 1, 2, 3, 4, 5, 7, 8, 9, 32, 96, 384}) {
      if (layout.scheme.group_size != 0 && cols % layout.scheme.group_size != 0) continue;
      for (const int64_t rows : {1, 3, 8, 17}) {
        const std::string name = fmt::format("layer.{}.{}", rows, cols);
        const QTensor& weight = weights.emplace(name, sample(rows, cols, layout.scheme)).first->second;
        add(writer, encode_weight(name, weight, layout.format));
      }
    }
    const Checkpoint opened = checkpoint(writer);
    for (const auto& [name, weight] : weights) {
      const QTensor back = decode_weight(opened, name, layout.stored());
      SCOPED_TRACE(text_of(layout) + ", " + name);
      expect_equal(back, weight);
      EXPECT_EQ(back.codes.is_mapped(),
                layout.format == WeightFormat::kIntQuantized &&
                    (layout.scheme.bits == 8 || layout.scheme.mapping == CodeMapping::kSymmetric));
    }
  }
}

TEST_F(CompressedTensors, MinimaHaveNoPlaceThere) {
  QTensor weight = sample(3, 64, {.bits = 4, .group_size = 32, .mapping = CodeMapping::kMinimum});
  weight.minima = Tensor(DType::kF32, {3, 2});
  for (const WeightFormat format : kFormats) {
    EXPECT_THAT(message_of<FormatError>([&] { encode_weight("blocks.7.up", weight, format); }),
                testing::AllOf(HasSubstr("'blocks.7.up' is to have minima"), HasSubstr("symmetric=false")));
  }
}

TEST_F(CompressedTensors, AWeightMayBeEmpty) {
  for (const Layout& layout : layouts()) {
    const QTensor weight = sample(0, 64, layout.scheme);
    SafetensorsWriter writer;
    add(writer, encode_weight("a", weight, layout.format));
    expect_equal(decode_weight(checkpoint(writer), "a", layout.stored()), weight);
  }
}

TEST_F(CompressedTensors, StaticScalesComeBackAsTheyWereWritten) {
  constexpr ActivationMode kSymmetric = ActivationMode::kStaticPerTensor,
                           kZeroPoint = ActivationMode::kStaticPerTensorZeroPoint;
  SafetensorsWriter writer;
  add(writer, encode_activation_scale("a", {0.125f, 0}, kSymmetric));
  add(writer, encode_activation_scale("b", {3.5f, 0}, kZeroPoint));
  add(writer, encode_activation_scale("c", {0x1p-100f, 255}, kZeroPoint));
  EXPECT_TRUE(encode_activation_scale("d", {1, 0}, ActivationMode::kDynamicPerToken).empty());
  add(writer, encode_activation_scale("e", {0.5f, 15, 4}, kZeroPoint));
  const Checkpoint written = checkpoint(writer);
  EXPECT_EQ(written.bytes(), encoded_scale_bytes(kSymmetric) + 3 * encoded_scale_bytes(kZeroPoint));
  EXPECT_EQ(written.tensor("e.input_zero_point").as<int8_t>()[0], 7) << "of 4 bits, as the library has it";
  EXPECT_EQ(decode_activation_scale(written, "e", kZeroPoint, 4), (ActivationScale{0.5f, 15, 4}));
  EXPECT_THAT(message_of([&] { decode_activation_scale(written, "e", kZeroPoint, 3); }), HasSubstr("0 to 7"));
  EXPECT_EQ(decode_activation_scale(written, "a", kSymmetric), (ActivationScale{0.125f, 0}));
  EXPECT_EQ(decode_activation_scale(written, "b", kZeroPoint), (ActivationScale{3.5f, 0}));
  EXPECT_EQ(decode_activation_scale(written, "c", kZeroPoint), (ActivationScale{0x1p-100f, 255}));
  EXPECT_THAT(message_of([&] { decode_activation_scale(written, "b", kSymmetric); }), HasSubstr("is not zero"));
  EXPECT_THAT(message_of([&] { decode_activation_scale(written, "a", kZeroPoint); }), HasSubstr("a.input_zero_point"));
}

TEST_F(CompressedTensors, ScalesOfAttentionHaveTheLibrarysNames) {
  SafetensorsWriter writer;
  writer.add(encode_attention_scale("model.layers.0.self_attn.k", 0.125f));
  writer.add("a.k_scale", tensor_of<float>({1}, {0}));
  writer.add("b.k_scale", tensor_of<float>({2}, {1, 1}));
  const Checkpoint written = checkpoint(writer);
  EXPECT_EQ(written.describe("model.layers.0.self_attn.k_scale").shape, (Shape{1}));
  EXPECT_EQ(decode_attention_scale(written, "model.layers.0.self_attn.k"), 0.125f);
  EXPECT_THAT(message_of([&] { decode_attention_scale(written, "a.k"); }),
              HasSubstr("'a.k_scale': the activation scale"));
  EXPECT_THAT(message_of([&] { decode_attention_scale(written, "b.k"); }), HasSubstr("one number is needed, F32"));
  EXPECT_THAT(message_of([&] { decode_attention_scale(written, "c.k"); }), HasSubstr("c.k_scale"));
}

TEST_F(CompressedTensors, StaticScalesThatCannotBeAreRefused) {
  for (const float scale : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    SafetensorsWriter writer;
    writer.add("a.input_scale", tensor_of<float>({1}, {scale}));
    const Checkpoint written = checkpoint(writer);
    EXPECT_THAT(message_of([&] { decode_activation_scale(written, "a", ActivationMode::kStaticPerTensor); }),
                HasSubstr("'a.input_scale': the activation scale"));
  }
  SafetensorsWriter writer;
  writer.add("a.input_scale", tensor_of<float>({2}, {1, 1}));
  writer.add("b.input_scale", tensor_of<int8_t>({1}, {1}));
  const Checkpoint written = checkpoint(writer);
  for (const char* layer : {"a", "b"}) {
    EXPECT_THAT(message_of([&] { decode_activation_scale(written, layer, ActivationMode::kStaticPerTensor); }),
                HasSubstr("one number is needed, F32"));
  }
}

// The layers of golden/compressed_tensors by the name that their kind has there.
struct GoldenLayer {
  const char* name;
  Layout layout;
  int64_t rows, cols;
  ActivationMode activations;
};

const std::vector<GoldenLayer>& golden_layers() {
  constexpr WeightFormat kInt = WeightFormat::kIntQuantized, kPack = WeightFormat::kPackQuantized;
  constexpr ActivationMode kFloat = ActivationMode::kFloat, kDynamic = ActivationMode::kDynamicPerToken;
  static const std::vector<GoldenLayer> layers = {
      {"packed", {{.bits = 8}, kPack}, 5, 7, kFloat},
      {"plain", {{.bits = 8}, kInt}, 5, 7, kDynamic},
      {"w8_group", {{.bits = 8, .group_size = 32}, kPack}, 5, 96, kFloat},
      {"w4_channel", {{.bits = 4}, kPack}, 5, 13, kFloat},
      {"w4_group", {{.bits = 4, .group_size = 32}, kPack}, 5, 96, kFloat},
      {"w4_zero_point", {{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint}, kPack}, 11, 96, kFloat},
      {"w4_channel_zero_point", {{.bits = 4, .mapping = CodeMapping::kZeroPoint}, kPack}, 11, 13, kFloat},
      {"w4a8_group", {{.bits = 4, .group_size = 32}, kInt}, 5, 96, kDynamic},
      {"w4a8_zero_point", {{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint}, kInt}, 11, 96, kDynamic},
      {"w8_zero_point", {{.bits = 8, .group_size = 32, .mapping = CodeMapping::kZeroPoint}, kPack}, 11, 96, kFloat},
      {"w8a8_zero_point", {{.bits = 8, .mapping = CodeMapping::kZeroPoint}, kInt}, 11, 13, kDynamic},
  };
  return layers;
}

TEST_F(CompressedTensors, AFolderByThePythonLibraryIsRead) {
  const Checkpoint checkpoint = Checkpoint::open(golden("compressed_tensors"));
  for (const GoldenLayer& layer : golden_layers()) {
    SCOPED_TRACE(layer.name);
    const std::optional<StoredScheme> stored = checkpoint.quantization()->scheme_for(layer.name);
    ASSERT_TRUE(stored);
    EXPECT_EQ(stored->format, layer.layout.format);
    EXPECT_EQ(stored->scheme.activations, layer.activations);
    EXPECT_EQ(stored->scheme.weight, layer.layout.scheme);
    const QTensor weight = decode_weight(checkpoint, layer.name, *stored);
    const QTensor want = sample(layer.rows, layer.cols, layer.layout.scheme);
    EXPECT_EQ(bytes_of(weight.codes), bytes_of(want.codes));
    EXPECT_EQ(bytes_of(weight.zero_points), bytes_of(want.zero_points));
    ASSERT_EQ(weight.scales.shape(), want.scales.shape());
    for (int64_t i = 0; i < want.scales.shape().elements(); ++i) {
      const float scale = static_cast<float>(i + 1) / 10.0f;
      EXPECT_EQ(weight.scales.as<float>()[i], stored->format == WeightFormat::kPackQuantized
                                                  ? to_float(to_half(scale))
                                                  : to_float(to_bfloat16(scale)));
    }
  }
  EXPECT_EQ(checkpoint.quantization()->scheme_for("head"), std::nullopt);
}

TEST_F(CompressedTensors, OneScaleOfAllByThePythonLibraryIsRead) {
  const Checkpoint checkpoint = Checkpoint::open(golden("compressed_tensors"));
  for (const std::string name : {"one_scale_packed", "one_scale_plain"}) {
    const StoredScheme stored = *checkpoint.quantization()->scheme_for(name);
    EXPECT_TRUE(stored.one_scale);
    const QTensor weight = decode_weight(checkpoint, name, stored);
    EXPECT_EQ(weight.scales.shape(), (Shape{5, 1}));
    const Tensor ours = dequantize(weight), theirs = to_f32(checkpoint.tensor("expected." + name).view());
    const bool half = stored.format == WeightFormat::kPackQuantized;
    ASSERT_EQ(ours.shape(), theirs.shape());
    for (int64_t i = 0; i < ours.shape().elements(); ++i) {
      const float value = ours.as<float>()[i];
      ASSERT_EQ(half ? to_float(to_half(value)) : to_float(to_bfloat16(value)), theirs.as<float>()[i]) << name << i;
    }
  }
}

TEST_F(CompressedTensors, ThePythonLibraryDequantizesToTheSameValues) {
  const Checkpoint checkpoint = Checkpoint::open(golden("compressed_tensors"));
  for (const GoldenLayer& layer : golden_layers()) {
    // The library multiplies in the 16 bits of its scales: our value rounded to them is its value.
    const Tensor ours =
        dequantize(decode_weight(checkpoint, layer.name, *checkpoint.quantization()->scheme_for(layer.name)));
    const Tensor theirs = to_f32(checkpoint.tensor(std::string("expected.") + layer.name).view());
    const bool half = layer.layout.format == WeightFormat::kPackQuantized;
    ASSERT_EQ(ours.shape(), theirs.shape()) << layer.name;
    for (int64_t i = 0; i < ours.shape().elements(); ++i) {
      const float value = ours.as<float>()[i];
      ASSERT_EQ(half ? to_float(to_half(value)) : to_float(to_bfloat16(value)), theirs.as<float>()[i])
          << layer.name << ", value " << i;
    }
  }
}

TEST_F(CompressedTensors, CodesArePackedAsThePythonLibraryPacksThem) {
  const Checkpoint checkpoint = Checkpoint::open(golden("compressed_tensors"));
  for (const GoldenLayer& layer : golden_layers()) {
    const QTensor weight = sample(layer.rows, layer.cols, layer.layout.scheme);
    for (const TensorSource& source : encode_weight(layer.name, weight, layer.layout.format)) {
      const Tensor theirs = checkpoint.tensor(source.name), ours = source.make();
      EXPECT_EQ(ours.shape(), theirs.shape()) << source.name;
      if (source.name.ends_with(".weight_scale")) continue;  // theirs has 16 bits
      EXPECT_EQ(ours.dtype(), theirs.dtype()) << source.name;
      EXPECT_EQ(bytes_of(ours), bytes_of(theirs)) << source.name;
    }
  }
}

TEST_F(CompressedTensors, WhatIsAnnouncedIsWhatIsMade) {
  for (const Layout& layout : layouts()) {
    const QTensor weight = sample(3, 64, layout.scheme);
    int64_t bytes = 0;
    for (const TensorSource& source : encode_weight("a", weight, layout.format)) {
      const Tensor tensor = source.make();
      EXPECT_EQ(tensor.dtype(), source.dtype) << source.name;
      EXPECT_EQ(tensor.shape(), source.shape) << source.name;
      bytes += tensor.bytes();
    }
    EXPECT_EQ(encoded_bytes({3, 64}, layout.scheme, layout.format), bytes) << text_of(layout);
  }
}

TEST_F(CompressedTensors, AWeightCanBeMadeWhenItIsWritten) {
  for (const Layout& layout : layouts()) {
    const QTensor weight = sample(3, 64, layout.scheme);
    int made = 0;
    SafetensorsWriter writer;
    add(writer, encode_weight(
                    "a", {3, 64}, layout.scheme,
                    [&]() -> const QTensor& {
                      ++made;
                      return weight;
                    },
                    layout.format));
    EXPECT_EQ(made, 0);
    expect_equal(decode_weight(checkpoint(writer), "a", layout.stored()), weight);
  }
}

TEST_F(CompressedTensors, AWeightThatIsNotQuantizedIsRefusedForWriting) {
  QTensor weight = sample(3, 5);
  weight.scales.mutable_as<float>()[0] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(encode_weight("a", weight, WeightFormat::kIntQuantized), NumericError);
}

TEST_F(CompressedTensors, MissingTensorsAreNamed) {
  SafetensorsWriter writer;
  writer.add("a.weight", tensor_of<int8_t>({1, 1}, {1}));
  const Checkpoint opened = checkpoint(writer);
  EXPECT_THAT(message_of([&] { decode_weight(opened, "a", int8(WeightFormat::kIntQuantized)); }),
              HasSubstr("no tensor 'a.weight_scale'"));
  EXPECT_THAT(message_of([&] { decode_weight(opened, "a", int8(WeightFormat::kPackQuantized)); }),
              HasSubstr("no tensor 'a.weight_packed'"));
}

TEST_F(CompressedTensors, EachFaultOfAPlainWeightIsNamed) {
  struct Case {
    Tensor weight, scale;
    const char* said;
  };
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<Case> cases;
  cases.push_back({tensor_of<int8_t>({2}, {1, 2}), tensor_of<float>({2, 1}, {1, 1}), "'a.weight' is I8 [2]"});
  cases.push_back({tensor_of<uint8_t>({1, 2}, {1, 2}), tensor_of<float>({1, 1}, {1}), "'a.weight' is U8 [1, 2]"});
  cases.push_back(
      {tensor_of<int8_t>({1, 2}, {1, 2}), tensor_of<float>({2, 1}, {1, 1}), "'a.weight_scale' is F32 [2, 1]"});
  cases.push_back(
      {tensor_of<int8_t>({2, 1}, {1, 2}), tensor_of<float>({1, 2}, {1, 1}), "'a.weight_scale' is F32 [1, 2]"});
  cases.push_back({tensor_of<int8_t>({1, 2}, {1, 2}), tensor_of<double>({1, 1}, {1}), "'a.weight_scale' is F64"});
  cases.push_back({tensor_of<int8_t>({1, 2}, {1, 2}), tensor_of<float>({1, 1}, {infinity}), "a scale is inf"});
  cases.push_back({tensor_of<int8_t>({1, 2}, {1, 2}), tensor_of<float>({1, 1}, {NAN}), "a scale is nan"});
  for (Case& c : cases) {
    SafetensorsWriter writer;
    writer.add("a.weight", std::move(c.weight));
    writer.add("a.weight_scale", std::move(c.scale));
    const Checkpoint opened = checkpoint(writer);
    EXPECT_THAT(message_of([&] { decode_weight(opened, "a", int8(WeightFormat::kIntQuantized)); }),
                AllOf(HasSubstr(folder_.string()), HasSubstr(c.said)));
  }
}

TEST_F(CompressedTensors, APackedShapeIsNotTrusted) {
  const auto refusal = [&](Tensor packed, Tensor shape) {
    SafetensorsWriter writer;
    writer.add("a.weight_packed", std::move(packed));
    writer.add("a.weight_shape", std::move(shape));
    writer.add("a.weight_scale", tensor_of<float>({1, 1}, {1}));
    const Checkpoint opened = checkpoint(writer);
    return message_of([&] { decode_weight(opened, "a", int8(WeightFormat::kPackQuantized)); });
  };
  const auto packed = [] { return tensor_of<int32_t>({1, 2}, {0x01020304, 0x01020304}); };
  const int64_t huge = std::numeric_limits<int64_t>::max();
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{1, 4}, {1, 9}, {2, 8}, {1, -1}, {1, huge}, {-1, 8}, {huge, huge}}) {
    EXPECT_THAT(refusal(packed(), tensor_of<int64_t>({2}, shape)),
                HasSubstr("does not fit packed 8-bit codes of shape [1, 2]"));
  }
  EXPECT_THAT(refusal(packed(), tensor_of<int64_t>({1}, {8})), HasSubstr("two integers are needed"));
  EXPECT_THAT(refusal(packed(), tensor_of<float>({2}, {1, 8})), HasSubstr("two integers are needed"));
  EXPECT_THAT(refusal(packed(), tensor_of<int32_t>({2}, {1, 4})), HasSubstr("does not fit"));
  EXPECT_THAT(refusal(tensor_of<int64_t>({1, 1}, {0}), tensor_of<int64_t>({2}, {1, 8})),
              HasSubstr("is I64 [1, 1]; I32"));
}

// Octet makes none, but libraries that divide by absmax / 127.5 do, in about every second row.
TEST_F(CompressedTensors, TheCodeMinus128IsRead) {
  SafetensorsWriter writer;
  writer.add("a.weight", tensor_of<int8_t>({1, 4}, {-127, 0, -128, 127}));
  writer.add("a.weight_packed", tensor_of<int32_t>({1, 1}, {static_cast<int32_t>(0xff008001)}));
  writer.add("a.weight_shape", tensor_of<int64_t>({2}, {1, 4}));
  writer.add("a.weight_scale", tensor_of<float>({1, 1}, {0.5f}));
  const Checkpoint opened = checkpoint(writer);
  for (const WeightFormat format : {WeightFormat::kIntQuantized, WeightFormat::kPackQuantized}) {
    const QTensor weight = decode_weight(opened, "a", int8(format));
    EXPECT_THAT(weight.codes.as<int8_t>(), testing::ElementsAre(-127, 0, -128, 127));
    EXPECT_EQ(dequantize(weight).as<float>()[2], -64.0f);
  }
}

TEST_F(CompressedTensors, EachFaultOfAFourBitWeightIsNamed) {
  struct Case {
    Layout layout;
    const char* part;  // that is replaced, or added
    Tensor tensor;
    const char* said;
  };
  constexpr WeightFormat kInt = WeightFormat::kIntQuantized, kPack = WeightFormat::kPackQuantized;
  const WeightScheme symmetric{.bits = 4, .group_size = 32},
      asymmetric{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint};
  std::vector<Case> cases;
  const auto filled = [](DType dtype, Shape shape, int8_t byte) {
    Tensor tensor(dtype, shape);
    std::memset(tensor.mutable_view().data, byte, static_cast<size_t>(tensor.bytes()));
    return tensor;
  };
  for (const int8_t code : {-128, -9, 8, 127}) {
    cases.push_back({{symmetric, kInt}, ".weight", filled(DType::kI8, {3, 64}, code), "'a.weight': the 4-bit code"});
    cases.push_back({{asymmetric, kInt}, ".weight", filled(DType::kI8, {3, 64}, code), "'a.weight': the 4-bit code"});
    cases.push_back({{asymmetric, kInt}, ".weight_zero_point", filled(DType::kI8, {3, 2}, code), "the zero point"});
  }
  cases.push_back(
      {{asymmetric, kInt}, ".weight_zero_point", filled(DType::kI8, {2, 3}, 0), "has the shape [2, 3]; [3, 2]"});
  cases.push_back({{asymmetric, kInt}, ".weight_zero_point", filled(DType::kI8, {6}, 0), "is I8 [6]; I8 of two"});
  cases.push_back(
      {{asymmetric, kInt}, ".weight_zero_point", filled(DType::kI32, {1, 2}, 0), "is I32 [1, 2]; I8 of two"});
  cases.push_back(
      {{asymmetric, kPack}, ".weight_zero_point", filled(DType::kI8, {3, 2}, 0), "is I8 [3, 2]; I32 of two"});
  cases.push_back(
      {{asymmetric, kPack}, ".weight_zero_point", filled(DType::kI32, {3, 1}, 0), "has the shape [3, 1]; [1, 2]"});
  cases.push_back({{symmetric, kPack},
                   ".weight_zero_point",
                   filled(DType::kI32, {1, 2}, 1),
                   "is not zero; the scheme is symmetric"});
  cases.push_back(
      {{symmetric, kPack}, ".weight_scale", filled(DType::kF32, {3, 1}, 0), "F32 [3, 1]; F32, F16 or BF16 [3, 2]"});
  cases.push_back({{symmetric, kPack}, ".weight_scale", filled(DType::kF32, {6}, 0), "F32 [6]"});
  cases.push_back({{symmetric, kPack},
                   ".weight_packed",
                   filled(DType::kI32, {3, 16}, 0),
                   "does not fit packed 4-bit codes of shape [3, 16]"});
  cases.push_back({{symmetric, kPack}, ".weight_shape", tensor_of<int64_t>({2}, {3, 65}), "says [3, 65]"});
  cases.push_back({{symmetric, kPack},
                   ".weight_shape",
                   tensor_of<int64_t>({2}, {3, 63}),
                   "its 63 inputs are not a multiple of the group size 32"});
  const WeightScheme reordered{.bits = 4, .group_size = 32, .reordered = true};
  cases.push_back({{symmetric, kPack},
                   ".weight_g_idx",
                   filled(DType::kI32, {64}, 0),
                   "column 32 is of group 0; reordered columns need \"actorder\": \"group\""});
  cases.push_back({{reordered, kPack}, ".weight_g_idx", filled(DType::kI32, {64}, 0), "64 columns are of group 0; 32"});
  cases.push_back({{reordered, kPack}, ".weight_g_idx", filled(DType::kI32, {64}, -1), "a column of group -1, of 2"});
  cases.push_back(
      {{reordered, kPack}, ".weight_g_idx", filled(DType::kI64, {64}, 1), "'a.weight_g_idx': the group 72"});
  cases.push_back(
      {{reordered, kInt}, ".weight_g_idx", filled(DType::kI32, {63}, 0), "is I32 [63]; I32 [64] is needed"});
  cases.push_back(
      {{reordered, kInt}, ".weight_g_idx", filled(DType::kF32, {64}, 0), "is F32 [64]; I32 [64] is needed"});
  for (Case& c : cases) {
    const QTensor weight = sample(3, 64, c.layout.scheme);
    SafetensorsWriter writer;
    for (TensorSource& source : encode_weight("a", weight, c.layout.format)) {
      if (source.name != std::string("a") + c.part) writer.add(std::move(source));
    }
    writer.add(std::string("a") + c.part, std::move(c.tensor));
    const Checkpoint opened = checkpoint(writer);
    EXPECT_THAT(message_of([&] { decode_weight(opened, "a", c.layout.stored()); }),
                AllOf(HasSubstr(folder_.string()), HasSubstr(c.said)))
        << text_of(c.layout) << ", a" << c.part;
  }
  SafetensorsWriter writer;
  const QTensor weight = sample(3, 64, symmetric);
  add(writer, encode_weight("a", weight, kPack));
  const Checkpoint opened = checkpoint(writer);
  EXPECT_THAT(message_of([&] {
                decode_weight(opened, "a", Layout{asymmetric, kPack}.stored());
              }),
              HasSubstr("no tensor 'a.weight_zero_point'"));
}

TEST_F(CompressedTensors, AGroupIndexOfNeighboursChangesNothing) {
  const WeightScheme plain{.bits = 4, .group_size = 32};
  for (const bool filled : {false, true}) {
    const QTensor weight = sample(3, 64, plain);
    SafetensorsWriter writer;
    add(writer, encode_weight("a", weight, WeightFormat::kPackQuantized));
    std::vector<int32_t> groups(64, -1);
    for (int32_t i = 0; filled && i < 64; ++i) groups[i] = i / 32;
    writer.add("a.weight_g_idx", tensor_of<int32_t>({64}, groups));
    expect_equal(decode_weight(checkpoint(writer), "a", Layout{plain, WeightFormat::kPackQuantized}.stored()), weight);
  }
}

TEST_F(CompressedTensors, ShapesWithoutElementsTakeNoTime) {
  const WeightScheme asymmetric{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint};
  const int64_t huge = int64_t{1} << 40;
  SafetensorsWriter writer;
  writer.add("a.weight_packed", Tensor(DType::kI32, {0, huge / 8}));
  writer.add("a.weight_shape", tensor_of<int64_t>({2}, {0, huge}));
  writer.add("a.weight_scale", Tensor(DType::kF32, {0, huge / 32}));
  writer.add("a.weight_zero_point", Tensor(DType::kI32, {0, huge / 32}));
  const QTensor weight =
      decode_weight(checkpoint(writer), "a", Layout{asymmetric, WeightFormat::kPackQuantized}.stored());
  EXPECT_EQ(weight.codes.shape(), (Shape{0, huge}));
}

TEST_F(CompressedTensors, OneScaleOfAllIsWidenedToOneARow) {
  for (const Layout& layout : layouts()) {
    if (layout.scheme.group_size != 0) continue;
    for (const Shape& shape : {Shape{}, Shape{1}}) {
      QTensor weight = sample(3, 8, layout.scheme);
      SafetensorsWriter writer;
      for (TensorSource& source : encode_weight("a", weight, layout.format)) {
        if (!source.name.ends_with("_scale") && !source.name.ends_with("_point")) writer.add(std::move(source));
      }
      writer.add("a.weight_scale", tensor_of<float>(shape, {0.25f}));
      std::ranges::fill(weight.scales.mutable_as<float>(), 0.25f);
      if (layout.scheme.mapping == CodeMapping::kZeroPoint) {
        writer.add("a.weight_zero_point", tensor_of<int8_t>(shape, {-5}));
        std::ranges::fill(weight.zero_points.mutable_as<int8_t>(),
                          static_cast<int8_t>(layout.scheme.bits == 8 ? -5 : 3));
      }
      StoredScheme stored = layout.stored();
      const Checkpoint opened = checkpoint(writer);
      EXPECT_THAT(message_of([&] { decode_weight(opened, "a", stored); }), HasSubstr("'a.weight_scale' is F32"));
      stored.one_scale = true;
      SCOPED_TRACE(text_of(layout));
      expect_equal(decode_weight(opened, "a", stored), weight);
    }
  }
}

TEST_F(CompressedTensors, OnlyAZeroPointOfZeroIsRead) {
  for (const int8_t zero_point : {0, 3}) {
    const QTensor weight = sample(2, 4);
    SafetensorsWriter writer;
    add(writer, encode_weight("a", weight, WeightFormat::kIntQuantized));
    writer.add("a.weight_zero_point", tensor_of<int8_t>({2, 1}, {0, zero_point}));
    const Checkpoint opened = checkpoint(writer);
    if (zero_point == 0) {
      expect_equal(decode_weight(opened, "a", int8(WeightFormat::kIntQuantized)), weight);
    } else {
      EXPECT_THAT(message_of([&] { decode_weight(opened, "a", int8(WeightFormat::kIntQuantized)); }),
                  HasSubstr("'a.weight_zero_point' is not zero"));
    }
  }
}

TEST_F(CompressedTensors, ARealModelSurvivesWritingAndReading) {
  const char* shared = std::getenv("OCTET_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set: the folder of real models is not there";
  const Checkpoint model = Checkpoint::open(std::filesystem::path(shared) / "models" / "minilm-l6");
  const std::string layer = "encoder.layer.3.output.dense";
  for (const Layout& layout : layouts()) {
    if (layout.scheme.reordered) continue;  // an order comes from data
    const QTensor weight = quantize_weight(model.tensor(layer + ".weight").view(), layout.scheme, layer);
    SafetensorsWriter writer;
    add(writer, encode_weight(layer, weight, layout.format));
    expect_equal(decode_weight(checkpoint(writer), layer, layout.stored()), weight);
  }
}

// With n of the columns taken out of a sample, spread over its width.
QTensor with_outliers(QTensor weight, int64_t n, DType dtype) {
  std::vector<int32_t> columns;
  for (int64_t i = 0; i < n; ++i) columns.push_back(static_cast<int32_t>(i * weight.cols() / n));
  set_outliers(weight, columns, to_f32(Tensor(dtype, {weight.rows(), weight.cols()}).view()).view(), "w");
  const std::span<Half> values = n == 0 ? std::span<Half>() : weight.outliers.mutable_as<Half>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = to_half(0.3f * static_cast<float>(i) - 7);
  return weight;
}

TEST_F(CompressedTensors, OutliersComeBackAsTheyWereWritten) {
  for (const Layout& layout : layouts()) {
    for (const int64_t count : {0, 1, 5, 64}) {
      const QTensor weight = with_outliers(sample(3, 64, layout.scheme), count, DType::kF16);
      StoredScheme stored = layout.stored();
      stored.scheme.weight.outliers = true;
      SafetensorsWriter writer;
      add(writer, encode_weight("a", weight, layout.format));
      const Checkpoint opened = checkpoint(writer);
      SCOPED_TRACE(text_of(layout));
      const QTensor back = decode_weight(opened, "a", stored);
      expect_equal(back, weight);
      EXPECT_TRUE(std::ranges::equal(back.outlier_indices(), weight.outlier_indices()));
      EXPECT_EQ(bytes_of(back.outliers), bytes_of(weight.outliers));
      EXPECT_EQ(opened.bytes(), encoded_bytes({3, 64}, layout.scheme, layout.format) + encoded_outlier_bytes(3, count));
      EXPECT_EQ(decode_outlier_columns(opened, "a", 64).size(), static_cast<size_t>(count));
      // Whoever is not told of them must not take them for zeros.
      EXPECT_THAT(message_of([&] { decode_weight(opened, "a", layout.stored()); }),
                  HasSubstr("says nothing of outlier columns"));
    }
  }
}

TEST_F(CompressedTensors, EachFaultOfOutliersIsNamed) {
  struct Case {
    Tensor columns, values;
    const char* said;
  };
  const auto halves = [](const Shape& shape, float value) {
    Tensor tensor(DType::kF16, shape);
    std::ranges::fill(tensor.mutable_as<Half>(), to_half(value));
    return tensor;
  };
  std::vector<Case> cases;
  cases.push_back({tensor_of<int64_t>({1}, {2}), halves({2, 1}, 1), "'a.outlier_columns' is I64 [1]"});
  cases.push_back({tensor_of<int32_t>({1, 1}, {2}), halves({2, 1}, 1), "'a.outlier_columns' is I32 [1, 1]"});
  cases.push_back({tensor_of<int32_t>({5}, {0, 1, 2, 3, 4}), halves({2, 5}, 1), "at most the 4 inputs"});
  cases.push_back({tensor_of<int32_t>({1}, {4}), halves({2, 1}, 1), "the outlier column 4 of 4 columns"});
  cases.push_back({tensor_of<int32_t>({1}, {-1}), halves({2, 1}, 1), "the outlier column -1"});
  cases.push_back({tensor_of<int32_t>({2}, {2, 2}), halves({2, 2}, 1), "the outlier column 2 follows 2"});
  cases.push_back({tensor_of<int32_t>({1}, {2}), halves({1, 2}, 1), "outliers are F16 [1, 2]"});
  cases.push_back({tensor_of<int32_t>({1}, {2}), tensor_of<float>({2, 1}, {1, 1}), "outliers are F32 [2, 1]"});
  cases.push_back({tensor_of<int32_t>({1}, {2}), halves({2, 1}, 1e9f), "an outlier column holds inf"});
  cases.push_back({tensor_of<int32_t>({1}, {3}), halves({2, 1}, 1), "the code 7 in outlier column 3"});
  StoredScheme stored = int8(WeightFormat::kIntQuantized);
  stored.scheme.weight.outliers = true;
  for (Case& one : cases) {
    SafetensorsWriter writer;
    writer.add("a.weight", tensor_of<int8_t>({2, 4}, {0, 0, 0, 0, 0, 0, 0, 7}));
    writer.add("a.weight_scale", tensor_of<float>({2, 1}, {1, 1}));
    writer.add("a.outlier_columns", std::move(one.columns));
    writer.add("a.outliers", std::move(one.values));
    const Checkpoint opened = checkpoint(writer);
    EXPECT_THAT(message_of([&] { decode_weight(opened, "a", stored); }), HasSubstr(one.said));
  }
  SafetensorsWriter writer;
  writer.add("a.weight", tensor_of<int8_t>({1, 1}, {1}));
  writer.add("a.weight_scale", tensor_of<float>({1, 1}, {1}));
  const Checkpoint opened = checkpoint(writer);
  EXPECT_THAT(message_of([&] { decode_weight(opened, "a", stored); }), HasSubstr("no tensor 'a.outlier_columns'"));
}

}  // namespace
}  // namespace octet

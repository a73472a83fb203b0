// SPDX-License-Identifier: Apache-2.0
#include "octet/io/compressed_tensors.h"

#include <nlohmann/json.hpp>

#include "octet/quant/quantize.h"
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

QTensor sample(int64_t rows, int64_t cols) {
  QTensor out{{}, Tensor(DType::kI8, {rows, cols}), Tensor(DType::kF32, {rows})};
  for (int64_t i = 0; i < rows * cols; ++i) out.codes.mutable_as<int8_t>()[i] = i * 37 % 255 - 127;
  // Scales that neither 16-bit type can hold, of both signs.
  for (int64_t r = 0; r < rows; ++r) out.scales.mutable_as<float>()[r] = (r % 2 == 0 ? 1.0f : -1.0f) / (r + 3.0f);
  return out;
}

void expect_equal(const QTensor& a, const QTensor& b) {
  EXPECT_EQ(a.codes.shape(), b.codes.shape());
  EXPECT_EQ(a.scales.shape(), b.scales.shape());
  EXPECT_EQ(bytes_of(a.codes), bytes_of(b.codes));
  EXPECT_EQ(bytes_of(a.scales), bytes_of(b.scales));
}

TEST_F(CompressedTensors, AnyShapeSurvivesWritingAndReading) {
  for (const WeightFormat format : kFormats) {
    for (const int64_t cols : {0, 1, 2, 3, 4, 5, 7, 8, 384}) {
      const QTensor weight = sample(3, cols);
      SafetensorsWriter writer;
      add(writer, encode_weight("a.b", weight, format));
      const QTensor back = decode_weight(checkpoint(writer), "a.b", format);
      expect_equal(back, weight);
      EXPECT_EQ(back.codes.is_mapped(), format == WeightFormat::kIntQuantized);
    }
  }
}

TEST_F(CompressedTensors, AFolderByThePythonLibraryIsRead) {
  const Checkpoint checkpoint = Checkpoint::open(golden("compressed_tensors"));
  for (const char* layer : {"packed", "plain"}) {
    const std::optional<StoredScheme> stored = checkpoint.quantization()->scheme_for(layer);
    ASSERT_TRUE(stored) << layer;
    EXPECT_EQ(stored->scheme.activations == ActivationMode::kFloat, layer == std::string("packed"));
    const QTensor weight = decode_weight(checkpoint, layer, stored->format);
    EXPECT_EQ(bytes_of(weight.codes), bytes_of(sample(5, 7).codes)) << layer;
    for (int r = 0; r < 5; ++r) {
      const float scale = (r + 1) / 10.0f;
      EXPECT_EQ(weight.scales.as<float>()[r], stored->format == WeightFormat::kPackQuantized
                                                  ? to_float(to_half(scale))
                                                  : to_float(to_bfloat16(scale)));
    }
  }
  EXPECT_EQ(checkpoint.quantization()->scheme_for("head"), std::nullopt);
}

TEST_F(CompressedTensors, CodesArePackedAsThePythonLibraryPacksThem) {
  const Checkpoint checkpoint = Checkpoint::open(golden("compressed_tensors"));
  const QTensor weight = sample(5, 7);
  const std::vector<TensorSource> sources = encode_weight("packed", weight, WeightFormat::kPackQuantized);
  for (const TensorSource& source : sources) {
    const Tensor theirs = checkpoint.tensor(source.name), ours = source.make();
    EXPECT_EQ(ours.shape(), theirs.shape()) << source.name;
    if (source.name == "packed.weight_scale") continue;  // theirs has 16 bits
    EXPECT_EQ(ours.dtype(), theirs.dtype()) << source.name;
    EXPECT_EQ(bytes_of(ours), bytes_of(theirs)) << source.name;
  }
}

TEST_F(CompressedTensors, WhatIsAnnouncedIsWhatIsMade) {
  const QTensor weight = sample(3, 5);
  for (const WeightFormat format : kFormats) {
    for (const TensorSource& source : encode_weight("a", weight, format)) {
      const Tensor tensor = source.make();
      EXPECT_EQ(tensor.dtype(), source.dtype) << source.name;
      EXPECT_EQ(tensor.shape(), source.shape) << source.name;
    }
  }
}

TEST_F(CompressedTensors, AWeightThatIsNotQuantizedIsRefusedForWriting) {
  QTensor weight = sample(3, 5);
  weight.codes.mutable_as<int8_t>()[0] = -128;
  EXPECT_THROW(encode_weight("a", weight, WeightFormat::kIntQuantized), NumericError);
}

TEST_F(CompressedTensors, MissingTensorsAreNamed) {
  SafetensorsWriter writer;
  writer.add("a.weight", tensor_of<int8_t>({1, 1}, {1}));
  const Checkpoint opened = checkpoint(writer);
  EXPECT_THAT(message_of([&] { decode_weight(opened, "a", WeightFormat::kIntQuantized); }),
              HasSubstr("no tensor 'a.weight_scale'"));
  EXPECT_THAT(message_of([&] { decode_weight(opened, "a", WeightFormat::kPackQuantized); }),
              HasSubstr("no tensor 'a.weight_packed'"));
}

TEST_F(CompressedTensors, EachFaultOfAPlainWeightIsNamed) {
  struct Case {
    Tensor weight, scale;
    const char* said;
  };
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<Case> cases;
  cases.push_back({tensor_of<int8_t>({1, 2}, {1, -128}), tensor_of<float>({1, 1}, {1}), "the code -128"});
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
    EXPECT_THAT(message_of([&] { decode_weight(opened, "a", WeightFormat::kIntQuantized); }),
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
    return message_of([&] { decode_weight(opened, "a", WeightFormat::kPackQuantized); });
  };
  const auto packed = [] { return tensor_of<int32_t>({1, 2}, {0x01020304, 0x01020304}); };
  const int64_t huge = std::numeric_limits<int64_t>::max();
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{1, 4}, {1, 9}, {2, 8}, {1, -1}, {1, huge}, {-1, 8}, {huge, huge}}) {
    EXPECT_THAT(refusal(packed(), tensor_of<int64_t>({2}, shape)),
                HasSubstr("does not fit packed codes of shape [1, 2]"));
  }
  EXPECT_THAT(refusal(packed(), tensor_of<int64_t>({1}, {8})), HasSubstr("two integers are needed"));
  EXPECT_THAT(refusal(packed(), tensor_of<float>({2}, {1, 8})), HasSubstr("two integers are needed"));
  EXPECT_THAT(refusal(packed(), tensor_of<int32_t>({2}, {1, 4})), HasSubstr("does not fit"));
  EXPECT_THAT(refusal(tensor_of<int64_t>({1, 1}, {0}), tensor_of<int64_t>({2}, {1, 8})),
              HasSubstr("is I64 [1, 1]; I32"));
  // A byte of 0 is the code -128.
  EXPECT_THAT(refusal(tensor_of<int32_t>({1, 1}, {0x01010001}), tensor_of<int64_t>({2}, {1, 4})),
              HasSubstr("the code -128"));
}

TEST_F(CompressedTensors, OnlyAZeroPointOfZeroIsRead) {
  for (const int8_t zero_point : {0, 3}) {
    const QTensor weight = sample(2, 4);
    SafetensorsWriter writer;
    add(writer, encode_weight("a", weight, WeightFormat::kIntQuantized));
    writer.add("a.weight_zero_point", tensor_of<int8_t>({2, 1}, {0, zero_point}));
    const Checkpoint opened = checkpoint(writer);
    if (zero_point == 0) {
      expect_equal(decode_weight(opened, "a", WeightFormat::kIntQuantized), weight);
    } else {
      EXPECT_THAT(message_of([&] { decode_weight(opened, "a", WeightFormat::kIntQuantized); }),
                  HasSubstr("'a.weight_zero_point' is not zero"));
    }
  }
}

TEST_F(CompressedTensors, ARealModelSurvivesWritingAndReading) {
  const char* shared = std::getenv("OCTET_SHARED_DATA");
  if (shared == nullptr) GTEST_SKIP() << "OCTET_SHARED_DATA is not set: the folder of real models is not there";
  const Checkpoint model = Checkpoint::open(std::filesystem::path(shared) / "models" / "minilm-l6");
  const std::string layer = "encoder.layer.3.output.dense";
  const QTensor weight = quantize_weight(model.tensor(layer + ".weight").view(), {}, layer);
  for (const WeightFormat format : kFormats) {
    SafetensorsWriter writer;
    add(writer, encode_weight(layer, weight, format));
    expect_equal(decode_weight(checkpoint(writer), layer, format), weight);
  }
}

}  // namespace
}  // namespace octet

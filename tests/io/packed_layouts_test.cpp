// SPDX-License-Identifier: Apache-2.0
// Layers in the layouts of GPTQ's and AWQ's tools, one by one. tests/golden/make_quantized.py makes whole models of
// them.
#include <map>

#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/io/awq_layout.h"
#include "octet/io/checkpoint.h"
#include "octet/io/gptq_layout.h"
#include "octet/io/safetensors.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using nlohmann::json;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

const json kGptq = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}, {"sym", false}, {"desc_act", false}};
const json kAwq = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}, {"zero_point", true}, {"version", "gemm"}};

Tensor filled(DType dtype, const Shape& shape, int value) {
  Tensor out(dtype, shape);
  if (dtype == DType::kI32) {
    std::ranges::fill(out.mutable_as<int32_t>(), value);
  } else if (dtype == DType::kF16) {
    std::ranges::fill(out.mutable_as<Half>(), to_half(static_cast<float>(value)));
  }
  return out;
}

class PackedLayouts : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    take_gptq();
  }

  // A layer 'a' of 8 outputs and 64 inputs in two groups: codes 0, zero points 1 + 7 = 8, scales 2.
  void take_gptq() {
    config_ = kGptq;
    tensors_.clear();
    tensors_["a.qweight"] = filled(DType::kI32, {8, 8}, 0);
    tensors_["a.qzeros"] = filled(DType::kI32, {2, 1}, 0x77777777);
    tensors_["a.scales"] = filled(DType::kF16, {2, 8}, 2);
  }
  // The same with zero points of 1.
  void take_awq() {
    config_ = kAwq;
    tensors_.clear();
    tensors_["a.qweight"] = filled(DType::kI32, {64, 1}, 0);
    tensors_["a.qzeros"] = filled(DType::kI32, {2, 1}, 0x11111111);
    tensors_["a.scales"] = filled(DType::kF16, {2, 8}, 2);
  }

  Checkpoint open() {
    write("config.json", json_text(json{{"quantization_config", config_}}));
    SafetensorsWriter writer;
    for (const auto& [name, tensor] : tensors_) writer.add(name, Tensor::copy_of(tensor.view()));
    writer.write(folder_ / "model.safetensors");
    return Checkpoint::open(folder_);
  }
  QTensor layer() { return open().stored_weight("a"); }
  std::string refusal() {
    return message_of([this] { layer(); });
  }
  std::string refusal(const json& changes) {
    const json before = config_;
    config_.update(changes);
    const std::string message = refusal();
    config_ = before;
    return message;
  }
  int32_t& word(const std::string& name, size_t at) { return tensors_.at(name).mutable_as<int32_t>()[at]; }

  json config_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(PackedLayouts, GptqWordsHoldNeighbouringInputsAndZeroPointsOfNeighbouringOutputs) {
  word("a.qweight", 8 + 3) = 0x76543210;  // inputs 8 to 15 of output 3
  word("a.qzeros", 1) = 0x65432101;       // of group 1
  tensors_["a.scales"].mutable_as<Half>()[8 + 2] = to_half(-0.25f);
  const QTensor got = layer();
  EXPECT_EQ(got.scheme, (WeightScheme{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint}));
  ASSERT_EQ(got.codes.shape(), (Shape{8, 64}));
  EXPECT_THAT(got.codes.as<int8_t>().subspan(3 * 64 + 8, 8), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(got.codes.as<int8_t>().first(3 * 64 + 8), Each(0));
  EXPECT_THAT(got.codes.as<int8_t>().subspan(3 * 64 + 16), Each(0));
  EXPECT_THAT(got.zero_points.as<int8_t>(), ElementsAre(8, 2, 8, 1, 8, 2, 8, 3, 8, 4, 8, 5, 8, 6, 8, 7));
  EXPECT_THAT(got.scales.as<float>(), ElementsAre(2, 2, 2, 2, 2, -0.25f, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2));
}

TEST_F(PackedLayouts, AGptqZeroPointOfZeroBorrowsFromItsNeighbour) {
  // 0x87654300 less 0x11111111.
  word("a.qzeros", 0) = 0x765431ef;
  EXPECT_THAT(layer().zero_points.as<int8_t>(), ElementsAre(0, 8, 0, 8, 3, 8, 4, 8, 5, 8, 6, 8, 7, 8, 8, 8));
}

TEST_F(PackedLayouts, GptqV2StoresZeroPointsAsTheyAre) {
  word("a.qzeros", 0) = 0x76543210;
  for (const char* key : {"checkpoint_format", "format"}) {
    config_ = kGptq;
    config_[key] = "gptq_v2";
    EXPECT_THAT(layer().zero_points.as<int8_t>(), ElementsAre(0, 7, 1, 7, 2, 7, 3, 7, 4, 7, 5, 7, 6, 7, 7, 7)) << key;
  }
}

TEST_F(PackedLayouts, SymmetricGptqCodesAreCodesAroundTheMiddle) {
  config_["sym"] = true;
  word("a.qweight", 0) = static_cast<int32_t>(0xf8070000);
  const QTensor four = layer();
  EXPECT_EQ(four.scheme, (WeightScheme{.bits = 4, .group_size = 32}));
  EXPECT_EQ(four.zero_points.shape().elements(), 0);
  EXPECT_THAT(four.codes.as<int8_t>().first(8), ElementsAre(-8, -8, -8, -8, -1, -8, 0, 7));

  config_["bits"] = 8;
  config_["group_size"] = -1;
  tensors_["a.qweight"] = filled(DType::kI32, {16, 8}, static_cast<int32_t>(0x80808080));
  word("a.qweight", 0) = static_cast<int32_t>(0xff807f01);
  tensors_["a.qzeros"] = filled(DType::kI32, {1, 2}, 0x7f7f7f7f);
  tensors_["a.scales"] = filled(DType::kF16, {1, 8}, 2);
  const QTensor eight = layer();
  EXPECT_EQ(eight.scheme, WeightScheme{});
  EXPECT_THAT(eight.codes.as<int8_t>().first(5), ElementsAre(-127, -1, 0, 127, 0));

  // Zero points of 8 bits are as much less as the codes are.
  config_["sym"] = false;
  tensors_["a.qzeros"].mutable_as<int32_t>()[0] = static_cast<int32_t>(0xfe7f007e);
  const QTensor shifted = layer();
  EXPECT_EQ(shifted.scheme, WeightScheme{.mapping = CodeMapping::kZeroPoint});
  EXPECT_THAT(shifted.codes.as<int8_t>().first(5), ElementsAre(-127, -1, 0, 127, 0));
  EXPECT_THAT(shifted.zero_points.as<int8_t>(), ElementsAre(-1, -127, 0, 127, 0, 0, 0, 0));
}

TEST_F(PackedLayouts, AGroupIndexInOrderIsNone) {
  tensors_["a.g_idx"] = filled(DType::kI32, {64}, 0);
  for (size_t i = 32; i < 64; ++i) word("a.g_idx", i) = 1;
  config_["desc_act"] = true;
  const QTensor got = layer();
  EXPECT_FALSE(got.scheme.reordered);
  EXPECT_EQ(got.group_index.shape().elements(), 0);
}

TEST_F(PackedLayouts, AGroupIndexOutOfOrderIsKept) {
  tensors_["a.g_idx"] = filled(DType::kI32, {64}, 0);
  for (size_t i = 1; i < 64; i += 2) word("a.g_idx", i) = 1;
  const QTensor got = layer();
  EXPECT_TRUE(got.scheme.reordered);
  EXPECT_TRUE(open().stored_scheme("a")->weight.reordered);
  EXPECT_EQ(bytes_of(got.group_index), bytes_of(tensors_["a.g_idx"]));
}

TEST_F(PackedLayouts, AGroupIndexThatCannotBeIsNamed) {
  tensors_["a.g_idx"] = filled(DType::kI32, {64}, 0);
  EXPECT_THAT(refusal(), HasSubstr("64 columns are of group 0; 32 are needed"));
  word("a.g_idx", 5) = 2;
  EXPECT_THAT(refusal(), HasSubstr("tensor 'a.g_idx': input 5 is of group 2, of 2"));
  word("a.g_idx", 5) = -1;
  EXPECT_THAT(refusal(), HasSubstr("input 5 is of group -1"));
  tensors_["a.g_idx"] = filled(DType::kI32, {63}, 0);
  EXPECT_THAT(refusal(), HasSubstr("'a.g_idx' has the shape [63]; [64] is needed"));
  tensors_["a.g_idx"] = filled(DType::kF16, {64}, 0);
  EXPECT_THAT(refusal(), HasSubstr("'a.g_idx' is F16 [64]; I32 of one dimension is needed"));
  tensors_["a.g_idx"] = filled(DType::kI32, {64}, 0);
  tensors_["a.qzeros"] = filled(DType::kI32, {1, 1}, 0);
  tensors_["a.scales"] = filled(DType::kF16, {1, 8}, 2);
  config_["group_size"] = -1;
  EXPECT_EQ(layer().groups(), 1);
  word("a.g_idx", 7) = 1;
  EXPECT_THAT(refusal(), HasSubstr("input 7 is of group 1, of 1"));
}

TEST_F(PackedLayouts, DynamicGivesLayersBitsAndGroupsOfTheirOwn) {
  config_.update({{"bits", 8}, {"sym", true}, {"group_size", -1}});
  config_["dynamic"] = {{"-:b", json::object()}, {"+:.*a$", {{"bits", 4}, {"group_size", 32}, {"mse", 0.1}}}};
  EXPECT_EQ(layer().scheme, (WeightScheme{.bits = 4, .group_size = 32}));
  config_["dynamic"]["a"] = {{"bits", 4}, {"group_size", 32}};  // says the same
  EXPECT_EQ(layer().scheme.group_size, 32);
  config_["dynamic"]["a"]["group_size"] = 64;
  EXPECT_THAT(refusal(), HasSubstr("the patterns '+:.*a$' and 'a' of 'dynamic' both match the layer 'a'"));
  config_["dynamic"] = {{"a{2}", json::object()}};
  EXPECT_THAT(refusal(), HasSubstr("a{2}"));
  config_["dynamic"] = {{"a", {{"bits", 3}}}};
  EXPECT_THAT(refusal(), HasSubstr("'bits' is 3"));
  config_["dynamic"] = {{"a", {{"format", "gptq_v2"}}}};
  EXPECT_THAT(refusal(), HasSubstr("'a' of 'dynamic' has a 'format' of its own"));
}

TEST_F(PackedLayouts, AwqGemmWordsHoldOutputsInItsOrder) {
  take_awq();
  word("a.qweight", 40) = 0x75316420;  // the outputs' numbers, as they lie
  word("a.qzeros", 1) = static_cast<int32_t>(0xfdb9eca8);
  const QTensor got = layer();
  EXPECT_EQ(got.scheme, (WeightScheme{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint}));
  for (int output = 0; output < 8; ++output) {
    for (int input = 0; input < 64; ++input)
      EXPECT_EQ(got.codes.as<int8_t>()[output * 64 + input], input == 40 ? output : 0);
    EXPECT_THAT(got.zero_points.as<int8_t>().subspan(2 * output, 2), ElementsAre(1, 8 + output));
  }
}

TEST_F(PackedLayouts, AwqGemvWordsHoldNeighbouringInputs) {
  take_awq();
  config_["version"] = "GEMV";
  tensors_["a.qweight"] = filled(DType::kI32, {3, 8}, 0);
  word("a.qweight", 8 + 2) = 0x76543210;  // inputs 16 to 23 of output 1
  tensors_["a.qzeros"] = filled(DType::kI32, {3, 4}, 0);
  word("a.qzeros", 4) = 0x5a;
  tensors_["a.scales"] = filled(DType::kF16, {3, 32}, 3);
  tensors_["a.scales"].mutable_as<Half>()[33] = to_half(0.5f);
  const QTensor got = layer();
  ASSERT_EQ(got.codes.shape(), (Shape{3, 64}));
  EXPECT_THAT(got.codes.as<int8_t>().subspan(64 + 16, 8), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(got.zero_points.as<int8_t>(), ElementsAre(0, 0, 10, 5, 0, 0));
  EXPECT_THAT(got.scales.as<float>(), ElementsAre(3, 3, 3, 0.5f, 3, 3));
  tensors_["a.qzeros"] = filled(DType::kI32, {3, 1}, 0);
  EXPECT_THAT(refusal(), HasSubstr("'a.qzeros' has the shape [3, 1]; [3, 4] is needed"));
}

TEST_F(PackedLayouts, ALayerWithoutCodesIsFloat) {
  tensors_["b.weight"] = Tensor(DType::kF16, {2, 2});
  const Checkpoint checkpoint = open();
  EXPECT_TRUE(checkpoint.is_quantized());
  EXPECT_TRUE(checkpoint.stored_scheme("a"));
  EXPECT_FALSE(checkpoint.stored_scheme("b"));
  EXPECT_FALSE(checkpoint.stored_scheme("c"));
}

TEST_F(PackedLayouts, MissingAndMisshapenTensorsAreNamed) {
  const auto refused = [this](const std::string& name, std::optional<Tensor> instead) {
    auto at = tensors_.extract(name);
    if (instead) tensors_[name] = std::move(*instead);
    const std::string message = refusal();
    tensors_.erase(name);
    tensors_.insert(std::move(at));
    return message;
  };
  for (const bool awq : {false, true}) {
    SCOPED_TRACE(awq ? "awq" : "gptq");
    awq ? take_awq() : take_gptq();
    for (const char* part : {"a.qweight", "a.qzeros", "a.scales"})
      EXPECT_THAT(refused(part, {}), HasSubstr(fmt::format("holds no tensor '{}'", part)));
    EXPECT_THAT(refused("a.qweight", Tensor(DType::kF16, {8, 8})), HasSubstr("F16 [8, 8]; I32 of two dimensions"));
    EXPECT_THAT(refused("a.qweight", Tensor(DType::kI32, {64})), HasSubstr("I32 [64]; I32 of two dimensions"));
    EXPECT_THAT(refused("a.qzeros", Tensor(DType::kI32, {2, 2})), HasSubstr("[2, 2]; [2, 1] is needed beside 'a.qwei"));
    EXPECT_THAT(refused("a.qzeros", Tensor(DType::kI32, {1, 1})), HasSubstr("[1, 1]; [2, 1] is needed"));
    EXPECT_THAT(refused("a.scales", Tensor(DType::kF16, {8, 2})), HasSubstr("[8, 2]; [2, 8] is needed"));
    EXPECT_THAT(refused("a.scales", Tensor(DType::kI32, {2, 8})), HasSubstr("is I32; F16, BF16 or F32 is needed"));
    Tensor scales(DType::kF16, {2, 8});
    scales.mutable_as<Half>()[3] = Half{0x7c00};
    EXPECT_THAT(refused("a.scales", std::move(scales)), HasSubstr("a scale is inf"));
  }
  EXPECT_THAT(refused("a.qweight", Tensor(DType::kI32, {48, 1})), HasSubstr("48 inputs are not a multiple of the gro"));
  take_gptq();
  EXPECT_THAT(refused("a.qweight", Tensor(DType::kI32, {5, 8})), HasSubstr("40 inputs are not a multiple of the gro"));
  // Nothing is as large as an empty tensor says.
  EXPECT_THAT(refused("a.qweight", Tensor(DType::kI32, {int64_t{1} << 50, 0})), HasSubstr("is needed beside"));
  EXPECT_THAT(refused("a.qweight", Tensor(DType::kI32, {0, int64_t{1} << 50})), HasSubstr("is needed beside"));
}

TEST_F(PackedLayouts, SymmetricCodesWithOtherZeroPointsAreRefused) {
  config_["sym"] = true;
  word("a.qzeros", 1) = 0x77777677;
  EXPECT_THAT(refusal(), testing::AllOf(HasSubstr("'a.qzeros'"), HasSubstr("not every zero point is 8"),
                                        HasSubstr("'sym' must be false")));
}

TEST_F(PackedLayouts, WhatOctetHasNotIsRefusedWithFileAndKey) {
  const std::vector<std::pair<json, const char*>> gptq = {
      {{{"bits", 3}}, "'bits' is 3; 4 and 8 are supported"},
      {{{"bits", 2}}, "'bits' is 2"},
      {{{"bits", nullptr}}, "'quantization_config.bits' is missing"},
      {{{"bits", "4"}}, "'quantization_config.bits' must be a whole number"},
      {{{"group_size", 16}}, "groups of 16; 32, 64, 128, 256 or a whole row"},
      {{{"group_size", 0}}, "'group_size' is 0"},
      {{{"group_size", -2}}, "'group_size' is -2"},
      {{{"group_size", nullptr}}, "group_size' is missing"},
      {{{"checkpoint_format", "marlin"}}, "'checkpoint_format' is 'marlin'; gptq and gptq_v2 can be read"},
      {{{"checkpoint_format", "gptq"}, {"format", "gptq_v2"}}, "'format' is 'gptq_v2', but another key says 'gptq'"},
      {{{"pack_dtype", "int16"}}, "'pack_dtype' is 'int16'; int32 can be read"},
      {{{"method", "qqq"}}, "'method' is 'qqq'"},
      {{{"is_marlin_format", true}}, "'is_marlin_format' is true"},
      {{{"rotation", "hadamard"}}, "'rotation' is \"hadamard\""},
      {{{"adapter", {{"rank", 8}}}}, "'adapter' is"},
      {{{"dynamic", {{"a", 4}}}}, "must be"},
  };
  for (const auto& [changes, said] : gptq) EXPECT_THAT(refusal(changes), HasSubstr(said)) << changes;
  EXPECT_THAT(refusal({{"bits", 3}}), HasSubstr("config.json"));
  take_awq();
  const std::vector<std::pair<json, const char*>> awq = {
      {{{"bits", 8}}, "'bits' is 8; 4 is supported"},
      {{{"zero_point", false}}, "'zero_point' is false"},
      {{{"version", "gemv_fast"}}, "'version' is 'gemv_fast'; gemm and gemv can be read"},
      {{{"version", "marlin"}}, "'version' is 'marlin'"},
      {{{"backend", "llm-awq"}}, "'backend' is 'llm-awq'"},
      {{{"group_size", 48}}, "groups of 48"},
  };
  for (const auto& [changes, said] : awq) EXPECT_THAT(refusal(changes), HasSubstr(said)) << changes;
  tensors_["transformer.h.0.mlp.act.scales"] = filled(DType::kF16, {4}, 1);
  EXPECT_THAT(refusal(), HasSubstr("'transformer.h.0.mlp.act.scales' scales what an activation function gives"));
}

TEST_F(PackedLayouts, AutoGptqsOwnFileCountsWhereTheConfigSaysNothing) {
  open();
  write("config.json", "{}");
  EXPECT_FALSE(Checkpoint::open(folder_).is_quantized());
  json own = kGptq;
  own.erase("quant_method");
  write("quantize_config.json", json_text(own));
  EXPECT_EQ(Checkpoint::open(folder_).stored_scheme("a")->weight.group_size, 32);
  own["bits"] = 3;
  write("quantize_config.json", json_text(own));
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("quantize_config.json"));
  write("config.json", json_text(json{{"quantization_config", config_}}));
  EXPECT_TRUE(Checkpoint::open(folder_).is_quantized());
}

}  // namespace
}  // namespace octet

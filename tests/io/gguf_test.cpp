// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/io/checkpoint.h"
#include "octet/io/gguf_model.h"
#include "octet/io/safetensors.h"
#include "octet/quant/quantize.h"
#include "tests/io/gguf_bytes.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Type = GgufValueType;

// --- blocks ---

TEST(GgufBlocks, EveryTypeGivesTheValuesOfTheReference) {
  const GgufFile file = GgufFile::open(golden("gguf") / "types.gguf");
  const SafetensorsFile values = SafetensorsFile::open(golden("gguf") / "types.safetensors");
  EXPECT_EQ(file.tensors().size(), values.names().size());
  for (const auto& [name, entry] : file.tensors()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(find_block(entry.type)->name, name);
    Tensor decoded(DType::kF32, entry.shape);
    decode_values(entry.type, file.blocks(entry), decoded.mutable_as<float>());
    EXPECT_EQ(bytes_of(decoded), bytes_of(values.tensor(name)));
  }
}

TEST(GgufBlocks, CodesAndScalesStandForTheSameValues) {
  const GgufFile file = GgufFile::open(golden("gguf") / "types.gguf");
  const SafetensorsFile values = SafetensorsFile::open(golden("gguf") / "types.safetensors");
  for (const std::string name : {"Q8_0", "Q4_0", "Q4_1"}) {
    SCOPED_TRACE(name);
    const GgufFile::TensorEntry& entry = file.tensors().find(name)->second;
    QTensor codes{.scheme = *code_scheme(entry.type),
                  .codes = Tensor(DType::kI8, entry.shape),
                  .scales = Tensor(DType::kF32, {2, 8})};
    if (codes.scheme.mapping == CodeMapping::kMinimum) codes.minima = Tensor(DType::kF32, {2, 8});
    decode_codes(entry.type, file.blocks(entry), codes.codes.mutable_as<int8_t>(), codes.scales.mutable_as<float>(),
                 codes.minima.mutable_as<float>());
    check(codes, name);
    EXPECT_EQ(bytes_of(dequantize(codes)), bytes_of(values.tensor(name)));
    std::vector<std::byte> again(static_cast<size_t>(entry.bytes));
    EXPECT_TRUE(
        encode_codes(entry.type, codes.codes.as<int8_t>(), codes.scales.as<float>(), codes.minima.as<float>(), again));
    EXPECT_TRUE(std::ranges::equal(again, file.blocks(entry)));
  }
}

TEST(GgufBlocks, ScalesThatAreNoHalvesCannotBeStored) {
  const std::vector<int8_t> codes(32, 1);
  std::vector<std::byte> block(34);
  const std::array<float, 1> half = {0.1f};
  EXPECT_FALSE(encode_codes(GgufType::kQ8_0, codes, half, {}, block));
}

TEST(GgufBlocks, ValuesThatNoHalfReachesAreRefused) {
  std::vector<std::byte> block(64);
  std::vector<float> values(32, 0.0f);
  const auto fits = [&](GgufType type) {
    return encode_values(type, values, std::span(block).first(static_cast<size_t>(gguf_bytes(type, 32))));
  };
  for (const GgufType type : {GgufType::kF16, GgufType::kQ8_0, GgufType::kQ4_0}) {
    for (const float value : {0.0f, 1e-44f, -65504.0f}) {
      values[3] = value;
      EXPECT_TRUE(fits(type)) << value;
    }
    for (const float value : {1e10f, -std::numeric_limits<float>::infinity(), NAN}) {
      values[3] = value;
      EXPECT_FALSE(fits(type)) << value;
    }
  }
}

// --- the file ---

class GgufReader : public ScratchFolder {
 protected:
  std::string refusal(const std::string& bytes) {
    const auto path = write("m.gguf", bytes);
    return message_of([&] { GgufFile::open(path); });
  }
  GgufFile open(const GgufBytes& bytes, uint32_t version = 3) {
    return GgufFile::open(write("m.gguf", bytes.bytes(version)));
  }
};

TEST_F(GgufReader, AllKindsOfMetadataAreRead) {
  GgufBytes bytes;
  bytes.add("u8", Type::kU8, uint8_t{255}).add("i8", Type::kI8, int8_t{-128}).add("u16", Type::kU16, uint16_t{65535});
  bytes.add("i16", Type::kI16, int16_t{-5}).add("u32", Type::kU32, ~uint32_t{0}).add("i32", Type::kI32, int32_t{-7});
  bytes.add("u64", Type::kU64, uint64_t{1} << 40).add("i64", Type::kI64, int64_t{-1} << 40).add("text", "añb");
  bytes.add("f32", Type::kF32, 0.5f).add("f64", Type::kF64, -0.25).add("yes", Type::kBool, uint8_t{1});
  bytes.add("big", Type::kU64, ~uint64_t{0}).add("nan", Type::kF32, NAN);
  bytes.add_texts("texts", {"a", "", "bc"}).add_numbers<int32_t>("ints", Type::kI32, {1, -2});
  bytes.add_numbers<float>("floats", Type::kF32, {1.5f}).add_numbers<uint8_t>("none", Type::kU8, {});
  // [[1], []]
  using B = GgufBytes;
  bytes.add_raw("nested", B::type(Type::kArray) + B::type(Type::kArray) + B::number<uint64_t>(2) + B::type(Type::kU8) +
                              B::number<uint64_t>(1) + "\1" + B::type(Type::kU8) + B::number<uint64_t>(0));
  for (const uint32_t version : {2u, 3u}) {
    const GgufFile file = open(bytes, version);
    EXPECT_EQ(file.integer("u8"), 255);
    EXPECT_EQ(file.integer("i8"), -128);
    EXPECT_EQ(file.integer("u16"), 65535);
    EXPECT_EQ(file.integer("i16"), -5);
    EXPECT_EQ(file.integer("u32"), 4294967295);
    EXPECT_EQ(file.integer("i32"), -7);
    EXPECT_EQ(file.integer("u64"), int64_t{1} << 40);
    EXPECT_EQ(file.integer("i64"), -(int64_t{1} << 40));
    EXPECT_EQ(file.number("f32"), 0.5);
    EXPECT_EQ(file.number("f64"), -0.25);
    EXPECT_EQ(file.number("i32"), -7);
    EXPECT_TRUE(file.flag("yes", false));
    EXPECT_EQ(file.text("text"), "añb");
    EXPECT_THAT(file.texts("texts"), ElementsAre("a", "", "bc"));
    EXPECT_THAT(file.integers("ints"), ElementsAre(1, -2));
    EXPECT_THAT(file.numbers("floats"), ElementsAre(1.5f));
    EXPECT_TRUE(file.integers("none").empty());
    EXPECT_TRUE(file.is_array("nested"));
    EXPECT_EQ(file.integer("absent", 3), 3);
    EXPECT_EQ(file.text("absent", "x"), "x");
    EXPECT_THAT(message_of([&] { file.integer("big"); }), HasSubstr("'big' is 18446744073709551615"));
    EXPECT_THAT(message_of([&] { file.number("nan"); }), HasSubstr("'nan' is nan"));
    EXPECT_THAT(message_of([&] { file.integer("absent"); }), HasSubstr("'absent' is missing"));
    EXPECT_THAT(message_of([&] { file.integer("text"); }), HasSubstr("'text' has a value of another type"));
    EXPECT_THAT(message_of([&] { file.texts("ints"); }), HasSubstr("an array of texts is needed"));
    EXPECT_THAT(message_of([&] { file.integers("nested"); }), HasSubstr("an array of whole numbers"));
    EXPECT_THAT(message_of([&] { file.integer("u8", {0, 9}); }), HasSubstr("'u8' is 255; it must lie in [0, 9]"));
  }
}

TEST_F(GgufReader, TensorsLieWhereTheAlignmentPutsThem) {
  GgufBytes bytes;
  bytes.add_tensor("a", {3, 2}, GgufType::kF32, std::string(24, 'a'));
  bytes.add_tensor("b", {32}, GgufType::kQ8_0, std::string(34, 'b'));
  const GgufFile file = open(bytes);
  const GgufFile::TensorEntry &a = file.tensors().at("a"), &b = file.tensors().at("b");
  EXPECT_EQ(a.shape, (Shape{2, 3}));
  EXPECT_EQ(static_cast<char>(file.blocks(a).front()), 'a');
  EXPECT_EQ(b.bytes, 34);
  EXPECT_EQ(static_cast<char>(file.blocks(b).front()), 'b');
  EXPECT_EQ(b.offset % 32, 0);
}

TEST_F(GgufReader, EveryCutIsRefused) {
  GgufBytes bytes;
  bytes.add("k", "v").add_texts("texts", {"a", "b"}).add_numbers<float>("n", Type::kF32, {1, 2});
  bytes.add_tensor("a", {8}, GgufType::kF32, std::string(32, 'a'));
  const std::string whole = bytes.bytes();
  open(bytes);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(refusal(whole.substr(0, size)), HasSubstr("m.gguf")) << size;
  }
}

TEST_F(GgufReader, DamagedHeadersAreNamed) {
  using B = GgufBytes;
  const auto array = [](uint32_t element, uint64_t count) {
    return B::type(Type::kArray) + B::number(element) + B::number(count);
  };
  const std::string four_bytes(32, 'x');
  const auto tensor = [&](const std::vector<uint64_t>& extents, uint32_t type, uint64_t offset) {
    return B().add_tensor("t", extents, type, offset, four_bytes).bytes();
  };
  std::string deep = B::type(Type::kArray);
  for (int i = 0; i < 6; ++i) deep += B::type(Type::kArray) + B::number<uint64_t>(1);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"GGML" + B().bytes().substr(4), "does not begin with \"GGUF\""},
      {B().bytes(1), "GGUF version 1; 2 and 3 can be read"},
      {B().bytes(0x03000000), "is big-endian"},
      {B().add("k", "v").add("k", "w").bytes(), "metadata key 'k' is there twice"},
      {B().add_raw("k", B::number(uint32_t{13})).bytes(), "metadata key 'k': a value of type 13"},
      {B().add_raw("k", B::type(Type::kText) + B::number(~uint64_t{0})).bytes(), "'k': 18446744073709551615 bytes"},
      {B().add_raw("k", array(8, uint64_t{1} << 60)).bytes(), "'k': an array of 1152921504606846976 elements"},
      {B().add_raw("k", array(10, uint64_t{1} << 61)).bytes(), "'k': an array of"},
      {B().add_raw("k", array(99, 1)).bytes(), "a value of type 99"},
      {B().add_raw("k", deep).bytes(), "nests more than 4 levels"},
      {B().add(std::string(70'000, 'k'), "v").bytes(), "a key of 70000 bytes"},
      {B().add("general.alignment", Type::kU32, uint32_t{24}).bytes(), "a power of two is needed"},
      {B().add("general.alignment", Type::kU32, uint32_t{0}).bytes(), "'general.alignment' is 0"},
      {B().add("split.count", Type::kU16, uint16_t{3}).bytes(), "one of 3 parts"},
      {tensor({1, 1, 1, 1, 1}, 0, 0), "tensor 't': 5 extents"},
      {tensor({~uint64_t{0}}, 0, 0), "an extent of 18446744073709551615"},
      {tensor({uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0), "tensor 't': F32"},
      {tensor({uint64_t{1} << 62}, 0, 0), "tensor 't': F32"},
      {tensor({33}, 8, 0), "rows of 33 elements do not fill blocks of 32"},
      {tensor({}, 8, 0), "one element does not fill a block"},
      {tensor({8}, 10, 0), "tensor 't': is stored as Q2_K; F32, F16"},
      {tensor({8}, 1000, 0), "is stored as type 1000"},
      {tensor({8}, 0, 3), "its offset 3 is not a multiple of the alignment 32"},
      {tensor({8}, 0, 64), "its 32 bytes begin at byte"},
      {tensor({9}, 0, 0), "its 36 bytes begin at byte"},
      {tensor({8}, 0, ~uint64_t{0} - 31), "begins at byte 18446744073709551584 of the data"},
      {B().add_tensor("a", {8}, 0, 0, four_bytes).add_tensor("a", {8}, 0, 32, four_bytes).bytes(),
       "'a' is there twice"},
      {B().add_tensor("a", {16}, 0, 0, four_bytes).add_tensor("b", {8}, 0, 32, four_bytes).bytes(),
       "the tensors 'a' and 'b' overlap"},
      {B().add_tensor(std::string(2000, 'n'), {8}, 0, 0, four_bytes).bytes(), "a name of 2000 bytes"},
  };
  for (const auto& [bytes, said] : cases) EXPECT_THAT(refusal(bytes), HasSubstr(said));
}

// --- the model ---

// A llama of one block; a test may take from it and add to it.
GgufBytes small_llama() {
  GgufBytes bytes;
  bytes.add("general.architecture", "llama").add("llama.block_count", Type::kU32, uint32_t{0});
  bytes.add("llama.context_length", Type::kU32, uint32_t{16}).add("llama.embedding_length", Type::kU32, uint32_t{4});
  bytes.add("llama.feed_forward_length", Type::kU32, uint32_t{8});
  bytes.add("llama.attention.head_count", Type::kU32, uint32_t{2});
  bytes.add("llama.attention.layer_norm_rms_epsilon", Type::kF32, 1e-5f);
  bytes.add_tensor("token_embd.weight", {4, 3}, GgufType::kF32, std::string(48, '\0'));
  bytes.add_tensor("output_norm.weight", {4}, GgufType::kF32, std::string(16, '\0'));
  return bytes;
}

class GgufModels : public ScratchFolder {
 protected:
  GgufModel open(const GgufBytes& bytes) { return GgufModel::open(write("m.gguf", bytes.bytes())); }
  std::string refusal(const GgufBytes& bytes) {
    return message_of([&] { open(bytes); });
  }
};

TEST_F(GgufModels, MetadataBecomeAConfig) {
  GgufBytes bytes = small_llama();
  bytes.add("llama.rope.freq_base", Type::kF32, 5e5f).add("llama.rope.scaling.type", "yarn");
  bytes.add("llama.rope.scaling.factor", Type::kF32, 4.0f);
  bytes.add("llama.rope.scaling.original_context_length", Type::kU32, uint32_t{8});
  bytes.add("tokenizer.ggml.bos_token_id", Type::kU32, uint32_t{1}).add("tokenizer.chat_template", "{{ x }}");
  bytes.add("tokenizer.ggml.eos_token_id", Type::kU32, uint32_t{2});
  const GgufModel model = open(bytes);
  const Config& config = model.config();
  EXPECT_THAT(config.texts("architectures"), ElementsAre("LlamaForCausalLM"));
  EXPECT_EQ(config.integer("num_hidden_layers"), 0);
  EXPECT_EQ(config.integer("hidden_size"), 4);
  EXPECT_EQ(config.integer("intermediate_size"), 8);
  EXPECT_EQ(config.integer("vocab_size"), 3);
  EXPECT_EQ(config.number("rms_norm_eps"), double{1e-5f});
  EXPECT_EQ(config.number("rope_theta"), 5e5);
  EXPECT_EQ(config.object("rope_scaling").text("rope_type"), "yarn");
  EXPECT_EQ(config.object("rope_scaling").number("factor"), 4);
  EXPECT_EQ(config.object("rope_scaling").integer("original_max_position_embeddings"), 8);
  EXPECT_TRUE(config.flag("tie_word_embeddings"));
  EXPECT_EQ(config.integer("bos_token_id"), 1);
  EXPECT_EQ(config.integer("eos_token_id"), 2);
  EXPECT_EQ(config.text("chat_template"), "{{ x }}");
  EXPECT_THAT(model.names(), ElementsAre("model.embed_tokens.weight", "model.norm.weight"));
}

TEST_F(GgufModels, ATensorOfDivisorsBecomesARotaryScaling) {
  const float divisors[2] = {1, 8};
  GgufBytes bytes = small_llama();
  bytes.add_tensor("rope_freqs.weight", {2}, GgufType::kF32,
                   {reinterpret_cast<const char*>(divisors), sizeof divisors});
  EXPECT_THAT(open(bytes).config().object("rope_scaling").numbers("frequency_divisors"), ElementsAre(1, 8));
  bytes.add("llama.rope.scaling.type", "linear").add("llama.rope.scaling.factor", Type::kF32, 2.0f);
  EXPECT_THAT(refusal(bytes), HasSubstr("in one file are not supported"));
  GgufBytes zero = small_llama();
  zero.add_tensor("rope_freqs.weight", {2}, GgufType::kF32, std::string(8, '\0'));
  EXPECT_THAT(refusal(zero), HasSubstr("must hold positive finite numbers"));
}

TEST_F(GgufModels, TokensThatEndATurnEndATextToo) {
  GgufBytes bytes = small_llama();
  bytes.add("tokenizer.ggml.eos_token_id", Type::kU32, uint32_t{0});
  bytes.add_texts("tokenizer.ggml.tokens", {"a", "<|eot_id|>", "<|im_end|>"});
  bytes.add_numbers<int32_t>("tokenizer.ggml.token_type", Type::kI32, {1, 3, 1});  // the last is text
  EXPECT_EQ(json_text(open(bytes).config().json().at("eos_token_id")), "[0,1]");
}

TEST_F(GgufModels, WhatOctetCannotHonourIsRefused) {
  const auto with = [](std::string_view key, auto type, auto value) {
    GgufBytes bytes = small_llama();
    bytes.add(key, type, value);
    return bytes;
  };
  EXPECT_THAT(refusal(with("llama.expert_count", Type::kU32, uint32_t{8})), HasSubstr("mixtures of experts"));
  EXPECT_THAT(refusal(with("llama.logit_scale", Type::kF32, 2.0f)), HasSubstr("'llama.logit_scale'"));
  EXPECT_THAT(refusal(with("llama.rope.dimension_count", Type::kU32, uint32_t{1})), HasSubstr("dimension_count"));
  EXPECT_THAT(refusal(with("llama.attention.value_length", Type::kU32, uint32_t{3})), HasSubstr("another width"));
  EXPECT_THAT(refusal(with("llama.attention.key_length", Type::kU32, uint32_t{3})), HasSubstr("cannot be rotary"));
  GgufBytes scaling = small_llama();
  scaling.add("llama.rope.scaling.type", "longrope");
  EXPECT_THAT(refusal(scaling), HasSubstr("'longrope' is not supported"));
  GgufBytes tensor = small_llama();
  tensor.add_tensor("blk.0.attn_q_norm.weight", {4}, GgufType::kF32, std::string(16, '\0'));
  EXPECT_THAT(refusal(tensor), HasSubstr("tensor 'blk.0.attn_q_norm.weight' is none that Octet's"));
  GgufBytes heads = small_llama();
  heads.add_tensor("blk.0.attn_q.weight", {4, 3}, GgufType::kF32, std::string(48, '\0'));
  EXPECT_THAT(refusal(heads), HasSubstr("its rows are to be heads of 2"));
  GgufBytes other;
  other.add("general.architecture", "lama");
  EXPECT_THAT(refusal(other), HasSubstr("Did you mean 'llama'?"));
  GgufBytes none;
  none.add("general.architecture", "llama");
  EXPECT_THAT(refusal(none), HasSubstr("'llama.block_count' is missing"));
}

TEST_F(GgufModels, WeightsAreThoseOfTheHuggingFaceDirectory) {
  for (const std::string name : {"llama_tied", "llama_bias", "qwen2", "gpt2"}) {
    SCOPED_TRACE(name);
    const std::filesystem::path models = std::filesystem::path(OCTET_TEST_FILES).parent_path() / "golden";
    const Checkpoint want = Checkpoint::open(models / name), got = Checkpoint::open(models / "gguf" / (name + ".gguf"));
    ASSERT_EQ(got.names(), want.names());
    for (const std::string& tensor : want.names()) {
      SCOPED_TRACE(tensor);
      const Tensor expected = to_f32(want.tensor(tensor).view()), read = to_f32(got.tensor(tensor).view());
      EXPECT_EQ(got.describe(tensor).shape, got.tensor(tensor).shape());
      EXPECT_EQ(got.describe(tensor).dtype, got.tensor(tensor).dtype());
      if (expected.shape() == read.shape() && name != "gpt2") {
        EXPECT_EQ(bytes_of(read), bytes_of(expected));
        continue;
      }
      // GPT-2's directory has [in, out].
      const bool turned = name == "gpt2" && tensor.find(".h.") != tensor.npos && expected.shape().rank() == 2;
      const int64_t rows = read.shape()[0], cols = turned ? read.shape()[1] : read.shape().elements() / rows;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          ASSERT_EQ(read.as<float>()[r * cols + c], expected.as<float>()[turned ? c * rows + r : r * cols + c]);
        }
      }
    }
  }
}

TEST_F(GgufModels, CodesAreTheDecodedValuesInTheSameOrder) {
  const GgufModel model =
      GgufModel::open(std::filesystem::path(OCTET_TEST_FILES).parent_path() / "golden/gguf/llama_base_codes.gguf");
  int coded = 0;
  for (const std::string& name : model.names()) {
    if (!model.scheme_of(name)) continue;
    ++coded;
    EXPECT_EQ(bytes_of(dequantize(model.codes(name))), bytes_of(model.tensor(name))) << name;
  }
  EXPECT_EQ(coded, 1 + 2 * 5);
}

TEST_F(GgufModels, DamagedCodesAreNamed) {
  std::string infinite(34, '\0');
  infinite[1] = '\x7c';
  GgufBytes bytes;
  bytes.add("general.architecture", "llama").add("llama.block_count", Type::kU32, uint32_t{0});
  bytes.add("llama.context_length", Type::kU32, uint32_t{16}).add("llama.embedding_length", Type::kU32, uint32_t{32});
  bytes.add("llama.feed_forward_length", Type::kU32, uint32_t{8});
  bytes.add("llama.attention.head_count", Type::kU32, uint32_t{2});
  bytes.add("llama.attention.layer_norm_rms_epsilon", Type::kF32, 1e-5f);
  bytes.add_tensor("token_embd.weight", {32, 1}, GgufType::kQ8_0, std::string(34, '\0'));
  bytes.add_tensor("output.weight", {32, 1}, GgufType::kQ8_0, infinite);
  const GgufModel model = open(bytes);
  EXPECT_THAT(message_of([&] { model.codes("lm_head.weight"); }), HasSubstr("a scale is inf"));
}

TEST_F(GgufModels, AFolderWithOneGgufFileIsThatFile) {
  write("m.gguf", small_llama().bytes());
  const Checkpoint checkpoint = Checkpoint::open(folder_);
  EXPECT_TRUE(checkpoint.is_gguf());
  EXPECT_EQ(checkpoint.folder(), folder_ / "m.gguf");
  write("n.gguf", small_llama().bytes());
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("holds several models: m.gguf, n.gguf"));
  write("config.json", "{}");
  EXPECT_THAT(message_of([&] { Checkpoint::open(folder_); }), HasSubstr("or the name of a GGUF file"));
}

TEST(GgufNames, AreTheSameThereAndBack) {
  for (const GgufArchitecture& architecture : gguf_architectures()) {
    for (const GgufLayerName& layer : architecture.layers) {
      const std::string name = std::string(layer.gguf) + ".weight";
      EXPECT_EQ(gguf_name(architecture, hugging_face_name(architecture, name)->name)->name, name);
    }
    for (const GgufLayerName& layer : architecture.block_layers) {
      const std::string name = "blk.17." + std::string(layer.gguf) + ".bias";
      EXPECT_EQ(gguf_name(architecture, hugging_face_name(architecture, name)->name)->name, name);
    }
    for (const char* wrong :
         {"", "blk", "blk.1", "blk..attn_q.weight", "blk.1.attn_q", "blk.1.attn_q.scale", "x.weight"})
      EXPECT_EQ(hugging_face_name(architecture, wrong), std::nullopt) << wrong;
  }
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
// GGUF files as models: tests/io/make_gguf_golden.py makes them of the checkpoints in tests/golden.
#include <cmath>
#include <fstream>
#include <span>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/safetensors.h"
#include "octet/ptq/quantize_model.h"
#include "octet/quant/quantize.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

fs::path gguf(const std::string& name) { return golden("gguf") / (name + ".gguf"); }

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto bytes = [](const Tensor& t) { return std::span(t.view().data, static_cast<size_t>(t.bytes())); };
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::ranges::equal(bytes(a), bytes(b));
}

class GgufModelTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directory(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string refusal(const fs::path& model, const std::string& recipe) {
    try {
      Session session(model, {.recipe = Recipe::parse(recipe, "mine")});
    } catch (const UsageError& error) {
      return error.what();
    }
    ADD_FAILURE() << "no UsageError";
    return "";
  }

  // The values that a GGUF file stands for, as a Hugging Face directory of floats.
  fs::path as_floats(const fs::path& file) {
    const Checkpoint checkpoint = Checkpoint::open(file);
    SafetensorsWriter writer;
    for (const std::string& name : checkpoint.names()) writer.add(name, checkpoint.tensor(name));
    writer.write(folder_ / "model.safetensors");
    std::ofstream(folder_ / "config.json") << json_text(checkpoint.config().json());
    return folder_;
  }

  fs::path folder_;
};

TEST_F(GgufModelTest, FloatWeightsGiveTheBitsOfTheHuggingFaceDirectory) {
  for (const std::string name : {"llama_tied", "llama_bias", "qwen2", "gpt2"}) {
    SCOPED_TRACE(name);
    const TokenBatch batch = golden_batch(golden(name), "right");
    Session directory(golden(name)), file(gguf(name));
    EXPECT_TRUE(same_bits(file.run(batch), directory.run(batch)));
    for (const std::string recipe : {"w8a8_dynamic", "w4a16_g32"}) {
      Session quantized_directory(golden(name), {.recipe = Recipe::load(recipe, {})}),
          quantized_file(gguf(name), {.recipe = Recipe::load(recipe, {})});
      EXPECT_TRUE(same_bits(quantized_file.run(batch), quantized_directory.run(batch))) << recipe;
    }
  }
}

TEST_F(GgufModelTest, CodesStayAsTheyAreThroughPacking) {
  const Checkpoint checkpoint = Checkpoint::open(gguf("llama_base_codes"));
  Session session(gguf("llama_base_codes"));
  int coded = 0;
  for (const std::string& name : checkpoint.names()) {
    const std::string layer = name.substr(0, name.rfind('.'));
    if (!checkpoint.stored_scheme(layer)) continue;
    const QTensor stored = checkpoint.stored_weight(layer);
    const std::vector<const QTensor*> parts = {&stored};
    for (const ActivationMode mode : {ActivationMode::kFloat, ActivationMode::kDynamicPerToken}) {
      const QTensor back = session.backend().unpack(*session.backend().pack(parts, mode));
      EXPECT_TRUE(same_bits(back.codes, stored.codes)) << name;
      EXPECT_TRUE(same_bits(back.scales, stored.scales)) << name;
      EXPECT_TRUE(same_bits(back.minima, stored.minima)) << name;
    }
    ++coded;
  }
  EXPECT_EQ(coded, 1 + 2 * 5);
}

TEST_F(GgufModelTest, CodesGiveWhatTheirValuesGive) {
  const TokenBatch batch = golden_batch(golden("llama_base"), "right");
  Session codes(gguf("llama_base_codes")), floats(as_floats(gguf("llama_base_codes")));
  const Tensor want = read_npy(golden("llama_base") / "right.logits.npy");
  const double off_by_codes = error_share(codes.run(batch), want, batch, true);
  EXPECT_LT(off_by_codes, 0.25);  // what four bits do to these weights
  // The same values, in products whose scales come after the sums.
  const Tensor from_codes = codes.run(batch), from_floats = floats.run(batch);
  double largest = 0, highest = 0;
  for (int64_t i = 0; i < from_codes.shape().elements(); ++i) {
    largest = std::max(largest, std::abs(double{from_codes.as<float>()[i]} - from_floats.as<float>()[i]));
    highest = std::max(highest, std::abs(double{from_floats.as<float>()[i]}));
  }
  EXPECT_LT(largest / highest, 1e-5);
}

TEST_F(GgufModelTest, ARecipeForActivationsKeepsTheCodes) {
  const TokenBatch batch = golden_batch(golden("llama_base"), "right");
  Session floats(gguf("llama_base_codes")), int8(gguf("llama_base_codes"), {.recipe = Recipe::load("a8_dynamic", {})});
  int coded = 0;
  for (const Linear::Part* part : int8.model().linear_parts()) {
    if (!part->weight.stored_codes) continue;
    ++coded;
    const bool multiplied = part->weight.layer != "model.embed_tokens";  // this head is not tied
    EXPECT_EQ(part->weight.scheme->activations, multiplied ? ActivationMode::kDynamicPerToken : ActivationMode::kFloat);
    EXPECT_EQ(part->weight.scheme->weight.group_size, 32);
  }
  EXPECT_EQ(coded, 1 + 2 * 5);
  EXPECT_THAT(layers_left_float(Recipe::load("a8_dynamic", {}), int8.model()),
              ElementsAre("model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.up_proj",
                          "model.layers.1.mlp.down_proj", "lm_head"));
  const Tensor want = floats.run(batch), got = int8.run(batch);
  EXPECT_FALSE(same_bits(got, want));
  double difference = 0, size = 0;
  for (int64_t i = 0; i < want.shape().elements(); ++i) {
    difference += std::pow(double{got.as<float>()[i]} - want.as<float>()[i], 2);
    size += std::pow(double{want.as<float>()[i]}, 2);
  }
  EXPECT_LT(std::sqrt(difference / size), 0.05);
  EXPECT_EQ(stored_bytes(int8.checkpoint(), int8.model()), int8.checkpoint().bytes());
}

TEST_F(GgufModelTest, ARecipeForActivationsChoosesLayersAndAttention) {
  const Session session(gguf("llama_base_codes"), {.recipe = Recipe::parse(R"({
    "activations": {"bits": 8, "mode": "dynamic"}, "attention": 8, "exclude": ["*.q_proj"],
    "overrides": [{"match": "*.k_proj", "activations": null}]})",
                                                                           "mine")});
  EXPECT_EQ(session.model().info().attention, ActivationMode::kDynamicPerToken);
  for (const Linear::Part* part : session.model().linear_parts()) {
    if (!part->weight.scheme) continue;
    const std::string& layer = part->weight.layer;
    const bool expected = layer.ends_with("v_proj") || layer.ends_with("o_proj") || layer.ends_with("gate_proj");
    EXPECT_EQ(part->weight.scheme->activations != ActivationMode::kFloat, expected) << layer;
  }
}

TEST_F(GgufModelTest, ARecipeForActivationsIsForCompressedTensorsToo) {
  const fs::path out = folder_ / "w8a16";
  quantize_model(Checkpoint::open(golden("llama_base")), Recipe::load("w8a16", {}), out);
  Session asked(out, {.recipe = Recipe::load("a8_dynamic", {})}),
      directly(golden("llama_base"), {.recipe = Recipe::load("w8a8_dynamic", {})});
  const TokenBatch batch = golden_batch(golden("llama_base"), "right");
  EXPECT_TRUE(same_bits(asked.run(batch), directly.run(batch)));
}

TEST_F(GgufModelTest, RecipesThatDoNotFitAreRefused) {
  EXPECT_THAT(refusal(gguf("llama_base_codes"), R"({"weights": {"bits": 8}})"),
              testing::AllOf(HasSubstr("is quantized already: layer"), HasSubstr("a8_dynamic")));
  EXPECT_THAT(refusal(gguf("llama_base_codes"), R"({"embeddings": 8})"),
              HasSubstr("layer 'model.embed_tokens' is stored as codes"));
  EXPECT_THAT(refusal(gguf("llama_tied"), R"({"activations": {}})"),
              HasSubstr("quantizes activations but not weights"));
  EXPECT_THAT(refusal(golden("llama_base"), R"({"activations": {}, "attention": 8})"),
              HasSubstr("quantizes activations but not weights"));
  EXPECT_THAT(refusal(gguf("llama_base_codes"),
                      R"({"activations": {"mode": "static", "symmetric": false},
                          "activation_scales": {"model.layers.0.self_attn.q_proj": {"scale": 1, "zero_point": 3}}})"),
              HasSubstr("activations with a zero point need 8-bit ones"));
}

TEST_F(GgufModelTest, QuantizingWritesTheDirectoryThatTheFloatOneGives) {
  const std::vector<std::string> some = {R"(exclude=["*.attn.c_proj"])"};
  const Recipe recipe = Recipe::load("w8a8_dynamic", some);
  for (const std::string name : {"llama_tied", "qwen2", "gpt2"}) {
    SCOPED_TRACE(name);
    quantize_model(Checkpoint::open(golden(name)), recipe, folder_ / (name + "1"));
    const QuantizeReport report = quantize_model(Checkpoint::open(gguf(name)), recipe, folder_ / (name + "2"));
    const Checkpoint want = Checkpoint::open(folder_ / (name + "1")), got = Checkpoint::open(folder_ / (name + "2"));
    EXPECT_EQ(report.bytes_after, got.bytes());
    ASSERT_EQ(got.names(), want.names());
    for (const std::string& tensor : want.names()) {
      const Tensor first = want.tensor(tensor), second = got.tensor(tensor);
      const bool same =
          is_float(first.dtype()) ? same_bits(to_f32(second.view()), to_f32(first.view())) : same_bits(second, first);
      EXPECT_TRUE(same) << tensor;
    }
    const TokenBatch batch = golden_batch(golden(name), "right");
    Session first(folder_ / (name + "1")), second(folder_ / (name + "2"));
    EXPECT_TRUE(same_bits(first.run(batch), second.run(batch)));
  }
  EXPECT_THROW(
      quantize_model(Checkpoint::open(gguf("llama_base_codes")), Recipe::load("a8_dynamic", {}), folder_ / "x"),
      UsageError);
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(GgufModelTest, SmolLm2GivesSaneLogits) {
  OCTET_SHARED_DATA_OR_SKIP(shared);
  Session session(shared / "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(session.model().info().vocabulary, 49152);
  // "The capital of France is" → " Paris"
  TokenBatch batch;
  batch.add(std::vector<int32_t>{504, 3575, 282, 4649, 314});
  const Tensor logits = session.run(batch);
  const auto last = logits.as<float>().subspan(4 * 49152);
  EXPECT_EQ(std::ranges::max_element(last) - last.begin(), 7042);
}

}  // namespace
}  // namespace octet

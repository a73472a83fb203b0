// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/quantize_model.h"

#include <map>

#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/io/compressed_tensors.h"
#include "octet/quant/quantize.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::filesystem::path golden_model(const std::string& name) { return std::filesystem::path(OCTET_GOLDEN) / name; }

// Two blocks of width 32; the second product of each feed-forward has 72 inputs, which no group size divides.
std::filesystem::path small_bert() { return golden_model("bert_base"); }

class QuantizeModel : public ScratchFolder {
 protected:
  // Written and read again, `model` must be what the recipe makes of it while loading, to the byte.
  void expect_the_same(const std::string& model, const Recipe& recipe) {
    SCOPED_TRACE(model + ", " + recipe.name());
    const Checkpoint floats = Checkpoint::open(golden_model(model));
    const std::filesystem::path out = folder_ / std::to_string(written_++);
    const QuantizeReport report = quantize_model(floats, recipe, out);
    const Checkpoint quantized = Checkpoint::open(out);
    EXPECT_EQ(report.bytes_before, floats.bytes());
    EXPECT_EQ(report.bytes_after, quantized.bytes());
    const std::unique_ptr<Model> asked = load_model(floats, &recipe), stored = load_model(quantized, nullptr);
    EXPECT_EQ(stored_bytes(floats, *asked), quantized.bytes());
    const std::vector<const Linear::Part*> want = asked->linear_parts(), got = stored->linear_parts();
    ASSERT_EQ(want.size(), got.size());
    for (size_t i = 0; i < want.size(); ++i) {
      const Parameter& parameter = want[i]->weight;
      SCOPED_TRACE(parameter.layer);
      ASSERT_EQ(got[i]->weight.layer, parameter.layer);
      ASSERT_EQ(got[i]->weight.scheme, parameter.scheme);
      EXPECT_EQ(got[i]->weight.input, parameter.input);
      if (!parameter.scheme) continue;
      const FloatWeight values(parameter);
      const QTensor made = quantize_weight(values.view(), parameter.scheme->weight, parameter.layer);
      const QTensor read = std::get<QTensor>(std::get<WeightReader>(got[i]->weight.value)());
      EXPECT_EQ(bytes_of(read.codes), bytes_of(made.codes));
      EXPECT_EQ(bytes_of(read.scales), bytes_of(made.scales));
      EXPECT_EQ(bytes_of(read.zero_points), bytes_of(made.zero_points));
      EXPECT_EQ(report.layers[i].relative_error, relative_error(values.view(), made));
    }
  }

 private:
  int written_ = 0;
};

TEST_F(QuantizeModel, WhatIsWrittenIsWhatTheRecipeMakesWhileLoading) {
  for (const std::string& name : Recipe::built_in_names()) {
    expect_the_same("bert_base", Recipe::load(name, {}));
    const std::vector<std::string> zero_points = {"weights.symmetric=false"};
    expect_the_same("bert_base", Recipe::load(name, zero_points));
  }
}

TEST_F(QuantizeModel, EmbeddingsAreWrittenToo) {
  const std::vector<std::string> embeddings = {"embeddings=8"};
  for (const std::string model : {"llama_base", "llama_tied", "llama_model", "gpt2", "gpt2_model"}) {
    for (const std::string recipe : {"w8a16", "w8a8_dynamic", "w4a16_g32"})
      expect_the_same(model, Recipe::load(recipe, embeddings));
    expect_the_same(model, Recipe::parse(R"({"embeddings": 8})", "embeddings"));
    expect_the_same(model, Recipe::parse(R"({"embeddings": 4})", "4-bit embeddings"));
    expect_the_same(model, Recipe::parse(R"({"embeddings": {"bits": 4, "symmetric": false}, "activations": {}})",
                                         "4-bit embeddings with zero points"));
  }
}

TEST_F(QuantizeModel, StaticScalesAreWrittenToo) {
  for (const std::string model : {"bert_base", "llama_tied", "llama_base"}) {
    const bool decoder = model != "bert_base";
    nlohmann::json scales;
    const std::unique_ptr<Model> floats = load_model(Checkpoint::open(golden_model(model)), nullptr);
    for (const Linear::Part* part : floats->linear_parts()) {
      scales[part->weight.layer] = {{"scale", 0.01 * static_cast<double>(1 + scales.size())}};
    }
    scales["lm_head"] = {{"scale", 0.5}};
    for (const bool symmetric : {true, false}) {
      if (!symmetric) {
        for (nlohmann::json& scale : scales) scale["zero_point"] = 17;
      }
      const nlohmann::json recipe = {{"name", symmetric ? "static" : "static, zero points"},
                                     {"weights", {{"bits", 8}}},
                                     {"activations", {{"mode", "static"}, {"symmetric", symmetric}}},
                                     {"embeddings", decoder ? nlohmann::json(8) : nlohmann::json()},
                                     {"activation_scales", scales}};
      expect_the_same(model, Recipe::parse(json_text(recipe), "static"));
    }
  }
  const Recipe without = Recipe::parse(R"({"weights": {}, "activations": {"mode": "static"}})", "m");
  EXPECT_THAT(message_of<UsageError>([&] { quantize_model(Checkpoint::open(small_bert()), without, folder_ / "x"); }),
              HasSubstr("layer 'encoder.layer.0.attention.self.query' has static activations and no scale"));
}

TEST_F(QuantizeModel, ATiedTableIsStoredOnceWithTheScalesOfBothItsNames) {
  const std::vector<std::string> embeddings = {"embeddings=8"};
  quantize_model(Checkpoint::open(golden_model("llama_tied")), Recipe::load("w8a8_dynamic", embeddings),
                 folder_ / "out");
  const Checkpoint out = Checkpoint::open(folder_ / "out");
  EXPECT_EQ(out.tensor("model.embed_tokens.weight").dtype(), DType::kI8);
  EXPECT_FALSE(out.contains("lm_head.weight"));
  EXPECT_EQ(bytes_of(out.tensor("lm_head.weight_scale")), bytes_of(out.tensor("model.embed_tokens.weight_scale")));
  const Scheme weight_only{};
  EXPECT_EQ(out.quantization()->scheme_for("model.embed_tokens", LayerKind::kEmbedding)->scheme, weight_only);
  EXPECT_EQ(out.quantization()->scheme_for("lm_head")->scheme.activations, ActivationMode::kDynamicPerToken);
}

TEST_F(QuantizeModel, TheReportSaysWhereAFallbackWasTaken) {
  const Checkpoint floats = Checkpoint::open(small_bert());
  const QuantizeReport report = quantize_model(floats, Recipe::load("w4a16_g128", {}), folder_ / "out");
  std::vector<std::string> said;
  for (const GroupFallback& fallback : report.group_fallbacks) said.push_back(to_string(fallback));
  EXPECT_THAT(said, ElementsAre("group_size 128 does not divide 32 inputs: 32 taken in 10 layers",
                                "group_size 128 does not divide 72 inputs: one scale a row taken in 2 layers"));
  EXPECT_TRUE(quantize_model(floats, Recipe::load("w8a16", {}), folder_ / "w8a16").group_fallbacks.empty());
}

TEST_F(QuantizeModel, MinimaAreRefusedBeforeAnythingIsWritten) {
  const std::vector<std::string> minima = {"weights.minima=true"};
  const Checkpoint floats = Checkpoint::open(small_bert());
  const Recipe recipe = Recipe::load("w4a16_g32", minima);
  EXPECT_THAT(message_of<FormatError>([&] { quantize_model(floats, recipe, folder_ / "out"); }),
              HasSubstr("layer 'encoder.layer.0.attention.self.query' is to have minima"));
  EXPECT_EQ(entries(), 0);
  // What such a checkpoint would hold: codes and scales, and minima as large as these.
  const std::unique_ptr<Model> with_minima = load_model(floats, &recipe);
  const Recipe plain = Recipe::load("w4a16_g32", {});
  int64_t scales = 0;
  for (const Linear::Part* part : with_minima->linear_parts()) {
    const Parameter& weight = part->weight;
    if (weight.scheme) scales += weight.shape[0] * weight.scheme->weight.groups(weight.shape[1]) * 4;
  }
  EXPECT_EQ(stored_bytes(floats, *with_minima), stored_bytes(floats, *load_model(floats, &plain)) + scales);
}

TEST_F(QuantizeModel, ALayerThatNoGroupFitsIsNamedAndNothingIsWritten) {
  const Checkpoint floats = Checkpoint::open(small_bert());
  const Recipe recipe = Recipe::parse(R"({"weights": {"bits": 4, "group_size": 32}})", "m");
  EXPECT_THAT(message_of<ShapeError>([&] { quantize_model(floats, recipe, folder_ / "out"); }),
              HasSubstr("layer 'encoder.layer.0.output.dense' has 72 inputs"));
  EXPECT_EQ(entries(), 0);
}

TEST_F(QuantizeModel, ALargeModelIsWrittenInSeveralFiles) {
  const Checkpoint floats = Checkpoint::open(golden_model("llama_base"));
  const Recipe recipe = Recipe::load("w8a16", std::vector<std::string>{"embeddings=8"});
  quantize_model(floats, recipe, folder_ / "one");
  const QuantizeReport report = quantize_model(floats, recipe, folder_ / "several", {.largest_shard = 4096});
  EXPECT_TRUE(std::filesystem::exists(folder_ / "several" / "model.safetensors.index.json"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "several" / "model.safetensors"));
  const Checkpoint one = Checkpoint::open(folder_ / "one"), several = Checkpoint::open(folder_ / "several");
  EXPECT_EQ(one.names(), several.names());
  EXPECT_EQ(several.bytes(), report.bytes_after);
  for (const std::string& name : one.names()) EXPECT_EQ(bytes_of(one.tensor(name)), bytes_of(several.tensor(name)));
  int64_t shards = 0;
  for (const auto& [name, bytes] : files_in(folder_ / "several")) shards += name.ends_with(".safetensors") ? 1 : 0;
  EXPECT_GT(shards, 3);
  EXPECT_THROW(quantize_model(floats, recipe, folder_ / "none", {.largest_shard = 0}), UsageError);
}

TEST_F(QuantizeModel, AKilledRunIsTakenUpAndGivesTheSameFiles) {
  const Checkpoint floats = Checkpoint::open(golden_model("llama_base"));
  const Recipe recipe = Recipe::load("w4a16_g32", {});
  const QuantizeReport whole = quantize_model(floats, recipe, folder_ / "whole", {.largest_shard = 4096});
  ASSERT_EQ(whole.resumed_layers, 0);
  // What is on the disk when so many layers are done is what a run that is killed there leaves.
  const auto die_after = [&](int64_t layers) {
    const std::filesystem::path partial = folder_ / ".out.partial", left = folder_ / "left";
    quantize_model(floats, recipe, folder_ / "out", {.largest_shard = 4096, .advance = [&](int64_t done, int64_t) {
                                                       if (done == layers)
                                                         std::filesystem::copy(
                                                             partial, left, std::filesystem::copy_options::recursive);
                                                     }});
    std::filesystem::remove_all(folder_ / "out");
    std::filesystem::rename(left, partial);
  };
  die_after(4);
  die_after(9);  // counts those of the run before
  const QuantizeReport resumed = quantize_model(floats, recipe, folder_ / "out", {.largest_shard = 4096});
  EXPECT_GE(resumed.resumed_layers, 6);
  EXPECT_LT(resumed.resumed_layers, 9);
  EXPECT_EQ(files_in(folder_ / "out"), files_in(folder_ / "whole"));
  ASSERT_EQ(resumed.layers.size(), whole.layers.size());
  for (size_t i = 0; i < whole.layers.size(); ++i)
    EXPECT_EQ(resumed.layers[i].relative_error, whole.layers[i].relative_error);

  // Another recipe takes nothing up.
  std::filesystem::remove_all(folder_ / "out");
  die_after(4);
  EXPECT_EQ(quantize_model(floats, Recipe::load("w8a16", {}), folder_ / "out", {.largest_shard = 4096}).resumed_layers,
            0);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/quantize_model.h"

#include "octet/io/compressed_tensors.h"
#include "octet/quant/quantize.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Two blocks of width 32; the second product of each feed-forward has 72 inputs, which no group size divides.
std::filesystem::path small_bert() { return std::filesystem::path(OCTET_GOLDEN) / "bert_base"; }

class QuantizeModel : public ScratchFolder {};

std::vector<std::string> zero_points() { return {"weights.symmetric=false"}; }

TEST_F(QuantizeModel, WhatIsWrittenIsWhatTheRecipeMakesWhileLoading) {
  const Checkpoint floats = Checkpoint::open(small_bert());
  int written = 0;
  for (const std::string& name : Recipe::built_in_names()) {
    for (const std::vector<std::string>& settings : {std::vector<std::string>{}, zero_points()}) {
      if (!settings.empty() && !name.starts_with("w4")) continue;
      const Recipe recipe = Recipe::load(name, settings);
      const std::filesystem::path out = folder_ / std::to_string(written++);
      const QuantizeReport report = quantize_model(floats, recipe, out);
      const Checkpoint quantized = Checkpoint::open(out);
      EXPECT_EQ(report.bytes_after, quantized.bytes()) << name;
      EXPECT_EQ(report.bytes_before, floats.bytes());
      const std::unique_ptr<Model> asked = load_model(floats, &recipe), stored = load_model(quantized, nullptr);
      EXPECT_EQ(stored_bytes(floats, *asked), quantized.bytes()) << name;
      const std::vector<const Linear::Part*> want = asked->linear_parts(), got = stored->linear_parts();
      ASSERT_EQ(want.size(), got.size());
      for (size_t i = 0; i < want.size(); ++i) {
        const Parameter& parameter = want[i]->weight;
        SCOPED_TRACE(name + ", " + parameter.layer);
        ASSERT_EQ(got[i]->weight.scheme, parameter.scheme);
        if (!parameter.scheme) continue;
        const QTensor made =
            quantize_weight(std::get<Tensor>(parameter.value).view(), parameter.scheme->weight, parameter.layer);
        const QTensor& read = std::get<QTensor>(got[i]->weight.value);
        EXPECT_EQ(bytes_of(read.codes), bytes_of(made.codes));
        EXPECT_EQ(bytes_of(read.scales), bytes_of(made.scales));
        EXPECT_EQ(bytes_of(read.zero_points), bytes_of(made.zero_points));
        EXPECT_EQ(report.layers[i].relative_error, relative_error(std::get<Tensor>(parameter.value).view(), made));
      }
    }
  }
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

TEST_F(QuantizeModel, ALayerThatNoGroupFitsIsNamedAndNothingIsWritten) {
  const Checkpoint floats = Checkpoint::open(small_bert());
  const Recipe recipe = Recipe::parse(R"({"weights": {"bits": 4, "group_size": 32}})", "m");
  EXPECT_THAT(message_of<ShapeError>([&] { quantize_model(floats, recipe, folder_ / "out"); }),
              HasSubstr("layer 'encoder.layer.0.output.dense' has 72 inputs"));
  EXPECT_EQ(entries(), 0);
}

}  // namespace
}  // namespace octet

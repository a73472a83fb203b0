// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/layer_facts.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/error.h"
#include "octet/ptq/site_facts.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

Tensor weight_of(std::vector<float> values, int64_t rows) {
  Tensor out(DType::kF32, {rows, std::ssize(values) / rows});
  std::copy(values.begin(), values.end(), out.mutable_as<float>().begin());
  return out;
}

int64_t total(const HistogramFacts& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), int64_t{0});
}

TEST(PlacesOnCodes, AWeightLiesWhereItsScalePutsIt) {
  // One row of scale 1: codes and what is clipped can be seen by eye. Bins are a quarter wide and begin at -8.5 - 2.
  const Tensor weight = weight_of({-9.5F, -8, -0.1F, 0, 0.1F, 3, 7.4F, 20}, 1);
  QTensor codes = quantize_weight(weight.view(), {.bits = 4}, "w");
  codes.scales.mutable_as<float>()[0] = 1;
  const CodePlaces places = places_on_codes(weight.view(), codes);
  EXPECT_EQ(places.lowest, -8);
  EXPECT_EQ(places.highest, 7);
  EXPECT_EQ(places.histogram.low, -10.5);
  EXPECT_EQ(places.histogram.high, 9.5);
  EXPECT_EQ(places.histogram.counts.size(), 80u);
  EXPECT_EQ(total(places.histogram), 8);
  EXPECT_EQ(places.histogram.counts[4], 1);   // -9.5
  EXPECT_EQ(places.histogram.counts[10], 1);  // -8
  EXPECT_EQ(places.histogram.counts[42], 2);  // 0 and 0.1
  EXPECT_EQ(places.histogram.counts[79], 1);  // 20
  EXPECT_DOUBLE_EQ(places.outside_share, 2.0 / 8);
}

TEST(PlacesOnCodes, EverySchemeKeepsAbsmaxInside) {
  std::vector<float> values(6 * 64);
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i * i)) * 3 + 0.5F;
  const Tensor weight = weight_of(values, 6);
  for (const int bits : {8, 4}) {
    for (const int64_t group_size : {0, 32, 64}) {
      for (const CodeMapping mapping : {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum}) {
        if (bits == 8 && mapping != CodeMapping::kSymmetric) continue;
        const QTensor codes =
            quantize_weight(weight.view(), {.bits = bits, .group_size = group_size, .mapping = mapping}, "w");
        const CodePlaces places = places_on_codes(weight.view(), codes);
        EXPECT_EQ(total(places.histogram), 6 * 64);
        EXPECT_LE(places.outside_share, mapping == CodeMapping::kZeroPoint ? 0.02 : 0) << bits << " " << group_size;
      }
    }
  }
  EXPECT_THROW(places_on_codes(weight_of({1, 2}, 1).view(), quantize_weight(weight.view(), {}, "w")), ShapeError);
}

TEST(FittedFactors, UndoWhatAFoldDidToAWeight) {
  std::vector<float> values(96 * 64), folded(96 * 64);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(static_cast<float>(i * i % 1013));
    folded[i] = values[i] * (0.25F + static_cast<float>(i % 64)) * (i / 64 % 2 == 0 ? 3.0F : 0.5F);
  }
  const Tensor weight = weight_of(values, 96);
  const QTensor codes = quantize_weight(weight_of(folded, 96).view(), {.bits = 8}, "w");
  const double without = relative_error(weight.view(), codes),
               with = relative_error(with_fitted_factors(weight.view(), codes, true, true).view(), codes);
  EXPECT_GT(without, 0.5);
  EXPECT_LT(with, 0.02);
  EXPECT_GT(with, 0.5 * relative_error(weight_of(folded, 96).view(), codes));
}

TEST(MeasureLayers, SaysWhatARecipeDoesToEachLayer) {
  const Checkpoint checkpoint = Checkpoint::open(OCTET_GOLDEN "/llama_base");
  const Recipe recipe = Recipe::load("w4a16_g32", std::vector<std::string>{"exclude=[\"*.o_proj\"]"});
  const std::unique_ptr<Model> model = load_model(checkpoint, &recipe), reference = load_model(checkpoint, nullptr);
  int64_t advanced = 0;
  const std::vector<LayerFacts> layers =
      measure_layers(*model, *reference, {}, 1, [&](int64_t done) { advanced += done; });
  EXPECT_EQ(advanced, std::ssize(layers));
  int64_t quantized = 0;
  for (const LayerFacts& layer : layers) {
    const bool is_float = layer.name.ends_with("o_proj") || !layer.block;
    EXPECT_EQ(layer.scheme.empty(), is_float) << layer.name;
    EXPECT_EQ(layer.relative_error.has_value(), !is_float) << layer.name;
    if (is_float) continue;
    ++quantized;
    EXPECT_GT(*layer.relative_error, 0.01);
    EXPECT_LT(*layer.relative_error, 0.2);
    EXPECT_EQ(total(*layer.codes), layer.outputs * layer.inputs);
  }
  EXPECT_GT(quantized, 0);
  EXPECT_EQ(measure_layers(*reference, *reference, {}, 1).front().scheme, "");
}

TEST(SiteObservation, SeesTheInputsOfAllProducts) {
  const Checkpoint checkpoint = Checkpoint::open(OCTET_GOLDEN "/llama_base");
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});  // outlives the model
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  TokenBatch samples;
  samples.add(std::vector<int32_t>{1, 2, 3, 4, 5});
  samples.add(std::vector<int32_t>{6, 7, 8});
  const SiteObservation seen(*model, *backend, samples);
  const std::vector<SiteFacts> sites = seen.facts();
  ASSERT_FALSE(sites.empty());
  int64_t in_blocks = 0;
  for (const SiteFacts& site : sites) {
    EXPECT_LT(site.smallest, site.largest) << site.name;
    EXPECT_GT(*site.dynamic_error, 0) << site.name;
    EXPECT_LT(*site.dynamic_error, 0.05) << site.name;
    if (!site.block) continue;
    ++in_blocks;
    EXPECT_EQ(site.rows, 8) << site.name;
    EXPECT_GT(total(*site.values), 0);
  }
  EXPECT_EQ(in_blocks, model->info().blocks * 4);  // query, key and value; output; gate and up; down

  // The scale decides what is clipped: with one of the largest value nothing is, with a tiny one most.
  std::string scales;
  for (const SiteFacts& site : sites) {
    if (site.block)
      scales += fmt::format("{}\"{}\": {}", scales.empty() ? "" : ", ", site.name, *site.block == 0 ? 1.0 : 1e-4);
  }
  const Recipe recipe = Recipe::parse(
      R"({"weights": {"bits": 8}, "activations": {"mode": "static"}, "activation_scales": {)" + scales + "}}",
      "static");
  const std::vector<SiteFacts> fixed = seen.static_facts(*load_model(checkpoint, &recipe));
  EXPECT_EQ(std::ssize(fixed), in_blocks);
  for (const SiteFacts& site : fixed) {
    ASSERT_TRUE(site.fixed) << site.name;
    if (*site.block == 0) {
      EXPECT_EQ(site.fixed->high, 127) << site.name;
      EXPECT_EQ(site.fixed->clipped_share, 0) << site.name;
    } else {
      EXPECT_GT(*site.fixed->clipped_energy, 0.5) << site.name;
    }
  }
}

TEST(SiteObservation, SeesWhatStaticAttentionReads) {
  const Checkpoint checkpoint = Checkpoint::open(OCTET_GOLDEN "/llama_base");
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});  // outlives the model
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  TokenBatch samples;
  samples.add(std::vector<int32_t>{1, 2, 3, 4, 5});
  const SiteObservation seen(*model, *backend, samples, SiteObservation::Attention::kWatched);
  std::string scales;
  for (int64_t block = 0; block < model->info().blocks; ++block) {
    for (const char* operand : {"q", "k", "v"})
      scales += fmt::format("{}\"model.layers.{}.self_attn.{}\": {}", scales.empty() ? "" : ", ", block, operand,
                            operand[0] == 'k' ? 1e-4 : 1.0);
  }
  const Recipe recipe =
      Recipe::parse(R"({"attention": {"mode": "static"}, "activation_scales": {)" + scales + "}}", "static");
  const std::vector<SiteFacts> fixed = seen.static_facts(*load_model(checkpoint, &recipe));
  ASSERT_EQ(std::ssize(fixed), 3 * model->info().blocks);
  for (const SiteFacts& site : fixed) {
    ASSERT_TRUE(site.fixed && site.block) << site.name;
    EXPECT_EQ(site.rows, 5) << site.name;
    const bool key = site.name.ends_with(".k");
    EXPECT_EQ(site.fixed->clipped_share > 0.5, key) << site.name;
  }
}

}  // namespace
}  // namespace octet

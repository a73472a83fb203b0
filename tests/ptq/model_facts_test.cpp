// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/model_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"

namespace octet {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

ModelFacts example() {
  ModelFacts facts;
  facts.name = "smollm2";
  facts.architecture = "LlamaForCausalLM";
  facts.blocks = 2, facts.width = 64, facts.vocabulary = 100, facts.max_positions = 128, facts.parameters = 12345;
  facts.accuracy_data = "wiki.txt";
  facts.reference.name = "float";
  facts.reference.perplexity = MeasuredValue{27.07, 0.17};
  SiteFacts site;
  site.name = "model.layers.1.self_attn.{q_proj,k_proj}";
  site.block = 1;
  site.kind = "self_attn.{q_proj,k_proj}";
  site.rows = 100;
  site.smallest = -3.5, site.largest = 4;
  site.dynamic_error = 0.01;
  site.values = HistogramFacts{-3.5, 4, {1, 2, 3}};
  site.fixed = StaticFacts{"mse", -2, 2, 0.001, 0.03, 0.2, 0.1};
  VariantFacts variant;
  variant.name = "w4";
  variant.recipe = R"({"weights":{"bits":4}})";
  variant.bytes = 1000;
  variant.kl = MeasuredValue{0.1, std::nullopt};
  LayerFacts layer;
  layer.name = "model.layers.1.mlp.down_proj";
  layer.block = 1;
  layer.kind = "mlp.down_proj";
  layer.outputs = 64, layer.inputs = 128, layer.bytes = 4352;
  layer.scheme = "int4";
  layer.relative_error = 0.07;
  layer.outside_share = 0.002;
  layer.codes = HistogramFacts{-10.5, 9.5, {0, 5, 7, 0}};
  layer.code_range = {-8, 7};
  layer.notes = {"3 dead columns"};
  variant.layers.push_back(layer);
  variant.sites.push_back(site);
  variant.calibration = {{"samples", "128"}};
  facts.variants.push_back(variant);
  return facts;
}

ModelFacts read(const nlohmann::ordered_json& json) {
  return read_model_facts(Config::parse(json_text(json), "facts.json"));
}

TEST(ModelFacts, AreTheSameAfterJson) {
  const nlohmann::ordered_json json = to_json(example());
  EXPECT_EQ(json_text(to_json(read(json))), json_text(json));
  const ModelFacts facts = read(json);
  ASSERT_EQ(facts.variants.size(), 1u);
  EXPECT_EQ(facts.variants[0].layers[0].codes->counts, (std::vector<int64_t>{0, 5, 7, 0}));
  EXPECT_EQ(facts.variants[0].layers[0].code_range, (std::pair<double, double>{-8, 7}));
  EXPECT_EQ(facts.variants[0].sites[0].fixed->method, "mse");
  EXPECT_FALSE(facts.variants[0].perplexity);
}

TEST(ModelFacts, WhatIsMissingOrOfAnotherTypeIsNamed) {
  const auto refused = [](auto change, const char* words) {
    nlohmann::ordered_json json = to_json(example());
    change(json);
    EXPECT_THAT([&] { read(json); },
                ThrowsMessage<FormatError>(testing::AllOf(HasSubstr("facts.json"), HasSubstr(words))));
  };
  refused([](auto& json) { json.erase("architecture"); }, "'architecture' is missing");
  refused([](auto& json) { json["variants"] = 3; }, "'variants' must be a list");
  refused([](auto& json) { json["variants"][0].erase("name"); }, "variants[0]: 'name' is missing");
  refused([](auto& json) { json["variants"][0]["layers"][0]["relative_error"] = "much"; },
          "layers[0]: 'relative_error' must be a number");
  refused([](auto& json) { json["variants"][0]["layers"][0]["relative_error"] = -1; }, "'relative_error' is -1");
  refused([](auto& json) { json["variants"][0]["layers"][0]["codes"]["counts"] = {1.5}; }, "counts are whole numbers");
  refused([](auto& json) { json["variants"][0]["layers"][0]["codes"]["counts"] = {-1}; }, "counts are whole numbers");
  refused([](auto& json) { json["variants"][0]["layers"][0]["codes"]["low"] = 100; }, "'codes' has 4 bins");
  refused([](auto& json) { json["variants"][0]["layers"][0]["code_range"] = {1}; }, "'code_range'");
  refused([](auto& json) { json["variants"][0]["bytes"] = -5; }, "'bytes' is -5");
  refused([](auto& json) { json["variants"][0]["top1_agreement"] = 2; }, "'top1_agreement' is 2");
  refused([](auto& json) { json["variants"][0]["sites"][0]["static"].erase("low"); }, "low' is missing");
}

TEST(ModelFacts, ALayersPlaceIsItsBlockAndWhatItIsThere) {
  using Place = std::pair<std::optional<int64_t>, std::string>;
  EXPECT_EQ(place_of_layer("model.layers.7.self_attn.q_proj"), (Place{7, "self_attn.q_proj"}));
  EXPECT_EQ(place_of_layer("encoder.layer.11.attention.self.{query,key,value}"),
            (Place{11, "attention.self.{query,key,value}"}));
  EXPECT_EQ(place_of_layer("h.0.mlp.c_fc"), (Place{0, "mlp.c_fc"}));
  EXPECT_EQ(place_of_layer("lm_head"), (Place{std::nullopt, "lm_head"}));
  EXPECT_EQ(place_of_layer("classifier.2"), (Place{std::nullopt, "classifier.2"}));
  EXPECT_EQ(place_of_layer("a.99999999999999999999.b"), (Place{std::nullopt, "a.99999999999999999999.b"}));
  EXPECT_EQ(place_of_layer(""), (Place{std::nullopt, ""}));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/io/quantization_config.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

const Scheme kWeightOnly{.weight = {.bits = 8}, .activations = ActivationMode::kFloat};
const Scheme kDynamic{.weight = {.bits = 8}, .activations = ActivationMode::kDynamicPerToken};
constexpr WeightFormat kInt = WeightFormat::kIntQuantized, kPack = WeightFormat::kPackQuantized;

json weights() {
  return parse_json(R"({"num_bits":8,"type":"int","symmetric":true,"strategy":"channel","dynamic":false})", "the test");
}
json activations() {
  return parse_json(R"({"num_bits":8,"type":"int","symmetric":true,"strategy":"token","dynamic":true})", "the test");
}
json uniform() {
  return {{"quant_method", "compressed-tensors"},
          {"quantization_status", "compressed"},
          {"format", "int-quantized"},
          {"config_groups",
           {{"group_0", {{"targets", {"Linear"}}, {"weights", weights()}, {"input_activations", activations()}}}}},
          {"ignore", {"lm_head"}}};
}

StoredQuantization parse(const json& config) {
  return StoredQuantization::parse(Config::parse(json_text(config), "config.json"));
}

// uniform() with the value at a JSON pointer replaced.
json changed(const char* pointer, const json& value) {
  json config = uniform();
  config[json::json_pointer(pointer)] = value;
  return config;
}

TEST(QuantizationConfig, ALinearTargetIsEveryLayerButTheIgnored) {
  const StoredQuantization stored = parse(uniform());
  EXPECT_EQ(stored.scheme_for("model.layers.0.mlp.up_proj"), (StoredScheme{kDynamic, kInt}));
  EXPECT_EQ(stored.scheme_for("lm_head"), std::nullopt);
  EXPECT_EQ(stored.scheme_for("lm_head2"), (StoredScheme{kDynamic, kInt}));
}

TEST(QuantizationConfig, AnExactNameCountsBeforeAPatternAndAPatternBeforeLinear) {
  json config = uniform();
  config["format"] = "mixed-precision";
  json& groups = config["config_groups"];
  groups["group_0"]["format"] = "int-quantized";
  groups["group_1"] = {{"targets", {"re:.*\\.down$", "a.up"}}, {"weights", weights()}, {"format", "pack-quantized"}};
  groups["group_2"] = {{"targets", {"a.down"}}, {"weights", weights()}, {"input_activations", activations()}};
  const StoredQuantization stored = parse(config);
  EXPECT_EQ(stored.scheme_for("b.down"), (StoredScheme{kWeightOnly, kPack}));
  EXPECT_EQ(stored.scheme_for("a.up"), (StoredScheme{kWeightOnly, kPack}));
  EXPECT_EQ(stored.scheme_for("a.down"), (StoredScheme{kDynamic, kInt}));
  EXPECT_EQ(stored.scheme_for("b.up"), (StoredScheme{kDynamic, kInt}));
  config["ignore"] = {"re:a\\."};
  EXPECT_EQ(parse(config).scheme_for("a.down"), std::nullopt);
}

TEST(QuantizationConfig, LayersNoTargetNamesAreFloat) {
  EXPECT_EQ(parse(changed("/config_groups/group_0/targets", {"a.b"})).scheme_for("a.c"), std::nullopt);
}

TEST(QuantizationConfig, WhatOthersWriteWithoutMeaningIsAccepted) {
  EXPECT_NO_THROW(parse(changed("/config_groups/group_0/weights/observer", "minmax")));
  EXPECT_NO_THROW(parse(changed("/config_groups/group_0/weights/group_size", -1)));
  EXPECT_NO_THROW(parse(changed("/config_groups/group_0/weights/actorder", "static")));
  EXPECT_NO_THROW(parse(changed("/kv_cache_scheme", nullptr)));
  EXPECT_NO_THROW(parse(changed("/sparsity_config", {{"format", "dense"}})));
  EXPECT_NO_THROW(parse(changed("/transform_config", json::object())));
  EXPECT_NO_THROW(parse(changed("/format", "naive-quantized")));
}

TEST(QuantizationConfig, TheFormatFollowsTheSchemeWhereNoneIsSaid) {
  json config = uniform();
  config.erase("format");
  EXPECT_EQ(parse(config).scheme_for("a")->format, kInt);
  config["config_groups"]["group_0"].erase("input_activations");
  EXPECT_EQ(parse(config).scheme_for("a")->format, kPack);
}

TEST(QuantizationConfig, ReorderedColumnsAreWrittenAndReadAsActorder) {
  const Scheme scheme = {{.bits = 4, .group_size = 32, .reordered = true}};
  json config = quantization_config({{"a", scheme}, {"b", scheme}}, {});
  EXPECT_EQ(config.at("/config_groups/group_0/weights/actorder"_json_pointer), "group");
  EXPECT_EQ(parse(config).scheme_for("a"), (StoredScheme{scheme, kPack}));
  for (const json& other : {json("dynamic"), json(true)}) {
    config["config_groups"]["group_0"]["weights"]["actorder"] = other;
    EXPECT_EQ(parse(config).scheme_for("a"), (StoredScheme{scheme, kPack})) << other;
  }
  for (const json& plain : {json("weight"), json("static"), json(false), json(nullptr)}) {
    config["config_groups"]["group_0"]["weights"]["actorder"] = plain;
    EXPECT_FALSE(parse(config).scheme_for("a")->scheme.weight.reordered) << plain;
  }
  // Columns as they are and reordered ones are two groups.
  EXPECT_EQ(quantization_config({{"a", scheme}, {"b", {{.bits = 4, .group_size = 32}}}}, {})["config_groups"].size(),
            2);
}

TEST(QuantizationConfig, EachFeatureNotOfferedIsNamedWithItsFile) {
  struct Case {
    const char* pointer;
    json value;
    const char* said;
  };
  const std::vector<Case> cases = {
      {"/quant_method", "gptq", "'gptq'"},
      {"/quant_method", 3, "'quant_method' must be text"},
      {"/format", "marlin-24", "'marlin-24'"},
      {"/format", "float-quantized", "'float-quantized'"},
      {"/quantization_status", "frozen", "'frozen'"},
      {"/quantization_status", nullptr, "'initialized'"},
      {"/kv_cache_scheme", {{"num_bits", 8}}, "'kv_cache_scheme'"},
      {"/sparsity_config", {{"format", "sparse-24-bitmask"}}, "sparse weights"},
      {"/transform_config", {{"config_groups", {{"R1", 1}}}}, "'transform_config'"},
      {"/something_new", 1, "'something_new'"},
      {"/ignore", "lm_head", "'ignore' must be a list"},
      {"/ignore", {"re:(?!a)"}, "layer pattern"},
      {"/config_groups", nullptr, "'config_groups' is missing"},
      {"/config_groups", 5, "must be an object"},
      {"/config_groups/W8A8", {"Linear"}, "'W8A8' is a preset"},
      {"/config_groups/group_0/targets", {1}, "must be a list of texts"},
      {"/config_groups/group_0/weights", nullptr, "'group_0' has no 'weights'"},
      {"/config_groups/group_0/output_activations", activations(), "'output_activations'"},
      {"/config_groups/group_0/weights/num_bits", 3, "weights.num_bits' is 3"},
      {"/config_groups/group_0/weights/num_bits", "4", "num_bits' must be"},
      {"/config_groups/group_0/weights/type", "float", "weights.type' is \"float\""},
      {"/config_groups/group_0/weights/symmetric", 1, "symmetric' must be"},
      {"/config_groups/group_0/weights/strategy", "group", "weights.group_size' is -1"},
      {"/config_groups/group_0/weights/strategy", "block", "weights.strategy' is \"block\""},
      {"/config_groups/group_0/weights/group_size", 128, "weights.group_size' is 128"},
      {"/config_groups/group_0/weights/dynamic", true, "weights.dynamic' is true"},
      {"/config_groups/group_0/weights/actorder", "group", "no groups to reorder"},
      {"/config_groups/group_0/weights/actorder", "random", "weights.actorder' is \"random\""},
      {"/config_groups/group_0/weights/block_structure", {128, 128}, "blocks"},
      {"/config_groups/group_0/weights/novelty", 1, "'novelty'"},
      {"/config_groups/group_0/input_activations/dynamic", false, "input_activations.strategy' is \"token\""},
      {"/config_groups/group_0/input_activations/dynamic", "local", "input_activations.dynamic' is \"local\""},
      {"/config_groups/group_0/input_activations/strategy", "tensor", "input_activations.strategy' is \"tensor\""},
      {"/config_groups/group_0/input_activations/symmetric", false, "zero point"},
      {"/config_groups/group_0/input_activations/num_bits", 4, "input_activations.num_bits' is 4"},
      {"/octet_attention", 8, "'octet_attention' must be an object"},
      {"/octet_attention",
       {{"strategy", "token"}, {"dynamic", true}, {"num_bits", 4}},
       "octet_attention.num_bits' is 4"},
      {"/octet_attention",
       {{"strategy", "tensor"}, {"dynamic", false}, {"num_bits", 8}, {"symmetric", false}},
       "octet_attention.symmetric' is false"},
      {"/kv_cache_scheme",
       {{"strategy", "tensor"}, {"dynamic", false}, {"num_bits", 8}},
       "'kv_cache_scheme' without attention of the same kind ('octet_attention')"},
      {"/kv_cache_scheme",
       {{"strategy", "tensor"}, {"dynamic", false}, {"num_bits", 8}, {"type", "float"}},
       "kv_cache_scheme.type' is \"float\""},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(message_of([&] { parse(changed(c.pointer, c.value)); }),
                AllOf(HasSubstr("config.json: "), HasSubstr(c.said)))
        << c.pointer << " = " << c.value;
  }
}

TEST(QuantizationConfig, StaticActivationsMayHaveAZeroPoint) {
  json config = uniform();
  json& group = config["config_groups"]["group_0"];
  group["input_activations"] = {{"num_bits", 8}, {"strategy", "tensor"}, {"dynamic", false}, {"symmetric", false}};
  EXPECT_EQ(parse(config).scheme_for("a")->scheme.activations, ActivationMode::kStaticPerTensorZeroPoint);
  group["weights"]["num_bits"] = 4;
  EXPECT_THAT(message_of([&] { parse(config); }), HasSubstr("need 8-bit ones"));
  group["input_activations"]["symmetric"] = true;
  EXPECT_EQ(parse(config).scheme_for("a")->scheme.activations, ActivationMode::kStaticPerTensor);
}

TEST(QuantizationConfig, WeightsMayHaveFourBitsGroupsAndZeroPoints) {
  const auto read = [](const json& changes) {
    json config = uniform();
    config["config_groups"]["group_0"]["weights"].update(changes);
    return parse(config).scheme_for("a")->scheme.weight;
  };
  EXPECT_EQ(read({{"num_bits", 4}}), (WeightScheme{.bits = 4}));
  for (const int64_t size : {32, 64, 128, 256}) {
    EXPECT_EQ(read({{"strategy", "group"}, {"group_size", size}}), (WeightScheme{.group_size = size}));
    EXPECT_EQ(read({{"strategy", nullptr}, {"group_size", size}}), (WeightScheme{.group_size = size}));
  }
  EXPECT_EQ(read({{"num_bits", 4},
                  {"strategy", "group"},
                  {"group_size", 128},
                  {"symmetric", false},
                  {"zp_dtype", "torch.int8"}}),
            (WeightScheme{.bits = 4, .group_size = 128, .mapping = CodeMapping::kZeroPoint}));
  EXPECT_EQ(read({{"symmetric", false}}), (WeightScheme{.mapping = CodeMapping::kZeroPoint}));
  EXPECT_EQ(read({{"strategy", "tensor"}}), WeightScheme{});
  EXPECT_EQ(read({{"strategy", nullptr}, {"group_size", nullptr}}), WeightScheme{});
  EXPECT_TRUE(parse(changed("/config_groups/group_0/weights/strategy", "tensor")).scheme_for("a")->one_scale);
  EXPECT_FALSE(parse(uniform()).scheme_for("a")->one_scale);
  EXPECT_NE(parse(changed("/use_optimized_inference", true)).scheme_for("a"), std::nullopt) << "how to load it";
  EXPECT_EQ(read({{"observer", "mse"}}).range, RangeEstimator::kMse);
  for (const json& observer : {json("minmax"), json("memoryless_minmax"), json(nullptr)}) {
    EXPECT_EQ(read({{"observer", observer}}).range, RangeEstimator::kAbsmax);
  }
  for (const int64_t size : {-2, 0, 1, 31, 48, 512}) {
    EXPECT_THAT(message_of([&] {
                  read({{"strategy", "group"}, {"group_size", size}});
                }),
                HasSubstr(fmt::format("weights.group_size' is {}", size)));
  }
}

TEST(QuantizationConfig, ALinearTargetIsNoEmbedding) {
  constexpr LayerKind kEmbedding = LayerKind::kEmbedding;
  EXPECT_EQ(parse(uniform()).scheme_for("model.embed_tokens", kEmbedding), std::nullopt);
  for (const char* target : {"Embedding", "model.embed_tokens", "re:.*embed.*"}) {
    const StoredQuantization stored = parse(changed("/config_groups/group_0/targets", {"Linear", target}));
    EXPECT_EQ(stored.scheme_for("model.embed_tokens", kEmbedding), (StoredScheme{kDynamic, kInt})) << target;
  }
  const StoredQuantization stored = parse(changed("/config_groups/group_0/targets", {"Embedding"}));
  EXPECT_EQ(stored.scheme_for("a"), std::nullopt);
  json config = changed("/config_groups/group_0/targets", {"Embedding", "Linear"});
  config["ignore"] = {"Linear"};
  EXPECT_EQ(parse(config).scheme_for("a"), std::nullopt);
  EXPECT_NE(parse(config).scheme_for("a", kEmbedding), std::nullopt);
}

TEST(QuantizationConfig, TheNumberOfPatternsIsBounded) {
  const auto patterns = [](int count) { return changed("/ignore", std::vector<std::string>(count, "re:a")); };
  EXPECT_NO_THROW(parse(patterns(1000)));
  EXPECT_THAT(message_of([&] { parse(patterns(1001)); }), HasSubstr("1001 layer patterns; at most 1000"));
}

TEST(QuantizationConfig, OneSchemeIsWrittenForEveryLinearLayer) {
  const std::vector<std::string> kept = {"pooler.dense"};
  const json config = quantization_config({{"a", kDynamic}, {"b", kDynamic}}, kept);
  EXPECT_EQ(config.at("format"), "int-quantized");
  EXPECT_EQ(config.at("config_groups").size(), 1u);
  EXPECT_EQ(config.at("config_groups").at("group_0").at("targets"), json({"Linear"}));
  EXPECT_EQ(config.at("ignore"), json(kept));
  EXPECT_EQ(parse(config).scheme_for("b"), (StoredScheme{kDynamic, kInt}));
  EXPECT_EQ(parse(config).scheme_for("pooler.dense"), std::nullopt);
}

TEST(QuantizationConfig, MixedSchemesAreWrittenByName) {
  const json config = quantization_config({{"a.x", kDynamic}, {"b", kWeightOnly}, {"c", kDynamic}}, {});
  EXPECT_EQ(config.at("format"), "mixed-precision");
  EXPECT_EQ(config.at("config_groups").size(), 2u);
  const StoredQuantization stored = parse(config);
  EXPECT_EQ(stored.scheme_for("a.x"), (StoredScheme{kDynamic, kInt}));
  EXPECT_EQ(stored.scheme_for("b"), (StoredScheme{kWeightOnly, kPack}));
  EXPECT_EQ(stored.scheme_for("c"), (StoredScheme{kDynamic, kInt}));
  EXPECT_EQ(stored.scheme_for("aXx"), std::nullopt);
}

TEST(QuantizationConfig, EverySchemeComesBackAsItWasWritten) {
  for (const int bits : {8, 4}) {
    for (const int64_t group_size : {0, 32, 64, 128, 256}) {
      for (const CodeMapping mapping : {CodeMapping::kSymmetric, CodeMapping::kZeroPoint}) {
        for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse}) {
          for (const ActivationMode mode :
               {ActivationMode::kFloat, ActivationMode::kDynamicPerToken, ActivationMode::kStaticPerTensor,
                ActivationMode::kStaticPerTensorZeroPoint}) {
            if (bits == 8 && mapping != CodeMapping::kSymmetric) continue;
            if (bits == 4 && mode == ActivationMode::kStaticPerTensorZeroPoint) continue;
            const Scheme scheme{{bits, group_size, mapping, range}, mode};
            const std::optional<StoredScheme> back = parse(quantization_config({{"a", scheme}}, {})).scheme_for("a");
            EXPECT_EQ(back, (StoredScheme{scheme, format_for(scheme)})) << to_string(scheme);
          }
        }
      }
    }
  }
}

// Of weights what is stored, of activations what they are clamped to.
TEST(QuantizationConfig, FewerBitsAreSaidOfActivationsAndNotOfWeights) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const ActivationMode mode : {ActivationMode::kStaticPerTensor, ActivationMode::kStaticPerTensorZeroPoint}) {
      Scheme scheme{{.bits = 8, .unused_bits = 3}, mode, bits};
      const json config = quantization_config({{"a", scheme}, {"b", {{.bits = 8}, mode, bits}}}, {});
      EXPECT_EQ(config.at("config_groups").size(), 1u);
      EXPECT_EQ(config.at("config_groups").at("group_0").at("input_activations").at("num_bits"), bits);
      scheme.weight.unused_bits = 0;
      EXPECT_EQ(parse(config).scheme_for("a"), (StoredScheme{scheme, kInt}));
    }
    for (const AttentionBits attention : {AttentionBits{bits, bits}, {8, bits}, {bits, 3}}) {
      const json config =
          quantization_config({{"a", kWeightOnly}}, {}, {}, ActivationMode::kStaticPerTensor, attention);
      EXPECT_EQ(parse(config).attention_bits(), attention);
      EXPECT_EQ(config.at("kv_cache_scheme").is_null(), attention.qk != attention.v);
    }
  }
  for (const int bits : {1, 9}) {
    json group = changed("/config_groups/group_0/input_activations/num_bits", bits);
    group["config_groups"]["group_0"]["input_activations"].update({{"dynamic", false}, {"strategy", "tensor"}});
    EXPECT_THAT(message_of([&] { parse(group); }), HasSubstr("2 to 7 where scales are not dynamic"));
  }
  json other = quantization_config({{"a", kWeightOnly}}, {}, {}, ActivationMode::kStaticPerTensor, {.qk = 4, .v = 4});
  other["kv_cache_scheme"]["num_bits"] = 8;
  EXPECT_THAT(message_of([&] { parse(other); }), HasSubstr("without attention of the same kind"));
  EXPECT_THAT(message_of([&] { parse(changed("/config_groups/group_0/weights/v_bits", 4)); }),
              HasSubstr("it is said of attention"));
}

TEST(QuantizationConfig, EmbeddingsAreWrittenByNameBesideTheLinearLayers) {
  constexpr LayerKind kEmbedding = LayerKind::kEmbedding;
  const Scheme int4{.weight = {.bits = 4, .group_size = 64}};
  const json config = quantization_config({{"a", int4}, {"b", int4}}, {},
                                          {{"model.embed_tokens", kWeightOnly}, {"lm_head", kWeightOnly}});
  EXPECT_EQ(config.at("config_groups").at("group_0").at("targets"), json({"Linear"}));
  EXPECT_EQ(config.at("config_groups").at("group_1").at("targets"), json({"lm_head", "model.embed_tokens"}));
  EXPECT_EQ(config.at("format"), "mixed-precision");
  const StoredQuantization stored = parse(config);
  EXPECT_EQ(stored.scheme_for("a"), (StoredScheme{int4, kPack}));
  EXPECT_EQ(stored.scheme_for("model.embed_tokens", kEmbedding), (StoredScheme{kWeightOnly, kInt}));
  EXPECT_EQ(stored.scheme_for("lm_head"), (StoredScheme{kWeightOnly, kInt}));

  // An embedding reads ids, its head activations.
  const json dynamic =
      quantization_config({{"a", kDynamic}}, {}, {{"model.embed_tokens", kWeightOnly}, {"lm_head", kDynamic}});
  EXPECT_EQ(dynamic.at("format"), "int-quantized");
  EXPECT_EQ(parse(dynamic).scheme_for("model.embed_tokens", kEmbedding), (StoredScheme{kWeightOnly, kInt}));
  EXPECT_EQ(parse(dynamic).scheme_for("lm_head"), (StoredScheme{kDynamic, kInt}));

  const StoredQuantization alone =
      parse(quantization_config({}, std::vector<std::string>{"a"}, {{"model.embed_tokens", kWeightOnly}}));
  EXPECT_EQ(alone.scheme_for("a"), std::nullopt);
  EXPECT_NE(alone.scheme_for("model.embed_tokens", kEmbedding), std::nullopt);
}

TEST(QuantizationConfig, Int8AttentionIsAKeyOfItsOwnThatIsThereOnlyThen) {
  const json config = quantization_config({{"a", kWeightOnly}}, {}, {}, ActivationMode::kDynamicPerToken);
  EXPECT_EQ(config.at("octet_attention"), activations());
  EXPECT_EQ(config.at("kv_cache_scheme"), nullptr);
  EXPECT_EQ(parse(config).attention(), ActivationMode::kDynamicPerToken);
  const json without = quantization_config({{"a", kWeightOnly}}, {});
  EXPECT_FALSE(without.contains("octet_attention"));
  EXPECT_EQ(parse(without).attention(), ActivationMode::kFloat);
}

TEST(QuantizationConfig, StaticAttentionSaysWhatTheCacheHoldsInTheLibrarysWordsToo) {
  const json config = quantization_config({{"a", kWeightOnly}}, {}, {}, ActivationMode::kStaticPerTensor);
  EXPECT_EQ(config.at("kv_cache_scheme"),
            parse_json(R"({"num_bits": 8, "type": "int", "symmetric": true, "strategy": "tensor", "dynamic": false})",
                       "the test"));
  EXPECT_EQ(config.at("octet_attention"), config.at("kv_cache_scheme"));
  EXPECT_EQ(parse(config).attention(), ActivationMode::kStaticPerTensor);
}

TEST(QuantizationConfig, TheModelsConfigKeepsItsKeysAndIsInFloat32) {
  const Config config =
      Config::parse(R"({"hidden_size": 4, "torch_dtype": "float16", "odd": [1, null]})", "config.json");
  const json out = quantized_model_config(config, {{"a", kWeightOnly}}, {});
  EXPECT_EQ(out.at("hidden_size"), 4);
  EXPECT_EQ(out.at("odd"), parse_json("[1, null]", "the test"));
  EXPECT_EQ(out.at("dtype"), "float32");
  EXPECT_FALSE(out.contains("torch_dtype"));
  EXPECT_EQ(out.at("quantization_config").at("format"), "pack-quantized");
}

TEST(QuantizationConfig, OutlierColumnsAreAnArgumentOfWeightsThatOthersRefuse) {
  Scheme kept = kDynamic;
  kept.weight.outliers = true;
  const json config = quantization_config({{"a", kDynamic}, {"b", kept}}, {});
  EXPECT_EQ(parse(config).scheme_for("a"), (StoredScheme{kDynamic, kInt}));
  EXPECT_EQ(parse(config).scheme_for("b"), (StoredScheme{kept, kInt}));
  int marked = 0;
  for (const json& group : config.at("config_groups")) {
    // compressed-tensors validates these arguments with extra="forbid".
    marked += group.at("weights").contains("octet_outlier_columns") ? 1 : 0;
    EXPECT_EQ(group.at("weights").contains("octet_outlier_columns"), group.at("targets") == json{"b"});
  }
  EXPECT_EQ(marked, 1);
  EXPECT_THAT(
      message_of([&] { parse(changed("/config_groups/group_0/input_activations/octet_outlier_columns", true)); }),
      HasSubstr("it is said of weights"));
}

}  // namespace
}  // namespace octet

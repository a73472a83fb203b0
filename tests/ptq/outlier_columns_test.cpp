// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/eval/benchmark.h"
#include "octet/models/session.h"
#include "octet/ptq/block_stream.h"
#include "octet/ptq/quantize_model.h"
#include "tests/io/scratch.h"
#include "tests/ptq/rewritten_model.h"

namespace octet {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::filesystem::path golden_model(const std::string& name) { return std::filesystem::path(OCTET_GOLDEN) / name; }

CalibrationData data_for(const std::filesystem::path& model) {
  const std::unique_ptr<Model> floats = load_model(Checkpoint::open(model), nullptr);
  return {.samples = random_batch(floats->info(), 24, 20), .options = {}, .sha256 = "of a test"};
}

// ‖a - b‖ / ‖b‖ of outputs.
double distance(const Tensor& x, const Tensor& y) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < x.as<float>().size(); ++i) {
    error += std::pow(double{x.as<float>()[i]} - y.as<float>()[i], 2);
    norm += std::pow(double{y.as<float>()[i]}, 2);
  }
  return std::sqrt(error / norm);
}

class OutlierColumnsOfModels : public ScratchFolder {
 protected:
  QuantizeReport quantize(const std::filesystem::path& model, const Recipe& recipe, const std::string& out,
                          int threads = 0) {
    const CalibrationData data = data_for(model);
    QuantizeModelOptions options;
    options.data = &data;
    options.cpu.threads = threads;
    return quantize_model(Checkpoint::open(model), recipe, folder_ / out, options);
  }
  Tensor run(const std::filesystem::path& model, const std::optional<Recipe>& recipe = std::nullopt) {
    Session session(model, {.recipe = recipe, .cpu = {}});
    return session.run(random_batch(session.model().info(), 4, 19));
  }
  int written_ = 0;

  // The same function, but channel 5 of what query, key and value of the second block read is so much larger.
  std::filesystem::path with_outlier_channel(float factor) {
    const std::string block = "model.layers.1.";
    std::map<std::string, Tensor> tensors = tensors_of(Checkpoint::open(golden_model("llama_base")));
    tensors.at(block + "input_layernorm.weight").mutable_as<float>()[5] *= factor;
    for (const char* layer : {"q_proj", "k_proj", "v_proj"}) {
      Tensor& weight = tensors.at(block + "self_attn." + layer + ".weight");
      const int64_t cols = weight.shape()[1];
      for (int64_t row = 0; row < weight.shape()[0]; ++row) weight.mutable_as<float>()[row * cols + 5] /= factor;
    }
    write_model(golden_model("llama_base"), json::object(), std::move(tensors), folder_ / "outlier");
    return folder_ / "outlier";
  }
};

// What a recipe that searches found, as one that says it.
json columns_of(const std::filesystem::path& written) {
  json columns = json::object();
  const std::unique_ptr<Model> model = load_model(Checkpoint::open(written), nullptr);
  for (const Linear::Part* part : model->linear_parts()) {
    if (!part->weight.outlier_columns.empty()) columns[part->weight.layer] = part->weight.outlier_columns;
  }
  return columns;
}

TEST_F(OutlierColumnsOfModels, TheChannelBeyondTheThresholdIsFoundAndSavesTheOthers) {
  const std::filesystem::path model = with_outlier_channel(300);
  const Tensor exact = run(model);
  for (const std::string base : {"w8a8_dynamic", "w8a8_static"}) {
    SCOPED_TRACE(base);
    std::vector<std::string> none, some = {"outliers.threshold=100"};
    if (base == "w8a8_static") none.emplace_back("activations.range=minmax");
    some.insert(some.end(), none.begin(), none.end());
    quantize(model, Recipe::load(base, none), base);
    const QuantizeReport report = quantize(model, Recipe::load(base, some), base + "_outliers");
    for (const LayerReport& layer : report.layers) {
      const bool reads_it = layer.name.starts_with("model.layers.1.self_attn.") && !layer.name.ends_with("o_proj");
      EXPECT_EQ(layer.outlier_columns, reads_it ? 1 : 0) << layer.name;
      EXPECT_EQ(layer.outlier_bytes > 0, reads_it);
      EXPECT_EQ(layer.scheme && layer.scheme->weight.outliers, reads_it) << layer.name;
    }
    const json columns = columns_of(folder_ / (base + "_outliers"));
    EXPECT_EQ(columns.size(), 3u);
    EXPECT_EQ(columns.at("model.layers.1.self_attn.v_proj"), json{5});
    const double without = distance(run(folder_ / base), exact),
                 with = distance(run(folder_ / (base + "_outliers")), exact);
    EXPECT_LT(with, without / 2);
    EXPECT_LT(with, 0.1);
  }
}

TEST_F(OutlierColumnsOfModels, WhatIsWrittenIsWhatTheColumnsGiveWhileLoading) {
  const std::string search = R"("outliers": {"threshold": 0, "max_share": 0.1})";
  for (const auto& [name, recipe] : {
           std::pair{"llama_base", R"("weights": {"bits": 8}, "activations": {"range": "minmax", "mode": "static"})"},
           std::pair{
               "gpt2",
               R"("weights": {"bits": 8}, "activations": {"range": "minmax", "mode": "static", "symmetric": false})"},
           std::pair{"bert_base", R"("weights": {"bits": 4, "group_size": 32, "group_size_fallback": ["row"]},
                                     "activations": {})"},
           std::pair{"llama_tied", R"("weights": {"bits": 4, "group_size": 32, "group_size_fallback": ["row"],
                                      "symmetric": false})"},
       }) {
    SCOPED_TRACE(std::string(name) + recipe);
    const std::filesystem::path model = golden_model(name);
    const std::string out = "out" + std::to_string(written_++);
    const QuantizeReport report =
        quantize(model, Recipe::parse(fmt::format("{{{}, {}}}", recipe, search), "search"), out, 1 + written_ % 2);
    const Checkpoint written = Checkpoint::open(folder_ / out);
    EXPECT_EQ(report.bytes_after, written.bytes());
    for (const LayerReport& layer : report.layers) {
      EXPECT_EQ(layer.outlier_columns, layer.scheme ? layer.inputs / 10 : 0) << layer.name;
    }
    // The same columns, and scales, said beforehand.
    json given = parse_json(fmt::format("{{{}}}", recipe), "the test");
    given["outliers"]["columns"] = columns_of(folder_ / out);
    for (const SiteReport& site : report.sites) {
      given["activation_scales"][site.site] = {{"scale", site.estimate.scale.scale},
                                               {"zero_point", site.estimate.scale.zero_point}};
    }
    const Recipe while_loading = Recipe::parse(json_text(given), "given");
    const Checkpoint floats = Checkpoint::open(model);
    EXPECT_EQ(stored_bytes(floats, *load_model(floats, &while_loading)), written.bytes());
    const Tensor y = run(folder_ / out);
    EXPECT_EQ(bytes_of(y), bytes_of(run(model, while_loading)));
    EXPECT_LT(distance(y, run(model)), 0.3);
    // And written without data.
    quantize_model(floats, while_loading, folder_ / (out + "_given"));
    EXPECT_EQ(bytes_of(run(folder_ / (out + "_given"))), bytes_of(y));
  }
}

// Which columns those are, counted otherwise: every site's inputs in the float model.
TEST_F(OutlierColumnsOfModels, AreThoseOfTheLargestMagnitudes) {
  const std::filesystem::path path = golden_model("llama_base");
  const OutlierOptions options{.threshold = 1.5f, .max_columns = 6};
  quantize(path,
           Recipe::parse(R"({"weights": {}, "activations": {},
      "outliers": {"threshold": 1.5, "max_columns": 6}})",
                         "r"),
           "out");
  const std::unique_ptr<Backend> backend = make_cpu_backend({});  // outlives the model that it lays out
  const std::unique_ptr<Model> written = load_model(Checkpoint::open(folder_ / "out"), nullptr),
                               floats = load_model(Checkpoint::open(path), nullptr);
  std::map<std::string, std::vector<int32_t>> found;
  for (const Linear::Part* part : written->linear_parts()) found[part->weight.layer] = part->weight.outlier_columns;
  const CalibrationData data = data_for(path);
  BlockStream stream(*floats, *backend, data.samples);
  int64_t columns = 0;
  while (!stream.done()) {
    std::vector<int> sites;
    std::map<int, std::vector<float>> absmax;
    const std::vector<Linear*> linears = floats->piece(stream.piece()).linears;
    for (const Linear* linear : linears) {
      sites.push_back(linear->site().id);
      absmax[linear->site().id].resize(static_cast<size_t>(linear->inputs()));
    }
    stream.run(BlockStream::Outputs::kTaken, sites, [&](const SiteInput& input) {
      for (size_t i = 0; i < input.rows.size(); ++i) {
        float& largest = absmax.at(input.site.id)[i % static_cast<size_t>(input.columns)];
        largest = std::max(largest, std::fabs(input.rows[i]));
      }
    });
    for (const Linear* linear : linears) {
      for (const Linear::Part& part : linear->parts()) {
        if (!found.contains(part.weight.layer) || part.weight.over_vocabulary) continue;
        const std::vector<int32_t> expected = find_outlier_columns(absmax.at(linear->site().id), options);
        EXPECT_EQ(found.at(part.weight.layer), expected) << part.weight.layer;
        columns += std::ssize(expected);
      }
    }
  }
  EXPECT_GT(columns, 0);
}

TEST_F(OutlierColumnsOfModels, AlgorithmsLeaveThemOutAndOthersAreRefused) {
  const std::filesystem::path path = golden_model("llama_base");
  for (const std::string recipe : {"w4a16_g32_gptq", "w4a16_g128_hqq", "w8a8_smoothquant"}) {
    SCOPED_TRACE(recipe);
    const std::vector<std::string> some = {R"(outliers={"threshold": 0, "max_columns": 3})"};
    const QuantizeReport report = quantize(path, Recipe::load(recipe, some), recipe);
    for (const LayerReport& layer : report.layers) {
      EXPECT_EQ(layer.outlier_columns, layer.scheme ? 3 : 0) << layer.name;
    }
    EXPECT_LT(distance(run(folder_ / recipe), run(path)), 0.6);
  }
  const Checkpoint floats = Checkpoint::open(path);
  const Recipe searched = Recipe::load("w8a8_dynamic_outliers", {});
  EXPECT_THAT(message_of<UsageError>([&] { load_model(floats, &searched); }), HasSubstr("outlier columns"));
  EXPECT_THAT(message_of<UsageError>([&] { quantize_model(floats, searched, folder_ / "x"); }),
              HasSubstr("a search of outlier columns needs calibration data"));
  const Recipe at_odds = Recipe::parse(
      R"({"name": "odd", "weights": {}, "outliers": {}, "overrides": [{"match": "*.k_proj", "outliers": null}]})", "r");
  EXPECT_THAT(message_of<UsageError>([&] { quantize(path, at_odds, "x"); }), HasSubstr("give them the same outliers"));
}

}  // namespace
}  // namespace octet

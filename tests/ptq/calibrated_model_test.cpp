// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <map>

#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/eval/benchmark.h"
#include "octet/models/session.h"
#include "octet/ptq/quantize_model.h"
#include "octet/ptq/quantize_pieces.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

std::filesystem::path golden_model(const std::string& name) { return std::filesystem::path(OCTET_GOLDEN) / name; }

Recipe recipe_of(const std::string& text) { return Recipe::parse(text, "test"); }

const char* const kGptq = R"({"name": "gptq", "weights": {"bits": 4, "group_size": 32, "group_size_fallback": ["row"],
  "algorithm": "gptq", "act_order": true, "static_groups": true}})";

class CalibratedModel : public ScratchFolder {
 protected:
  static CalibrationData data_for(const std::string& model, int64_t samples = 24) {
    const std::unique_ptr<Model> floats = load_model(Checkpoint::open(golden_model(model)), nullptr);
    return {.samples = random_batch(floats->info(), samples, 20), .options = {}, .sha256 = "of a test"};
  }
  QuantizeReport quantize(const std::string& model, const Recipe& recipe, const std::string& out,
                          const CalibrationData& data, int threads = 0) {
    QuantizeModelOptions options;
    options.data = &data;
    options.cpu.threads = threads;
    return quantize_model(Checkpoint::open(golden_model(model)), recipe, folder_ / out, options);
  }
  // ‖a - b‖ / ‖b‖ of the outputs of two models.
  static double distance(const std::filesystem::path& a, const std::filesystem::path& b) {
    Session first(a), second(b);
    const TokenBatch batch = random_batch(second.model().info(), 4, 19);
    const Tensor x = first.run(batch), y = second.run(batch);
    double error = 0, norm = 0;
    for (int64_t i = 0; i < y.shape().elements(); ++i) {
      error += std::pow(double{x.as<float>()[i]} - y.as<float>()[i], 2);
      norm += std::pow(double{y.as<float>()[i]}, 2);
    }
    return std::sqrt(error / norm);
  }
};

TEST_F(CalibratedModel, StaticScalesAreFoundForEncodersAndDecoders) {
  for (const std::string model : {"llama_base", "llama_tied", "gpt2", "opt_projected", "phi", "bert_base", "electra",
                                  "bert_sequence_classification"}) {
    SCOPED_TRACE(model);
    for (const std::string method : {"minmax", "best"}) {
      const std::vector<std::string> settings = {"activations.range=" + method};
      const std::string out = model + "." + method;
      const QuantizeReport report = quantize(model, Recipe::load("w8a8_static", settings), out, data_for(model));
      ASSERT_FALSE(report.sites.empty());
      for (const SiteReport& site : report.sites) {
        EXPECT_FALSE(site.given);
        EXPECT_GT(site.estimate.scale.scale, 0);
        if (method == "minmax") {
          EXPECT_EQ(site.estimate.loss.clipped_share, 0) << site.site;
        }
      }
      EXPECT_LT(distance(folder_ / out, golden_model(model)), 0.2);
      const Checkpoint written = Checkpoint::open(folder_ / out);
      const json calibration = written.config().json().at("octet_calibration");
      EXPECT_EQ(calibration.at("samples"), 24);
      EXPECT_EQ(calibration.at("data").at("sha256"), "of a test");
      EXPECT_EQ(calibration.at("activation_ranges").size(), report.sites.size());
    }
  }
}

TEST_F(CalibratedModel, AStaticHeadIsCalibratedToo) {
  for (const std::string model : {"llama_base", "llama_tied"}) {
    const std::vector<std::string> settings = {"embeddings=8", "activations.range=minmax"};
    const QuantizeReport report = quantize(model, Recipe::load("w8a8_static", settings), model, data_for(model));
    EXPECT_EQ(report.sites.back().site, "lm_head");
    EXPECT_LT(distance(folder_ / model, golden_model(model)), 0.2);
  }
}

std::vector<std::string> static_attention(const std::string& range = "mse") {
  return {R"(attention={"bits": 8, "mode": "static", "range": ")" + range + "\"}"};
}

TEST_F(CalibratedModel, StaticAttentionIsCalibratedWrittenAndLoaded) {
  for (const auto& [model, module] :
       {std::pair{"llama_tied", "model.layers.0.self_attn"}, std::pair{"mistral_window", "model.layers.0.self_attn"},
        std::pair{"gpt2", "transformer.h.0.attn"}, std::pair{"gpt_neox", "gpt_neox.layers.0.attention"},
        std::pair{"bert_base", "encoder.layer.0.attention.self"}}) {
    SCOPED_TRACE(model);
    const CalibrationData data = data_for(model);
    const QuantizeReport report =
        quantize(model, Recipe::load("w8a8_dynamic", static_attention("minmax")), model, data);
    const Checkpoint written = Checkpoint::open(folder_ / model), floats = Checkpoint::open(golden_model(model));
    EXPECT_LT(distance(folder_ / model, golden_model(model)), 0.2);
    json scales = json::object();
    Session session(folder_ / model);
    EXPECT_EQ(session.model().info().attention, ActivationMode::kStaticPerTensor);
    for (const AttentionSite& attention : session.model().attention_sites()) {
      for (const auto& [operand, scale] : {std::pair{"q", attention.scales.q}, std::pair{"k", attention.scales.k},
                                           std::pair{"v", attention.scales.v}}) {
        const std::string name = attention_operand(attention.site, operand);
        EXPECT_EQ(written.tensor(name + "_scale").as<float>()[0], scale);
        const auto site = std::ranges::find(report.sites, name, &SiteReport::site);
        ASSERT_NE(site, report.sites.end()) << name;
        EXPECT_FALSE(site->given);
        EXPECT_EQ(site->estimate.scale.scale, scale);
        EXPECT_EQ(site->estimate.loss.clipped_share, 0);
        scales[name] = scale;
      }
    }
    EXPECT_EQ(scales.size(), report.sites.size());
    EXPECT_TRUE(scales.contains(std::string(module) + ".k"));

    // The same bits as of the float model by the same scales, quantized while loading.
    std::vector<std::string> settings = static_attention();
    settings.push_back("activation_scales=" + json_text(scales));
    const Recipe given = Recipe::load("w8a8_dynamic", settings);
    Session loading(golden_model(model), {.recipe = given, .cpu = {}});
    EXPECT_TRUE(unmatched_patterns(given, loading.model()).empty());
    const TokenBatch batch = random_batch(session.model().info(), 4, 19);
    EXPECT_EQ(bytes_of(session.run(batch)), bytes_of(loading.run(batch)));
    // And of what is written without data by them.
    quantize_model(floats, given, folder_ / (std::string(model) + ".given"));
    EXPECT_EQ(bytes_of(Session(folder_ / (std::string(model) + ".given")).run(batch)), bytes_of(loading.run(batch)));
    EXPECT_EQ(stored_bytes(floats, loading.model()),
              Checkpoint::open(folder_ / (std::string(model) + ".given")).bytes());
  }
}

TEST_F(CalibratedModel, StaticAttentionWithoutAScaleNamesWhatLacksIt) {
  const Checkpoint floats = Checkpoint::open(golden_model("llama_base"));
  std::vector<std::string> settings = static_attention();
  settings.emplace_back(
      R"(activation_scales={"model.layers.0.self_attn.{q,k,v}": 0.02, "model.layers.1.self_attn.q": 0.02})");
  const Recipe partly = Recipe::load("w8a8_dynamic", settings);
  const auto says =
      AllOf(HasSubstr("static attention has no scale for 'model.layers.1.self_attn.k'"), HasSubstr("--data TEXT"));
  EXPECT_THAT(message_of<UsageError>([&] { load_model(floats, &partly); }), says);
  EXPECT_THAT(message_of<UsageError>([&] { quantize_model(floats, partly, folder_ / "x"); }), says);
  // Those that are given stay, and are measured.
  const QuantizeReport report = quantize("llama_base", partly, "partly", data_for("llama_base"));
  const Checkpoint written = Checkpoint::open(folder_ / "partly");
  EXPECT_EQ(written.tensor("model.layers.0.self_attn.v_scale").as<float>()[0], 0.02f);
  EXPECT_EQ(std::ranges::count(report.sites, true, &SiteReport::given), 4);
  // A recipe that does not say where its weights come from still finds that out before it writes.
  const std::vector<std::string> offline = static_attention();
  const Recipe hqq = Recipe::load("w4a16_g128_hqq", offline);
  EXPECT_THAT(message_of<UsageError>([&] { quantize_model(floats, hqq, folder_ / "x"); }),
              HasSubstr("no scale for 'model.layers.0.self_attn.q'"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x"));
}

TEST_F(CalibratedModel, SmoothQuantChangesNothingButRounding) {
  for (const std::string model : {"llama_base", "gpt2", "opt", "bert_base", "gptj", "phi"}) {
    SCOPED_TRACE(model);
    const Checkpoint checkpoint = Checkpoint::open(golden_model(model));
    const CalibrationData data = data_for(model);
    // Ranges are found on the folded float model, whose hidden states go on.
    const Recipe recipe = Recipe::load("w8a8_smoothquant_static", {});
    std::map<std::string, LayerTarget> targets;
    const Recipe to_load = recipe.to_be_calibrated();
    const std::unique_ptr<Model> planned = load_model(checkpoint, &to_load);
    for (const Linear::Part* part : planned->linear_parts()) {
      const std::optional<Scheme>& scheme = part->weight.scheme;
      if (scheme) targets[part->weight.layer] = {.scheme = *scheme, .static_scale = is_static(scheme->activations)};
    }
    const std::unique_ptr<Backend> backend = make_cpu_backend({});
    const std::unique_ptr<Model> floats = load_model(checkpoint, nullptr), folded = load_model(checkpoint, nullptr);
    BlockStream before(*floats, *backend, data.samples), after(*folded, *backend, data.samples);
    PieceQuantizer quantizer(checkpoint, recipe, targets, *folded, *backend);
    size_t folds = 0;
    while (after.piece() < folded->pieces() - 1) {
      before.run(BlockStream::Outputs::kTaken);
      folds += quantizer.quantize(after).folds.size();
    }
    EXPECT_EQ(folds, floats->fold_pairs().size());
    double error = 0, norm = 0;
    for (size_t i = 0; i < before.hidden_states().size(); ++i) {
      const double want = before.hidden_states()[i];
      error = std::max(error, std::abs(want - after.hidden_states()[i]));
      norm = std::max(norm, std::abs(want));
    }
    EXPECT_GT(error, 0) << "nothing was folded";
    EXPECT_LT(error / norm, 1e-5);
  }
}

TEST_F(CalibratedModel, EveryRecipeWithDataIsWrittenAndRuns) {
  for (const std::string& name : Recipe::built_in_names(Recipe::AppliesTo::kFloatOffline)) {
    SCOPED_TRACE(name);
    for (const std::string model : {"llama_tied", "gpt2", "bert_base"}) {
      const QuantizeReport report = quantize(model, Recipe::load(name, {}), name + model, data_for(model));
      for (const LayerReport& layer : report.layers) {
        if (layer.scheme) {
          EXPECT_GT(layer.relative_error, 0) << layer.name;
        }
      }
      EXPECT_LT(distance(folder_ / (name + model), golden_model(model)), 0.6) << model;
    }
  }
}

TEST_F(CalibratedModel, TheResultDoesNotDependOnThreads) {
  for (const Recipe& recipe : {recipe_of(kGptq), Recipe::load("w8a8_smoothquant_static", static_attention()),
                               Recipe::load("w4a16_g128_awq", {})}) {
    const CalibrationData data = data_for("llama_base");
    quantize("llama_base", recipe, "one", data, 1);
    quantize("llama_base", recipe, "three", data, 3);
    EXPECT_EQ(files_in(folder_ / "one"), files_in(folder_ / "three")) << recipe.name();
    std::filesystem::remove_all(folder_ / "one");
    std::filesystem::remove_all(folder_ / "three");
  }
}

TEST_F(CalibratedModel, AKilledRunIsTakenUpAndGivesTheSameFiles) {
  for (const std::string& text :
       {std::string(kGptq), Recipe::load("w8a8_smoothquant_static", static_attention()).text()}) {
    const Recipe recipe = recipe_of(text);
    const Checkpoint floats = Checkpoint::open(golden_model("llama_base"));
    const CalibrationData data = data_for("llama_base");
    quantize("llama_base", recipe, "whole", data);
    // What is on the disk when so many samples have passed is what a run that is killed there leaves.
    const std::filesystem::path partial = folder_ / ".out.partial", left = folder_ / "left";
    int64_t passes = 0;
    {
      QuantizeModelOptions options;
      options.data = &data;
      options.advance_calibration = [&](int64_t, int64_t total) { passes = total; };
      quantize_model(floats, recipe, folder_ / "out", options);
      std::filesystem::remove_all(folder_ / "out");
    }
    for (int64_t at = 24; at < passes; at += 48) {
      SCOPED_TRACE(at);
      QuantizeModelOptions options;
      options.data = &data;
      options.advance_calibration = [&](int64_t done, int64_t) {
        if (done != at) return;
        std::filesystem::copy(partial, left, std::filesystem::copy_options::recursive);
      };
      quantize_model(floats, recipe, folder_ / "out", options);
      std::filesystem::remove_all(folder_ / "out");
      ASSERT_TRUE(std::filesystem::exists(left));
      std::filesystem::rename(left, partial);
      int64_t first = -1;
      options.advance_calibration = [&](int64_t done, int64_t) { first = first < 0 ? done : first; };
      quantize_model(floats, recipe, folder_ / "out", options);
      EXPECT_EQ(files_in(folder_ / "out"), files_in(folder_ / "whole"));
      std::filesystem::remove_all(folder_ / "out");
    }
    std::filesystem::remove_all(folder_ / "whole");
  }
}

TEST_F(CalibratedModel, AnExceptionLeavesNothingBehind) {
  const CalibrationData data = data_for("llama_base");
  QuantizeModelOptions options;
  options.data = &data;
  options.advance_calibration = [](int64_t done, int64_t) {
    if (done > 60) throw Error("enough");
  };
  EXPECT_THROW(quantize_model(Checkpoint::open(golden_model("llama_base")), recipe_of(kGptq), folder_ / "out", options),
               Error);
  EXPECT_EQ(entries(), 0);
}

TEST_F(CalibratedModel, WhatGoesOnIsWhatTheWrittenModelGives) {
  const Recipe recipe = recipe_of(kGptq);
  const CalibrationData data = data_for("llama_base");
  quantize("llama_base", recipe, "out", data);
  const Checkpoint checkpoint = Checkpoint::open(golden_model("llama_base"));
  std::map<std::string, LayerTarget> targets;
  const Recipe to_load = recipe.to_be_calibrated();
  const std::unique_ptr<Backend> backend = make_cpu_backend({});  // outlives what is laid out for it
  const std::unique_ptr<Model> planned = load_model(checkpoint, &to_load), floats = load_model(checkpoint, nullptr);
  for (const Linear::Part* part : planned->linear_parts()) {
    if (part->weight.scheme) targets[part->weight.layer] = {.scheme = *part->weight.scheme};
  }
  BlockStream stream(*floats, *backend, data.samples);
  PieceQuantizer quantizer(checkpoint, recipe, targets, *floats, *backend);
  while (stream.piece() < floats->pieces() - 1) quantizer.quantize(stream);

  Session session(folder_ / "out");
  const Workspace::Scope scope(session.workspace());
  Context context = session.context();
  const Activation x = session.model().hidden_states(context, upload(context, data.samples));
  std::vector<float> states(static_cast<size_t>(x.rows * x.cols));
  session.backend().download(x, states);
  EXPECT_TRUE(std::ranges::equal(stream.hidden_states(), states));
}

TEST_F(CalibratedModel, BiasesAreCorrectedWhereThereAreSome) {
  const Recipe recipe = recipe_of(
      R"({"name": "b", "weights": {"bits": 4, "group_size": 32, "group_size_fallback": ["row"]}, "bias_correction": true})");
  const QuantizeReport report = quantize("bert_base", recipe, "out", data_for("bert_base"));
  EXPECT_TRUE(report.notes.empty());
  const std::string bias = "encoder.layer.0.intermediate.dense.bias";
  EXPECT_NE(bytes_of(Checkpoint::open(folder_ / "out").tensor(bias)),
            bytes_of(Checkpoint::open(golden_model("bert_base")).tensor(bias)));
  const QuantizeReport without = quantize("llama_base", recipe, "llama", data_for("llama_base"));
  EXPECT_THAT(without.notes, testing::ElementsAre(HasSubstr("have no bias to correct")));
}

TEST_F(CalibratedModel, WhatNeedsDataSaysSo) {
  const Checkpoint floats = Checkpoint::open(golden_model("llama_base"));
  for (const auto& [name, what] : {std::pair{"w4a16_g128_gptq", "GPTQ"}, std::pair{"w4a16_g128_awq", "AWQ"},
                                   std::pair{"w8a8_smoothquant", "SmoothQuant"}}) {
    const Recipe recipe = Recipe::load(name, {});
    EXPECT_THAT(message_of<UsageError>([&] { quantize_model(floats, recipe, folder_ / "x"); }),
                AllOf(HasSubstr(what), HasSubstr("--data TEXT")));
    EXPECT_THAT(message_of<UsageError>([&] { load_model(floats, &recipe); }),
                AllOf(HasSubstr(what), HasSubstr("octet quantize MODEL --recipe"), HasSubstr("--data TEXT")));
  }
  const Recipe fixed = Recipe::load("w8a8_static", {}), hqq = Recipe::load("w4a16_g128_hqq", {});
  EXPECT_THAT(message_of<UsageError>([&] { quantize_model(floats, fixed, folder_ / "x"); }),
              AllOf(HasSubstr("layer 'model.layers.0.self_attn.q_proj'"), HasSubstr("--data TEXT")));
  EXPECT_THAT(message_of<UsageError>([&] { load_model(floats, &hqq); }), HasSubstr("octet quantize MODEL"));
  quantize_model(floats, hqq, folder_ / "hqq");
  EXPECT_LT(distance(folder_ / "hqq", golden_model("llama_base")), 0.6);
  const CalibrationData data = data_for("llama_base");
  EXPECT_THAT(quantize("llama_base", Recipe::load("w8a16", {}), "plain", data).notes,
              testing::ElementsAre(HasSubstr("needs no calibration data")));
  EXPECT_FALSE(Checkpoint::open(folder_ / "plain").config().has("octet_calibration"));
}

}  // namespace
}  // namespace octet

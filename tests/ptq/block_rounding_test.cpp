// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/block_rounding.h"

#include <cmath>
#include <map>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/eval/benchmark.h"
#include "octet/models/session.h"
#include "octet/ptq/block_stream.h"
#include "octet/ptq/quantize_model.h"
#include "octet/quant/quantize.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::filesystem::path golden_model(const std::string& name) { return std::filesystem::path(OCTET_GOLDEN) / name; }

// A model before one of its blocks.
struct BeforeBlock {
  BeforeBlock(const std::string& name, int64_t index, int threads = 1)
      : backend(make_cpu_backend({.threads = threads})),
        model(load_model(Checkpoint::open(golden_model(name)), nullptr)),
        block(index),
        samples(random_batch(model->info(), 10, 11)),
        stream(*model, *backend, samples) {
    while (stream.piece() <= block) stream.run(BlockStream::Outputs::kTaken);
    BlockStream floats(*model, *backend, samples);
    while (floats.piece() <= block + 1) floats.run(BlockStream::Outputs::kTaken);
    targets.assign(floats.hidden_states().begin(), floats.hidden_states().end());
  }

  std::map<std::string, WeightScheme> schemes(const WeightScheme& scheme) const {
    std::map<std::string, WeightScheme> out;
    for (Linear* linear : model->piece(1 + block).linears) {
      for (const Linear::Part& part : linear->parts()) out[part.weight.layer] = scheme;
    }
    return out;
  }
  LearnedRounding learn(const std::map<std::string, WeightScheme>& layers,
                        WeightAlgorithm algorithm = WeightAlgorithm::kSignRound) {
    const RoundingOptions few = {.iterations = 60, .batch_size = 3};
    return learn_rounding(*model, *backend, block, samples, {.inputs = stream.hidden_states(), .targets = targets},
                          layers, algorithm, few, [this](int64_t more) { told += more; });
  }
  // What the block gives, with these weights in the place of its own.
  std::vector<float> outputs(const std::map<std::string, QTensor>& weights = {}) {
    for (Linear* linear : model->piece(1 + block).linears) {
      for (Linear::Part& part : linear->parts()) {
        const auto found = weights.find(part.weight.layer);
        if (found == weights.end()) continue;
        part.weight.value = dequantize(found->second);
        part.weight.transposed = false;
      }
    }
    stream.run(BlockStream::Outputs::kTaken);
    return {stream.hidden_states().begin(), stream.hidden_states().end()};
  }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  int64_t block;
  TokenBatch samples;
  BlockStream stream;
  std::vector<float> targets;
  int64_t told = 0;
};

std::map<std::string, QTensor> nearest(BeforeBlock& before, const std::map<std::string, WeightScheme>& schemes) {
  std::map<std::string, QTensor> out;
  for (Linear* linear : before.model->piece(1 + before.block).linears) {
    for (Linear::Part& part : linear->parts()) {
      part.weight.load();
      const auto found = schemes.find(part.weight.layer);
      if (found == schemes.end()) continue;
      out.emplace(part.weight.layer, quantize_weight(FloatWeight(part.weight).view(), found->second, "a weight"));
    }
  }
  return out;
}

double squared_distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - b[i], 2);
  return sum;
}

constexpr WeightAlgorithm kBoth[] = {WeightAlgorithm::kSignRound, WeightAlgorithm::kAdaRound};
const WeightScheme kFourBits = {.bits = 4, .range = RangeEstimator::kMse};

TEST(LearnRounding, LowersWhatTheBlockGetsWrong) {
  for (const std::string name : {"llama_base", "gpt2", "gptj", "phi", "bert_base", "opt_projected"}) {
    SCOPED_TRACE(name);
    BeforeBlock before(name, 1), plain(name, 1);
    const auto schemes = before.schemes(kFourBits);
    const LearnedRounding learned = before.learn(schemes);
    EXPECT_EQ(learned.weights.size(), schemes.size());
    EXPECT_GE(before.told, 60 * 3 - 60 * 2);

    // The errors that it says, computed by the forward pass of inference.
    const std::vector<float> in(before.stream.hidden_states().begin(), before.stream.hidden_states().end());
    const std::vector<float>& target = before.targets;
    const double added = squared_distance(target, in);
    const auto rounded = nearest(plain, schemes);
    EXPECT_NEAR(squared_distance(plain.outputs(rounded), target) / added / learned.nearest_error, 1, 1e-3);
    EXPECT_NEAR(squared_distance(before.outputs(learned.weights), target) / added / learned.error, 1, 1e-3);
    EXPECT_LT(learned.error, 0.8 * learned.nearest_error);
  }
}

TEST(LearnRounding, WorksSoftlyToo) {
  BeforeBlock before("llama_base", 1);
  const LearnedRounding learned = before.learn(before.schemes(kFourBits), WeightAlgorithm::kAdaRound);
  EXPECT_LT(learned.error, 0.95 * learned.nearest_error);
}

// Inputs that earlier blocks have spoiled; what the block gives is to be what it would be without.
TEST(LearnRounding, MakesGoodWhatWasWrongBefore) {
  BeforeBlock clean("llama_base", 1), spoiled("llama_base", 1);
  std::vector<float> inputs(spoiled.stream.hidden_states().begin(), spoiled.stream.hidden_states().end());
  for (float& x : inputs) x *= 0.9f;
  const auto schemes = spoiled.schemes(kFourBits);
  const RoundingOptions few = {.iterations = 60, .batch_size = 3};
  const LearnedRounding learned =
      learn_rounding(*spoiled.model, *spoiled.backend, 1, spoiled.samples, {.inputs = inputs, .targets = clean.targets},
                     schemes, WeightAlgorithm::kSignRound, few, [](int64_t) {});
  EXPECT_LT(learned.error, 0.9 * learned.nearest_error);
}

TEST(LearnRounding, LeavesTheGridAndRoundsUpOrDown) {
  const WeightScheme schemes[] = {kFourBits,
                                  {.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint},
                                  {.bits = 4, .group_size = 32, .mapping = CodeMapping::kMinimum},
                                  {.bits = 8},
                                  {.bits = 8, .mapping = CodeMapping::kZeroPoint}};
  for (const auto& [scheme, algorithm] :
       {std::pair{schemes[0], kBoth[0]}, std::pair{schemes[1], kBoth[1]}, std::pair{schemes[2], kBoth[0]},
        std::pair{schemes[3], kBoth[1]}, std::pair{schemes[4], kBoth[0]}}) {
    SCOPED_TRACE(to_string(Scheme{scheme}));
    BeforeBlock before("llama_base", 0);
    auto all = before.schemes(scheme);
    if (scheme.group_size != 0) std::erase_if(all, [](const auto& item) { return item.first.ends_with("down_proj"); });
    const LearnedRounding learned = before.learn(all, algorithm);
    for (const auto& [layer, grid] : nearest(before, all)) {
      const QTensor& codes = learned.weights.at(layer);
      check(codes, layer);
      EXPECT_EQ(bytes_of(codes.scales), bytes_of(grid.scales));
      EXPECT_EQ(bytes_of(codes.zero_points), bytes_of(grid.zero_points));
      EXPECT_EQ(bytes_of(codes.minima), bytes_of(grid.minima));
      const std::span<const int8_t> own = codes.codes.as<int8_t>(), to_nearest = grid.codes.as<int8_t>();
      int64_t changed = 0;
      for (size_t i = 0; i < own.size(); ++i) {
        ASSERT_LE(std::abs(own[i] - to_nearest[i]), 1);
        changed += own[i] != to_nearest[i] ? 1 : 0;
      }
      EXPECT_LT(changed, std::ssize(own) / 2);
    }
    EXPECT_LE(learned.error, learned.nearest_error);
  }
}

TEST(LearnRounding, LeavesFloatLayersAndTheModelAsTheyWere) {
  BeforeBlock before("llama_base", 0), floats("llama_base", 0);
  auto some = before.schemes(kFourBits);
  std::erase_if(some, [](const auto& item) { return item.first.ends_with("k_proj"); });
  const LearnedRounding learned = before.learn(some);
  EXPECT_FALSE(learned.weights.contains("layers.0.self_attn.k_proj"));
  EXPECT_EQ(learned.weights.size(), some.size());
  EXPECT_EQ(before.outputs(), floats.outputs());
}

TEST(LearnRounding, GivesTheSameBitsOnAnyNumberOfThreads) {
  for (const WeightAlgorithm algorithm : kBoth) {
    BeforeBlock one("bert_base", 0, 1), three("bert_base", 0, 3);
    const LearnedRounding a = one.learn(one.schemes(kFourBits), algorithm);
    const LearnedRounding b = three.learn(three.schemes(kFourBits), algorithm);
    EXPECT_EQ(a.error, b.error);
    for (const auto& [layer, codes] : a.weights) EXPECT_EQ(bytes_of(codes.codes), bytes_of(b.weights.at(layer).codes));
  }
}

class RoundingInRecipes : public ScratchFolder {
 protected:
  QuantizeReport quantize(const std::string& model, const Recipe& recipe, const std::string& out) {
    const Checkpoint floats = Checkpoint::open(golden_model(model));
    const CalibrationData data{
        .samples = random_batch(load_model(floats, nullptr)->info(), 12, 20), .options = {}, .sha256 = "of a test"};
    QuantizeModelOptions options;
    options.data = &data;
    options.cpu.threads = 1;
    return quantize_model(floats, recipe, folder_ / out, options);
  }
  double error_of(const std::string& model, const std::string& out) const {
    Session own(folder_ / out), floats(golden_model(model));
    const TokenBatch batch = random_batch(floats.model().info(), 4, 19);
    const Tensor x = own.run(batch), y = floats.run(batch);
    return squared_distance(x.as<float>(), y.as<float>());
  }
};

TEST_F(RoundingInRecipes, IsAnAlgorithm) {
  const std::vector<std::string> learns = {"weights.algorithm=signround", "weights.iterations=60"}, none;
  for (const std::string model : {"llama_base", "gpt2", "bert_base"}) {
    const Recipe recipe = Recipe::load("w4a16_g32", learns);
    const QuantizeReport report = quantize(model, recipe, model);
    quantize_model(Checkpoint::open(golden_model(model)), Recipe::load("w4a16_g32", none), folder_ / (model + "_rtn"));
    EXPECT_LT(error_of(model, model), error_of(model, model + "_rtn")) << model;
    const bool told = std::ranges::any_of(report.layers, [](const LayerReport& layer) {
      return std::ranges::any_of(layer.notes, [](const std::string& note) {
        return note.find("rounding learned with the other layers of its block") != std::string::npos;
      });
    });
    EXPECT_TRUE(told);
  }
}

TEST_F(RoundingInRecipes, RefusesWhatItCannotLearn) {
  const auto refusal = [&](std::vector<std::string> settings) {
    settings.insert(settings.begin(), "weights.algorithm=adaround");
    return message_of<UsageError>([&] { quantize("llama_base", Recipe::load("w4a16_g32", settings), "x"); });
  };
  EXPECT_THAT(refusal({R"(outliers={"threshold": 1})"}), HasSubstr("outlier columns"));
  EXPECT_THAT(refusal({R"(overrides=[{"match": "*.q_proj", "weights": {"bits": 4, "algorithm": "adaround",)"
                       R"( "iterations": 3}}])"}),
              AllOf(HasSubstr("learn their rounding together"), HasSubstr("q_proj")));
  const std::vector<std::string> learns = {"weights.algorithm=adaround"};
  const Recipe recipe = Recipe::load("w4a16_g32", learns);
  EXPECT_THAT(message_of<UsageError>(
                  [&] { quantize_model(Checkpoint::open(golden_model("llama_base")), recipe, folder_ / "y"); }),
              AllOf(HasSubstr("learning how to round"), HasSubstr("--data")));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/fold.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "octet/eval/benchmark.h"
#include "octet/quant/quantize.h"
#include "octet/tensor/transpose.h"
#include "tests/io/scratch.h"
#include "tests/ptq/rewritten_model.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

Tensor random_tensor(const Shape& shape, std::mt19937& random) {
  Tensor tensor(DType::kF32, shape);
  std::normal_distribution<float> normal;
  for (float& value : tensor.mutable_as<float>()) value = normal(random);
  return tensor;
}

std::vector<float> random_factors(int64_t columns, std::mt19937& random) {
  std::vector<float> factors(columns);
  std::uniform_real_distribution<float> exponent(-4, 4);
  for (float& factor : factors) factor = std::exp2(exponent(random));
  return factors;
}

// y = W x + b for one x, in double.
std::vector<double> linear(const Tensor& weight, std::span<const double> x, const Tensor* bias = nullptr) {
  const int64_t inputs = weight.shape()[1];
  std::vector<double> y(weight.shape()[0], 0.0);
  for (size_t o = 0; o < y.size(); ++o) {
    for (int64_t i = 0; i < inputs; ++i) y[o] += weight.as<float>()[o * inputs + i] * x[i];
    if (bias != nullptr) y[o] += bias->as<float>()[o];
  }
  return y;
}

TEST(SmoothQuant, FactorsAreThoseOfTheFormula) {
  const Tensor first = tensor_of<float>({2, 3}, {1, -2, 0.5, 0.25, 1, -8});
  const Tensor second = tensor_of<float>({1, 3}, {-4, 0, 1});
  const std::vector<ConstTensorView> into = {first.view(), second.view()};
  const std::vector<float> absmax = {9, 1, 2};
  EXPECT_THAT(smoothquant_factors(absmax, into, 0.5),
              ElementsAre(FloatEq(3.0f / 2), FloatEq(1 / std::sqrt(2.0f)), FloatEq(std::sqrt(2.0f / 8))));
  EXPECT_THAT(smoothquant_factors(absmax, into, 1), ElementsAre(FloatEq(9), FloatEq(1), FloatEq(2)));
  EXPECT_THAT(smoothquant_factors(absmax, into, 0), ElementsAre(FloatEq(0.25), FloatEq(0.5), FloatEq(0.125)));
  EXPECT_THAT(smoothquant_factors(absmax, into, 0.75)[0], FloatEq(std::pow(9.0f, 0.75f) / std::pow(4.0f, 0.25f)));
}

TEST(SmoothQuant, DeadChannelsKeepTheFactorOneAndOthersAreBounded) {
  const Tensor weight = tensor_of<float>({1, 4}, {0, 3, 1e-20, 1e20});
  const std::vector<ConstTensorView> into = {weight.view()};
  EXPECT_THAT(smoothquant_factors(std::vector<float>{5, 0, 1, 1}, into, 0.5), ElementsAre(1, 1, 1e5f, 1e-5f));
}

TEST(SmoothQuant, ColumnsThatReadOneChannelShareItsFactor) {
  std::mt19937 random(1);
  // Two heads of values of three channels, each read by two heads of columns.
  const FoldPair pair{.from = "v_proj", .into = {"o_proj"}, .head_width = 3, .heads_per_value = 2};
  const Tensor weight = random_tensor({5, 12}, random);
  const std::vector<ConstTensorView> into = {weight.view()};
  std::vector<float> absmax(12);
  for (size_t i = 0; i < absmax.size(); ++i) absmax[i] = 1.0f + i;
  const std::vector<float> factors = smoothquant_factors(absmax, into, 0.5, pair);
  for (const int column : {0, 1, 2, 6, 7, 8}) {
    EXPECT_EQ(factors[column], factors[column + 3]);
    float largest = 0;
    for (int o = 0; o < 5; ++o) {
      largest = std::max(
          {largest, std::abs(weight.as<float>()[o * 12 + column]), std::abs(weight.as<float>()[o * 12 + column + 3])});
    }
    EXPECT_FLOAT_EQ(factors[column], std::sqrt(absmax[column + 3] / largest));
  }
}

TEST(SmoothQuant, WhatCannotBeIsRefused) {
  const Tensor weight = tensor_of<float>({1, 2}, {1, 2});
  const Tensor bad = tensor_of<float>({1, 2}, {1, std::nanf("")});
  const std::vector<ConstTensorView> into = {weight.view()}, with_bad = {bad.view()};
  const std::vector<float> absmax = {1, 2};
  EXPECT_THROW(smoothquant_factors(absmax, into, 1.1), UsageError);
  EXPECT_THROW(smoothquant_factors(std::vector<float>{1, 2, 3}, into, 0.5), ShapeError);
  EXPECT_THROW(smoothquant_factors(absmax, with_bad, 0.5), NumericError);
  EXPECT_THAT(message_of<NumericError>([&] {
                smoothquant_factors(std::vector<float>{1, INFINITY}, into, 0.5, {.from = "norm", .into = {}});
              }),
              AllOf(HasSubstr("'norm'"), HasSubstr("column 1")));
  EXPECT_THROW(smoothquant_factors(absmax, into, 0.5, {.from = "v", .into = {}, .head_width = 3, .heads_per_value = 2}),
               ShapeError);
}

TEST(Fold, FactorsInANormalizationOrALinearLayerAreTakenBackByTheColumns) {
  std::mt19937 random(2);
  for (const auto& [inputs, channels, outputs] : {std::tuple(5, 7, 3), {16, 1, 9}, {1, 33, 2}}) {
    const std::vector<float> factors = random_factors(channels, random);
    const Tensor from = random_tensor({channels, inputs}, random), bias = random_tensor({channels}, random);
    const Tensor into = random_tensor({outputs, channels}, random);
    const Tensor folded_from = fold_into_outputs(from.view(), factors);
    const Tensor folded_bias = fold_into_outputs(bias.view(), factors);
    const Tensor folded_into = fold_into_inputs(into.view(), factors);
    std::vector<double> x(inputs);
    for (double& value : x) value = std::normal_distribution<double>()(random);
    const std::vector<double> before = linear(into, linear(from, x, &bias));
    const std::vector<double> after = linear(folded_into, linear(folded_from, x, &folded_bias));
    for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-5 * (1 + std::abs(before[i])));
    for (int64_t c = 0; c < channels; ++c) EXPECT_EQ(folded_bias.as<float>()[c], bias.as<float>()[c] / factors[c]);
    for (int64_t c = 0; c < channels; ++c) EXPECT_EQ(folded_into.as<float>()[c], into.as<float>()[c] * factors[c]);
  }
}

TEST(Fold, FactorsOfColumnsThatReadOneChannelAreTiedFirst) {
  std::mt19937 random(3);
  const FoldPair pair{.from = "v_proj", .into = {"o_proj"}, .head_width = 2, .heads_per_value = 3};
  const std::vector<float> loose = random_factors(12, random);
  const Tensor bias = random_tensor({4}, random);
  EXPECT_THAT(message_of<Error>([&] { fold_into_outputs(bias.view(), loose, pair); }), HasSubstr("'v_proj': channel"));
  const std::vector<float> tied = tied_factors(loose, pair);
  for (const int column : {0, 1, 6, 7}) {
    const double mean = std::cbrt(double{loose[column]} * loose[column + 2] * loose[column + 4]);
    for (const int head : {0, 2, 4}) EXPECT_FLOAT_EQ(tied[column + head], mean);
  }
  const Tensor folded = fold_into_outputs(bias.view(), tied, pair);
  EXPECT_EQ(folded.as<float>()[2], bias.as<float>()[2] / tied[6]);
  EXPECT_EQ(tied_factors(loose, {}), loose);
}

// Every fold pair of whole models, with the factors that SmoothQuant finds for random activations.
class FoldModels : public ScratchFolder {};

TEST_F(FoldModels, LogitsStayToRounding) {
  std::mt19937 random(4);
  for (const char* name : {"llama_base", "llama_bias", "opt", "gpt2", "gpt_neox", "phi", "bert_relu_odd_sizes"}) {
    const std::filesystem::path from = std::filesystem::path(OCTET_GOLDEN) / name;
    const Checkpoint checkpoint = Checkpoint::open(from);
    const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
    std::map<std::string, Tensor> tensors = tensors_of(checkpoint);
    std::map<std::string, const Parameter*> weights;
    for (const Linear::Part* part : model->linear_parts()) weights[part->weight.layer] = &part->weight;
    // As products read them, whatever the file.
    const auto weight_of = [&](const std::string& layer) {
      const Tensor& stored = tensors.at(layer + ".weight");
      return weights.contains(layer) && weights[layer]->transposed ? transposed(stored.view())
                                                                   : Tensor::copy_of(stored.view());
    };
    const auto store = [&](const std::string& layer, Tensor weight) {
      const bool turn = weights.contains(layer) && weights[layer]->transposed;
      tensors.insert_or_assign(layer + ".weight", turn ? transposed(weight.view()) : std::move(weight));
    };
    ASSERT_FALSE(model->fold_pairs().empty());
    for (const FoldPair& pair : model->fold_pairs()) {
      std::vector<Tensor> into;
      std::vector<ConstTensorView> views;
      for (const std::string& layer : pair.into) into.push_back(weight_of(layer));
      for (const Tensor& weight : into) views.push_back(weight.view());
      const std::vector<float> absmax = random_factors(views[0].shape[1], random);
      const std::vector<float> factors = smoothquant_factors(absmax, views, 0.5, pair);
      store(pair.from, fold_into_outputs(weight_of(pair.from).view(), factors, pair));
      if (const auto bias = tensors.find(pair.from + ".bias"); bias != tensors.end()) {
        bias->second = fold_into_outputs(bias->second.view(), factors, pair);
      }
      for (size_t i = 0; i < pair.into.size(); ++i) store(pair.into[i], fold_into_inputs(views[i], factors));
    }
    write_model(from, nlohmann::json::object(), std::move(tensors), folder_ / name);
    Session before(from), after(folder_ / name);
    const TokenBatch batch = random_batch(before.model().info(), 2, 13);
    const double difference = largest_difference(before.run(batch), after.run(batch));
    EXPECT_LT(difference, 2e-6) << name;
    EXPECT_GT(difference, 0) << name;
  }
}

}  // namespace
}  // namespace octet

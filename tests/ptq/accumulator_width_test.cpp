// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/accumulator_width.h"

#include <array>
#include <cmath>
#include <map>
#include <random>

#include <nlohmann/json.hpp>

#include "octet/base/json.h"
#include "octet/eval/benchmark.h"
#include "octet/quant/quantize.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::HasSubstr;

constexpr StepRange kInt8;

QTensor weight_of(Shape shape, const std::vector<int8_t>& codes, WeightScheme scheme = {}) {
  QTensor out{scheme, tensor_of<int8_t>(shape, codes), Tensor(DType::kF32, {shape[0], scheme.groups(shape[1])})};
  if (scheme.mapping == CodeMapping::kZeroPoint) {
    out.zero_points = Tensor(DType::kI8, {shape[0], scheme.groups(shape[1])});
  }
  return out;
}

AccumulatorUse use_of(const QTensor& weight, const std::vector<int16_t>& steps, StepRange range = kInt8) {
  AccumulatorUse use{.layer = "layer"};
  bound_accumulators(weight, 0, weight.rows(), range, use);
  simulate_accumulators(weight, 0, weight.rows(), steps, use, 2);
  return use;
}

// What an accumulator of `width` bits that wraps around, or saturates, makes of products.
int64_t wrapped_sum(const std::vector<int64_t>& products, int width) {
  int64_t sum = 0;
  for (const int64_t product : products) {
    sum += product;
    const int64_t modulus = int64_t{1} << width;
    sum = ((sum % modulus) + modulus) % modulus;
    if (sum >= modulus / 2) sum -= modulus;
  }
  return sum;
}

int64_t saturated_sum(const std::vector<int64_t>& products, int width, bool& saturated) {
  const int64_t limit = int64_t{1} << (width - 1);
  int64_t sum = 0;
  for (const int64_t product : products) {
    sum += product;
    saturated |= sum > limit - 1 || sum < -limit;
    sum = std::clamp(sum, -limit, limit - 1);
  }
  return sum;
}

TEST(AccumulatorWidth, IsThatOfTwosComplement) {
  const std::map<int64_t, int> widths = {{0, 1},      {-1, 1},      {1, 2},          {-2, 2},     {127, 8},
                                         {-128, 8},   {128, 9},     {-129, 9},       {32767, 16}, {-32768, 16},
                                         {32768, 17}, {-32769, 17}, {2147483647, 32}};
  for (const auto& [value, width] : widths) EXPECT_EQ(signed_width(value), width) << value;
}

TEST(AccumulatorWidth, OverflowsMadeByHandAreCounted) {
  // Three products of 127 · 127 = 16,129 pass 2^15 - 1 = 32,767 with the third, two do not.
  const QTensor weight = weight_of({2, 3}, {127, 127, 127, 127, 127, 0});
  const AccumulatorUse use = use_of(weight, {127, 127, 127});
  EXPECT_EQ(use.sums, 2);
  EXPECT_EQ(use.wrapped_share(16), 0.5);
  EXPECT_EQ(use.saturated_share(16), 0.5);
  EXPECT_EQ(use.wrapped_share(17), 0);
  EXPECT_EQ(use.widest(), 17);
  // 3 · 127 · 127 = 48,387 takes 17 bits.
  EXPECT_EQ(use.guaranteed_width, 17);
}

TEST(AccumulatorWidth, WhatCancelsOnTheWayIsLostOnlyBySaturation) {
  const QTensor weight = weight_of({1, 4}, {127, 127, 127, -127});
  const AccumulatorUse use = use_of(weight, {127, 127, 127, 127});
  EXPECT_EQ(use.wrapped_share(16), 0);
  EXPECT_EQ(use.saturated_share(16), 1);
  EXPECT_EQ(use.result_widths[16], 1);
  EXPECT_EQ(use.partial_widths[17], 1);
}

TEST(AccumulatorWidth, CountsAreThoseOfAccumulatorsThatWrapAndSaturate) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> code(-127, 127);
  constexpr int64_t kOutputs = 21, kInputs = 67, kRows = 5;
  std::vector<int8_t> codes(kOutputs * kInputs);
  for (int8_t& value : codes) value = static_cast<int8_t>(code(random));
  std::vector<int16_t> steps(kRows * kInputs);
  for (int16_t& value : steps) value = static_cast<int16_t>(code(random));
  const AccumulatorUse use = use_of(weight_of({kOutputs, kInputs}, codes), steps);
  ASSERT_EQ(use.sums, kOutputs * kRows);
  for (int width = 14; width <= 22; ++width) {
    int64_t wrong = 0, saturations = 0;
    for (int64_t o = 0; o < kOutputs; ++o) {
      for (int64_t r = 0; r < kRows; ++r) {
        std::vector<int64_t> products;
        int64_t exact = 0;
        for (int64_t k = 0; k < kInputs; ++k) {
          products.push_back(int64_t{codes[o * kInputs + k]} * steps[r * kInputs + k]);
          exact += products.back();
        }
        wrong += wrapped_sum(products, width) != exact;
        bool saturated = false;
        const int64_t sum = saturated_sum(products, width, saturated);
        saturations += saturated;
        EXPECT_TRUE(saturated || sum == exact);
      }
    }
    EXPECT_EQ(use.wrapped_share(width), static_cast<double>(wrong) / use.sums) << width;
    EXPECT_EQ(use.saturated_share(width), static_cast<double>(saturations) / use.sums) << width;
  }
  EXPECT_GT(use.wrapped_share(16), 0);
  EXPECT_LE(use.widest(), use.guaranteed_width);
  EXPECT_LE(use.guaranteed_width, use.data_type_width);
}

TEST(AccumulatorWidth, TheGuaranteedWidthIsReachedByTheWorstActivations) {
  std::mt19937 random(2);
  for (const StepRange range : {kInt8, StepRange(ActivationMode::kStaticPerTensorZeroPoint, {1.0f, 17}),
                                StepRange(ActivationMode::kStaticPerTensorZeroPoint, {1.0f, 255}),
                                StepRange(ActivationMode::kStaticPerTensor, {1.0f, 0, 3}),
                                StepRange(ActivationMode::kStaticPerTensorZeroPoint, {1.0f, 5, 4})}) {
    for (const int inputs : {1, 2, 40, 333}) {
      std::vector<int8_t> codes(inputs);
      for (int8_t& code : codes) code = static_cast<int8_t>(std::uniform_int_distribution<int>(-127, 127)(random));
      std::vector<int16_t> steps;
      for (const bool highest : {true, false}) {
        for (const int8_t code : codes) steps.push_back((code > 0) == highest ? range.highest : range.lowest);
      }
      const AccumulatorUse use = use_of(weight_of({1, inputs}, codes), steps, range);
      EXPECT_EQ(use.widest(), use.guaranteed_width) << inputs << " inputs";
    }
  }
}

TEST(AccumulatorWidth, FewerBitsNeedFewer) {
  const StepRange three(ActivationMode::kStaticPerTensor, {1.0f, 0, 3});
  EXPECT_EQ(three.lowest, -3);
  EXPECT_EQ(three.highest, 3);
  QTensor weight = weight_of({1, 4}, {-2, 1, -2, 1}, {.bits = 4, .unused_bits = 2});
  // 4 · 2 · 3 = 24 takes 6 bits, as does the 18 of these weights.
  EXPECT_EQ(use_of(weight, {3, -3, 3, -3}, three).data_type_width, 6);
  weight.scheme.mapping = CodeMapping::kZeroPoint;
  weight.zero_points = Tensor(DType::kI8, {1, 1});
  weight.zero_points.mutable_as<int8_t>()[0] = 3;
  std::ranges::copy(std::array<int8_t, 4>{0, 1, 2, 3}, weight.codes.mutable_as<int8_t>().begin());
  EXPECT_EQ(use_of(weight, {3, -3, 3, -3}, three).data_type_width, 7) << "4 · 3 · 3 = 36";
}

TEST(AccumulatorWidth, GroupsSumByThemselvesWhicheverTheirColumns) {
  // Two groups of 32; every second column belongs to the second, whose codes are 15 less the zero point 3.
  const WeightScheme scheme{.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint};
  std::vector<int8_t> codes(64);
  for (int i = 0; i < 64; ++i) codes[i] = i % 2 == 0 ? 1 : 15;
  QTensor weight = weight_of({1, 64}, codes, scheme);
  weight.scheme.reordered = true;
  weight.zero_points.mutable_as<int8_t>()[0] = 1;
  weight.zero_points.mutable_as<int8_t>()[1] = 3;
  std::vector<int32_t> group(64);
  for (int i = 0; i < 64; ++i) group[i] = i % 2;
  weight.group_index = tensor_of<int32_t>({64}, group);
  const AccumulatorUse use = use_of(weight, std::vector<int16_t>(64, 100));
  EXPECT_EQ(use.sum_length, 32);
  EXPECT_EQ(use.sums, 2);
  // 32 · 0 · 100 and 32 · 12 · 100 = 38,400.
  EXPECT_EQ(use.result_widths[1], 1);
  EXPECT_EQ(use.result_widths[17], 1);
  // 32 · 12 · 127 = 48,768; any codes: 32 · 15 · 127 = 60,960.
  EXPECT_EQ(use.guaranteed_width, 17);
  EXPECT_EQ(use.data_type_width, 17);
}

TEST(AccumulatorWidth, ThreadsAndPortionsChangeNoCount) {
  std::mt19937 random(3);
  const QTensor weight = [&] {
    Tensor values(DType::kF32, {50, 96});
    for (float& value : values.mutable_as<float>()) value = std::normal_distribution<float>()(random);
    return quantize_weight(values.view(), {.bits = 4, .group_size = 32}, "layer");
  }();
  std::vector<int16_t> steps(7 * 96);
  for (int16_t& step : steps) step = static_cast<int16_t>(std::uniform_int_distribution<int>(-127, 127)(random));
  AccumulatorUse whole, parts;
  simulate_accumulators(weight, 0, 50, steps, whole, 1);
  for (int row = 0; row < 7; ++row) {
    const auto one = std::span(steps).subspan(row * 96, 96);
    simulate_accumulators(weight, 0, 33, one, parts, 3);
    simulate_accumulators(weight, 33, 17, one, parts, 2);
  }
  EXPECT_EQ(whole.sums, 7 * 50 * 3);
  EXPECT_EQ(parts.sums, whole.sums);
  EXPECT_EQ(parts.result_widths, whole.result_widths);
  EXPECT_EQ(parts.partial_widths, whole.partial_widths);
}

TEST(AccumulatorWidth, WhatDoesNotFitIsRefused) {
  const QTensor weight = weight_of({1, 2}, {1, 2});
  AccumulatorUse use{.layer = "mlp"};
  const std::vector<int16_t> three(3), two(2);
  EXPECT_THAT(message_of<ShapeError>([&] { simulate_accumulators(weight, 0, 1, three, use, 1); }), HasSubstr("'mlp'"));
  EXPECT_THROW(simulate_accumulators(weight, 0, 2, two, use, 1), ShapeError);
  const QTensor endless = weight_of({1, 66'312}, std::vector<int8_t>(66'312));
  EXPECT_THROW(simulate_accumulators(endless, 0, 1, std::vector<int16_t>(66'312), use, 1), ShapeError);
}

class AccumulatorsOfModels : public testing::Test {
 protected:
  static std::vector<AccumulatorUse> measure(const char* model, const char* recipe,
                                             const std::vector<std::string>& settings = {}) {
    Session session(std::filesystem::path(OCTET_GOLDEN) / model, {.recipe = Recipe::load(recipe, settings)});
    const std::vector<TokenBatch> batches = {random_batch(session.model().info(), 2, 9)};
    return measure_accumulators(session, batches);
  }
};

TEST_F(AccumulatorsOfModels, EveryLayerThatMultipliesCodesIsMeasured) {
  const std::vector<AccumulatorUse> uses = measure("llama_base", "w8a8_dynamic");
  ASSERT_EQ(uses.size(), 2 * 7);
  EXPECT_EQ(uses[0].layer, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(uses[1].layer, "model.layers.0.self_attn.k_proj");
  EXPECT_EQ(uses[13].layer, "model.layers.1.mlp.down_proj");
  for (const AccumulatorUse& use : uses) {
    EXPECT_EQ(use.sums % 18, 0) << use.layer;
    EXPECT_GT(use.sums, 0);
    EXPECT_LE(use.widest(), use.guaranteed_width) << use.layer;
    EXPECT_GT(use.widest(), 10) << use.layer;
  }
}

// What an operation leaves as codes for the next one is looked at as codes; of the model in float, as values.
TEST_F(AccumulatorsOfModels, StaticCodesAreThoseThatFlow) {
  for (const char* symmetric : {"true", "false"}) {
    nlohmann::json scales;
    {
      const std::unique_ptr<Model> model =
          load_model(Checkpoint::open(std::filesystem::path(OCTET_GOLDEN) / "bert_base"), nullptr);
      for (const Linear::Part* part : model->linear_parts()) {
        scales[part->weight.layer] = symmetric == std::string("true")
                                         ? nlohmann::json(0.02)
                                         : nlohmann::json{{"scale", 0.02}, {"zero_point", 90}};
      }
    }
    const nlohmann::json recipe = {
        {"weights", {{"bits", 8}, {"granularity", "per_channel"}, {"symmetric", true}}},
        {"activations",
         {{"mode", "static"}, {"granularity", "per_tensor"}, {"symmetric", symmetric == std::string("true")}}},
        {"activation_scales", scales}};
    Session session(std::filesystem::path(OCTET_GOLDEN) / "bert_base",
                    {.recipe = Recipe::parse(json_text(recipe), "static")});
    const std::vector<TokenBatch> batches = {random_batch(session.model().info(), 3, 11)};
    const std::vector<AccumulatorUse> uses = measure_accumulators(session, batches);
    ASSERT_GE(uses.size(), 2 * 6);
    for (const AccumulatorUse& use : uses) {
      EXPECT_LE(use.widest(), use.guaranteed_width) << use.layer;
      EXPECT_GT(use.widest(), 8) << use.layer;
    }
  }
}

TEST_F(AccumulatorsOfModels, AModelWithoutIntegerProductsIsRefused) {
  EXPECT_THAT(message_of<UsageError>([] { measure("llama_base", "w8a16"); }), HasSubstr("--recipe w8a8_dynamic"));
}

}  // namespace
}  // namespace octet

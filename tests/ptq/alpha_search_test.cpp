// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/alpha_search.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/ptq/fold.h"
#include "octet/quant/quantize.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr int64_t kColumns = 96;

// Rows whose column 5 is sixty times as large as the others: what SmoothQuant is for.
std::vector<float> rows_with_an_outlier_column(int64_t rows, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = normal(random) * (i % kColumns == 5 ? 60.0f : 1.0f);
  return values;
}

Tensor random_weight(int64_t outputs, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.05f);
  Tensor weight(DType::kF32, {outputs, kColumns});
  for (float& value : weight.mutable_as<float>()) value = normal(random);
  return weight;
}

Scheme scheme_with(ActivationMode activations, int bits = 8) { return {{.bits = bits}, activations}; }

ActivationSample sample_of(std::span<const float> rows, int64_t most = 64) {
  ActivationSample sample("norm", kColumns, most);
  sample.add(rows);
  return sample;
}

TEST(ActivationSample, WhichRowsAreKeptDependsOnTheirPlaceAlone) {
  const std::vector<float> rows = rows_with_an_outlier_column(500, 1);
  const ActivationSample whole = sample_of(rows, 40);
  ActivationSample parts("norm", kColumns, 40);
  for (std::span<const float> left = rows; !left.empty();) {
    const size_t count = std::min<size_t>(left.size(), 7 * kColumns);
    parts.add(left.first(count));
    left = left.subspan(count);
  }
  EXPECT_EQ(whole.rows().shape(), (Shape{40, kColumns}));
  EXPECT_EQ(bytes_of(whole.rows()), bytes_of(parts.rows()));
  EXPECT_EQ(whole.absmax(), parts.absmax());
  EXPECT_EQ(parts.seen(), 500);
  ActivationSample other("norm", kColumns, 40, 1);
  other.add(rows);
  EXPECT_NE(bytes_of(whole.rows()), bytes_of(other.rows()));
}

TEST(ActivationSample, EveryRowIsAsLikelyAsAnyOther) {
  // Of 1,000 rows that hold their own number, 200: their mean is that of all, 499.5, within 4 standard errors of
  // 288.7 / √200 · √(800 / 999).
  std::vector<float> rows(1000);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = i;
  ActivationSample sample("site", 1, 200);
  sample.add(rows);
  const Tensor kept = sample.rows();
  EXPECT_TRUE(std::ranges::is_sorted(kept.as<float>()));
  EXPECT_EQ(std::ranges::adjacent_find(kept.as<float>()), kept.as<float>().end());
  double sum = 0;
  for (const float row : kept.as<float>()) sum += row;
  EXPECT_NEAR(sum / 200, 499.5, 4 * 288.7 / std::sqrt(200.0) * std::sqrt(800.0 / 999));
}

TEST(ActivationSample, TheRangesOfColumnsAreThoseOfAllRows) {
  const std::vector<float> rows = rows_with_an_outlier_column(300, 2);
  const ActivationSample sample = sample_of(rows, 3);
  for (int64_t column = 0; column < kColumns; ++column) {
    float low = INFINITY, high = -INFINITY;
    for (size_t i = column; i < rows.size(); i += kColumns) {
      low = std::min(low, rows[i]);
      high = std::max(high, rows[i]);
    }
    EXPECT_EQ(sample.smallest()[column], low);
    EXPECT_EQ(sample.largest()[column], high);
    EXPECT_EQ(sample.absmax()[column], std::max(-low, high));
  }
}

TEST(ActivationSample, NanIsAnErrorThatNamesSiteAndRow) {
  std::vector<float> rows = rows_with_an_outlier_column(9, 3);
  ActivationSample sample = sample_of(rows);
  rows[4 * kColumns + 1] = std::nanf("");
  EXPECT_THAT(message_of<NumericError>([&] { sample.add(rows); }), HasSubstr("site 'norm': row 13 "));
  EXPECT_EQ(sample.seen(), 9);
  EXPECT_THROW(sample.add(std::span(rows).first(3)), ShapeError);
}

// The definition, in double.
double expected_error(const Tensor& weight, const Scheme& scheme, const Tensor& x, const ActivationScale& input) {
  const Tensor codes = dequantize(quantize_weight(weight.view(), scheme.weight, "layer"));
  double error = 0, energy = 0;
  std::vector<int8_t> row_codes(kColumns);
  for (int64_t r = 0; r < x.shape()[0]; ++r) {
    const std::span<const float> row = x.as<float>().subspan(r * kColumns, kColumns);
    std::vector<double> read(row.begin(), row.end());
    if (scheme.activations == ActivationMode::kDynamicPerToken) {
      const double scale = quantize_row(row, row_codes);
      for (int64_t i = 0; i < kColumns; ++i) read[i] = scale * row_codes[i];
    } else if (scheme.activations == ActivationMode::kStaticPerTensorZeroPoint) {
      for (int64_t i = 0; i < kColumns; ++i) {
        read[i] = double{input.scale} * (uint8_code(row[i], 1 / input.scale, input.zero_point) - input.zero_point);
      }
    }
    for (int64_t o = 0; o < weight.shape()[0]; ++o) {
      double wanted = 0, got = 0;
      for (int64_t i = 0; i < kColumns; ++i) {
        wanted += double{row[i]} * weight.as<float>()[o * kColumns + i];
        got += read[i] * codes.as<float>()[o * kColumns + i];
      }
      error += (got - wanted) * (got - wanted);
      energy += wanted * wanted;
    }
  }
  return std::sqrt(error / energy);
}

TEST(LayerOutputError, IsThatOfTheQuantizedProduct) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2});
  const ActivationSample sample = sample_of(rows_with_an_outlier_column(100, 4));
  const Tensor weight = random_weight(17, 5);
  for (const Scheme& scheme :
       {scheme_with(ActivationMode::kFloat), scheme_with(ActivationMode::kDynamicPerToken, 4),
        scheme_with(ActivationMode::kDynamicPerToken), scheme_with(ActivationMode::kStaticPerTensorZeroPoint)}) {
    const LayerOutputError error(*backend, {{"layer", weight.view(), scheme}}, sample);
    const std::vector<ActivationScale> scales = {uint8_scale(-250, 250), uint8_scale(-20, 90)};
    const std::vector<double> found = error.with({}, scales);
    for (size_t i = 0; i < scales.size(); ++i) {
      const double expected = expected_error(weight, scheme, sample.rows(), scales[i]);
      EXPECT_NEAR(found[i], expected, 1e-3 * expected) << to_string(scheme);
    }
  }
}

TEST(LayerOutputError, FloatLayersCountForNothing) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const ActivationSample sample = sample_of(rows_with_an_outlier_column(50, 6));
  const Tensor a = random_weight(4, 7), b = random_weight(9, 8);
  const std::vector<ActivationScale> scale(1);
  const Scheme dynamic = scheme_with(ActivationMode::kDynamicPerToken);
  const LayerOutputError alone(*backend, {{"a", a.view(), dynamic}}, sample);
  const LayerOutputError beside(*backend, {{"b", b.view(), {}}, {"a", a.view(), dynamic}}, sample);
  EXPECT_EQ(alone.with({}, scale), beside.with({}, scale));
  const LayerOutputError none(*backend, {{"b", b.view(), {}}}, sample);
  EXPECT_EQ(none.with({}, scale).front(), 0);
  EXPECT_EQ(none.mode(), ActivationMode::kFloat);
}

TEST(AlphaSearch, AnOutlierColumnIsSmoothedAndTheErrorIsTheLeastOfTheGrid) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2});
  const ActivationSample sample = sample_of(rows_with_an_outlier_column(200, 9));
  const Tensor first = random_weight(20, 10), second = random_weight(11, 11);
  const FoldPair pair{.from = "norm", .into = {"first", "second"}};
  for (const ActivationMode mode : {ActivationMode::kDynamicPerToken, ActivationMode::kStaticPerTensor,
                                    ActivationMode::kStaticPerTensorZeroPoint}) {
    const Scheme scheme = scheme_with(mode);
    const LayerOutputError error(*backend, {{"first", first.view(), scheme}, {"second", second.view(), scheme}},
                                 sample);
    const AlphaChoice choice = search_alpha(error, pair);
    SCOPED_TRACE(to_string(mode));
    ASSERT_TRUE(choice.alpha.has_value());
    EXPECT_EQ(choice.tried.size(), alpha_grid().size());
    double least = INFINITY;
    for (const AlphaChoice::Tried& tried : choice.tried) {
      if (tried.alpha == *choice.alpha) {
        EXPECT_EQ(tried.error, choice.error);
      }
      least = std::min(least, tried.error);
    }
    EXPECT_EQ(choice.error, least);
    // One column in 96 holds 60² / (60² + 95) of the energy of a row, and its step drowns the others.
    EXPECT_LT(choice.error, 0.7 * choice.error_without);
    const std::vector<ConstTensorView> into = {first.view(), second.view()};
    EXPECT_THAT(choice.factors, ElementsAreArray(smoothquant_factors(sample.absmax(), into, *choice.alpha)));
    EXPECT_GT(choice.factors[5], 5 * choice.factors[6]);
  }
}

TEST(AlphaSearch, WhereNothingIsGainedNothingIsFolded) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const ActivationSample sample = sample_of(rows_with_an_outlier_column(60, 12));
  const Tensor weight = random_weight(8, 13);
  const LayerOutputError float_layers(*backend, {{"layer", weight.view(), {}}}, sample);
  const AlphaChoice choice = search_alpha(float_layers, {.from = "norm", .into = {"layer"}});
  EXPECT_FALSE(choice.alpha.has_value());
  EXPECT_EQ(choice.factors, std::vector<float>(kColumns, 1.0f));
  EXPECT_EQ(choice.error, 0);
}

TEST(BestRange, TheOutputDecidesWhichValuesMatter) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const std::vector<float> rows = rows_with_an_outlier_column(200, 14);
  const ActivationSample sample = sample_of(rows);
  ActivationRangeEstimator estimator("norm");
  estimator.add(rows, kColumns);
  const Scheme scheme = scheme_with(ActivationMode::kStaticPerTensor);
  const std::vector<RangeEstimate> estimates = {
      estimator.estimate(scheme.activations, {RangeMethod::kMinMax}),
      estimator.estimate(scheme.activations, {RangeMethod::kPercentile, 99.0}),
  };
  ASSERT_LT(estimates[0].loss.relative_error, estimates[1].loss.relative_error);
  Tensor weight = random_weight(8, 15);
  const LayerOutputError reads_all(*backend, {{"layer", weight.view(), scheme}}, sample);
  EXPECT_EQ(best_range(reads_all, estimates).estimate.method, RangeMethod::kMinMax);
  // Weights that do not read the large column: now it may be clipped.
  for (size_t i = 5; i < weight.as<float>().size(); i += kColumns) weight.mutable_as<float>()[i] = 0;
  const LayerOutputError reads_others(*backend, {{"layer", weight.view(), scheme}}, sample);
  const RangeChoice choice = best_range(reads_others, estimates);
  EXPECT_EQ(choice.estimate.method, RangeMethod::kPercentile);
  EXPECT_EQ(choice.errors.size(), 2);
  EXPECT_EQ(choice.output_error, choice.errors[1]);
}

}  // namespace
}  // namespace octet

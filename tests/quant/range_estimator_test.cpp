// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/range_estimator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/quant/quantize.h"
#include "tests/json_file.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr ActivationMode kInt8 = ActivationMode::kStaticPerTensor;
constexpr ActivationMode kUint8 = ActivationMode::kStaticPerTensorZeroPoint;

// The values of make_range_golden.py, by the same operations.
std::vector<float> golden_values(const std::string& name) {
  constexpr int kCount = 20000;
  uint64_t state = 1;
  std::vector<float> values(kCount);
  for (int i = 0; i < kCount; ++i) {
    double n = 0;
    for (int k = 0; k < 12; ++k) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      n += static_cast<double>(state >> 40) * 0x1p-24;
    }
    n -= 6;
    if (name == "heavy tails") n = n * n * n;
    if (name == "outliers" && i % 1000 == 0) n *= 40;
    if (name == "relu") n = std::max(n, 0.0);
    if (name == "leaky" && n < 0) n *= 0.125;
    values[i] = static_cast<float>(n);
  }
  return values;
}

const nlohmann::json& golden() {
  static const nlohmann::json json = read_json(std::string(OCTET_TEST_FILES) + "/range_golden.json");
  return json;
}

// √(Σ (x - dequantized x)² / Σ x²) by the definition of the quantizers.
double exact_error(std::span<const float> values, ActivationMode mode, const ActivationScale& scale) {
  double error = 0, energy = 0;
  for (const float x : values) {
    const float inverse = 1.0f / scale.scale;
    const int steps = mode == kInt8 ? int8_code(x, inverse, scale.bits)
                                    : uint8_code(x, inverse, scale.zero_point, scale.bits) - scale.zero_point;
    const double difference = x - double{scale.scale} * steps;
    error += difference * difference;
    energy += double{x} * double{x};
  }
  return energy > 0 ? std::sqrt(error / energy) : 0.0;
}

ActivationRangeEstimator estimator_of(std::span<const float> values, int64_t columns = 50, int threads = 2) {
  ActivationRangeEstimator estimator("mlp.down_proj", 512, threads);
  estimator.add(values, columns);
  return estimator;
}

void expect_same(const RangeEstimate& a, const RangeEstimate& b) {
  EXPECT_EQ(a.method, b.method);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_EQ(a.scale, b.scale);
  EXPECT_EQ(a.loss.clipped_share, b.loss.clipped_share);
  EXPECT_EQ(a.loss.clipped_energy, b.loss.clipped_energy);
  EXPECT_EQ(a.loss.relative_error, b.loss.relative_error);
}

TEST(RangeEstimator, TheRangesAreThoseOfNumpyOnAllValuesAtOnce) {
  for (const auto& item : golden().items()) {
    SCOPED_TRACE(item.key());
    const nlohmann::json& expected = item.value();
    const std::vector<float> values = golden_values(item.key());
    const ActivationRangeEstimator estimator = estimator_of(values);
    EXPECT_EQ(std::min(0.0f, estimator.smallest()), expected["low"].get<float>());
    EXPECT_EQ(std::max(0.0f, estimator.largest()), expected["high"].get<float>());

    const RangeEstimate minmax = estimator.estimate(kInt8, {RangeMethod::kMinMax});
    EXPECT_NEAR(minmax.loss.relative_error, expected["error of minmax"], 0.01 * minmax.loss.relative_error);
    EXPECT_EQ(minmax.loss.clipped_share, 0);

    const RangeEstimate mse = estimator.estimate(kInt8, {RangeMethod::kMse});
    const double least = expected["least error"];
    EXPECT_LE(exact_error(values, kInt8, mse.scale), 1.005 * least);
    EXPECT_NEAR(mse.loss.relative_error, least, 0.01 * least);

    for (const auto& [percentile, of_values] : expected["percentiles"].items()) {
      const double p = std::stod(percentile);
      // A bin is 2^-11 wide; between the ranks at the ends of sparse tails nothing else is added.
      const auto near = [](double x) { return testing::DoubleNear(x, std::abs(x) * 0x1p-11 + 1e-7); };
      const RangeEstimate symmetric = estimator.estimate(kInt8, {RangeMethod::kPercentile, p});
      EXPECT_THAT(double{symmetric.high}, near(of_values["magnitude"])) << percentile;
      EXPECT_EQ(symmetric.low, -symmetric.high);
      const RangeEstimate two_sided = estimator.estimate(kUint8, {RangeMethod::kPercentile, p});
      EXPECT_THAT(double{two_sided.low}, near(std::min(0.0, of_values["low"].get<double>()))) << percentile;
      EXPECT_THAT(double{two_sided.high}, near(of_values["high"])) << percentile;
    }

    const auto expect_entropy = [&](ActivationMode mode, const nlohmann::json& found) {
      const RangeEstimate entropy = estimator.estimate(mode, {RangeMethod::kEntropy});
      // The divergence is rugged: any threshold that numpy finds within 5 % of the least is as good.
      EXPECT_GE(entropy.high, found["lowest within 5 %"].get<float>());
      EXPECT_LE(entropy.high, found["highest within 5 %"].get<float>());
    };
    expect_entropy(kInt8, expected["entropy"]);
    if (!expected["entropy of 256"].is_null()) expect_entropy(kUint8, expected["entropy of 256"]);
  }
}

TEST(RangeEstimator, TheErrorIsThatOfQuantizingTheValues) {
  for (const auto& item : golden().items()) {
    const std::vector<float> values = golden_values(item.key());
    const ActivationRangeEstimator estimator = estimator_of(values);
    for (const ActivationMode mode : {kInt8, kUint8}) {
      for (const RangeEstimate& estimate : estimator.estimates(mode, 99.9)) {
        SCOPED_TRACE(item.key() + ", " + std::string(name(estimate.method)) + ", " + to_string(mode));
        const double exact = exact_error(values, mode, estimate.scale);
        EXPECT_NEAR(estimate.loss.relative_error, exact, 0.02 * exact);
        EXPECT_LE(estimate.loss.clipping_error, estimate.loss.relative_error);
        EXPECT_EQ(estimator.measure(mode, estimate.scale).relative_error, estimate.loss.relative_error);
      }
    }
  }
}

// Few codes are worth most near 0: the range with the least error shrinks with the bits, and is that of all thresholds.
TEST(RangeEstimator, OfFewerBitsTheRangeIsTheirs) {
  const std::vector<float> values = golden_values("normal");
  const ActivationRangeEstimator estimator = estimator_of(values);
  for (const ActivationMode mode : {kInt8, kUint8}) {
    float narrower = 0;
    for (int bits = 2; bits <= 8; ++bits) {
      const int steps = mode == kInt8 ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
      for (const RangeMethod method : range_methods()) {
        const RangeEstimate found = estimator.estimate(mode, {method, 99.99, bits});
        EXPECT_EQ(found.scale.bits, bits);
        EXPECT_NEAR(found.scale.scale,
                    (mode == kInt8 ? found.high : found.high - found.low) / static_cast<float>(steps),
                    1e-6 * found.high);
        const double exact = exact_error(values, mode, found.scale);
        EXPECT_NEAR(found.loss.relative_error, exact, 0.01 * exact) << name(method) << bits;
        EXPECT_EQ(estimator.measure(mode, found.scale).relative_error, found.loss.relative_error);
      }
      const std::vector<RangeEstimate> all = estimator.estimates(mode, 99.99, bits);
      for (const RangeEstimate& each : all) EXPECT_EQ(each.scale.bits, bits);
      const RangeEstimate mse = estimator.estimate(mode, {RangeMethod::kMse, 99.99, bits});
      EXPECT_GT(mse.high, narrower) << bits;
      narrower = mse.high;
      if (mode == kUint8) continue;
      double least = 1;
      for (float end = 0.05f * estimator.largest(); end <= estimator.largest(); end *= 1.01f) {
        const ActivationScale scale{.scale = end / static_cast<float>(steps), .bits = bits};
        least = std::min(least, exact_error(values, mode, scale));
      }
      EXPECT_LE(exact_error(values, mode, mse.scale), 1.005 * least) << bits;
    }
  }
  for (const int bits : {1, 9}) EXPECT_THROW(estimator.estimate(kInt8, {RangeMethod::kMse, 99.99, bits}), UsageError);
}

TEST(RangeEstimator, WhatIsClippedAndWhatBecomesZeroIsCounted) {
  const std::vector<float> values = golden_values("outliers");
  const ActivationRangeEstimator estimator = estimator_of(values);
  for (const double percentile : {99.0, 99.9}) {
    const RangeEstimate estimate = estimator.estimate(kInt8, {RangeMethod::kPercentile, percentile});
    double clipped = 0, clipped_energy = 0, energy = 0, zeroed = 0;
    for (const float x : values) {
      const bool beyond = std::abs(x) > 127.5f * estimate.scale.scale;
      clipped += beyond;
      clipped_energy += beyond ? double{x} * double{x} : 0;
      energy += double{x} * double{x};
      zeroed += std::abs(x) <= 0.5f * estimate.scale.scale;
    }
    EXPECT_NEAR(estimate.loss.clipped_share, clipped / values.size(), 2.0 / values.size());
    EXPECT_NEAR(estimate.loss.clipped_energy, clipped_energy / energy, 1e-4);
    EXPECT_NEAR(estimate.loss.zeroed_share, zeroed / values.size(), 2e-3);
  }
}

// One value in a thousand is forty times too large. The percentile cuts them off: few values, most of the energy.
TEST(RangeEstimator, ACollapseByClippingShowsInTheEnergy) {
  const ActivationRangeEstimator estimator = estimator_of(golden_values("outliers"));
  const RangeEstimate percentile = estimator.estimate(kInt8, {RangeMethod::kPercentile, 99.0});
  EXPECT_LT(percentile.loss.clipped_share, 0.011);
  EXPECT_GT(percentile.loss.clipped_energy, 0.5);
  EXPECT_GT(percentile.loss.relative_error, 0.7);
  const RangeEstimate minmax = estimator.estimate(kInt8, {RangeMethod::kMinMax});
  EXPECT_EQ(minmax.loss.clipped_energy, 0);
  EXPECT_GT(minmax.loss.zeroed_share, 0.2);
  EXPECT_LT(percentile.loss.zeroed_share, 0.01);
}

TEST(RangeEstimator, TheBestHasTheLeastErrorAndSaysWhichItWas) {
  for (const auto& item : golden().items()) {
    const ActivationRangeEstimator estimator = estimator_of(golden_values(item.key()));
    for (const ActivationMode mode : {kInt8, kUint8}) {
      const RangeEstimate best = estimator.estimate(mode, {RangeMethod::kBest});
      for (const RangeEstimate& estimate : estimator.estimates(mode)) {
        EXPECT_LE(best.loss.relative_error, estimate.loss.relative_error) << item.key();
        if (estimate.method == best.method) expect_same(best, estimate);
      }
    }
  }
  // Nothing is gained by clipping two values: the first of equals.
  const std::vector<float> two = {1.0f, -1.0f};
  EXPECT_EQ(estimator_of(two, 2).estimate(kInt8, {RangeMethod::kBest}).method, RangeMethod::kMinMax);
}

TEST(RangeEstimator, NeitherThreadsNorTheCutsOfTheStreamChangeABit) {
  std::mt19937 random(3);
  std::vector<float> values(97 * 1201);
  std::student_t_distribution<float> heavy(2.0f);
  for (float& value : values) value = heavy(random);
  constexpr int64_t kColumns = 97;
  const auto run = [&](int threads, int64_t most_rows) {
    ActivationRangeEstimator estimator("site", 100, threads);
    std::span<const float> left = values;
    while (!left.empty()) {
      const int64_t rows =
          std::min<int64_t>(left.size() / kColumns, std::uniform_int_distribution<int64_t>(0, most_rows)(random));
      estimator.add(left.first(rows * kColumns), kColumns);
      left = left.subspan(rows * kColumns);
    }
    return estimator;
  };
  ActivationRangeEstimator whole("site", 100, 1);
  whole.add(values, kColumns);
  for (const auto& [threads, most_rows] : {std::pair(1, 7), std::pair(3, 60), std::pair(2, 2000)}) {
    const ActivationRangeEstimator parts = run(threads, most_rows);
    EXPECT_EQ(parts.rows(), whole.rows());
    EXPECT_EQ(parts.dynamic_relative_error(), whole.dynamic_relative_error());
    for (const ActivationMode mode : {kInt8, kUint8}) {
      const std::vector<RangeEstimate> a = parts.estimates(mode), b = whole.estimates(mode);
      for (size_t i = 0; i < a.size(); ++i) expect_same(a[i], b[i]);
    }
  }
}

TEST(RangeEstimator, TheMovingAverageFollowsBatchesOfRows) {
  // Two rows a batch; extremes -1, 4 and -3, 2 and, of the row that is left, 0, 8.
  const std::vector<float> values = {-1, 4, 0, 1, 1, 2, -3, 0, 0, 8};
  ActivationRangeEstimator estimator("site", 2);
  estimator.add(values, 2);
  const double c = 0.01, weight = c * ((1 - c) * (1 - c) + (1 - c) + 1);
  const RangeEstimate estimate = estimator.estimate(kUint8, {RangeMethod::kMovingAverage});
  EXPECT_FLOAT_EQ(estimate.high, c * ((1 - c) * (1 - c) * 4 + (1 - c) * 2 + 8) / weight);
  EXPECT_FLOAT_EQ(estimate.low, c * ((1 - c) * (1 - c) * -1 + (1 - c) * -3) / weight);
  EXPECT_EQ(estimate.scale, uint8_scale(estimate.low, estimate.high));
}

TEST(RangeEstimator, TheDynamicErrorIsThatOfRowsByThemselves) {
  const std::vector<float> values = golden_values("heavy tails");
  const ActivationRangeEstimator estimator = estimator_of(values, 50);
  double error = 0, energy = 0;
  std::vector<int8_t> codes(50);
  for (size_t first = 0; first < values.size(); first += 50) {
    const std::span<const float> row(values.data() + first, 50);
    const float scale = quantize_row(row, codes);
    for (size_t i = 0; i < 50; ++i) {
      const double difference = row[i] - double{scale} * codes[i];
      error += difference * difference;
      energy += double{row[i]} * double{row[i]};
    }
  }
  EXPECT_NEAR(estimator.dynamic_relative_error(), std::sqrt(error / energy), 1e-7);
  EXPECT_LT(estimator.dynamic_relative_error(), estimator.estimate(kInt8, {}).loss.relative_error);
}

TEST(RangeEstimator, ValuesOfEveryKindHaveARange) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  constexpr float kSubnormal = std::numeric_limits<float>::denorm_min();
  const std::vector<std::vector<float>> kinds = {
      {0.0f, 0.0f, -0.0f},    {3.7f, 3.7f, 3.7f},        {-2.5f},
      {kLargest, -kLargest},  {kLargest, 1.0f, 0.0f},    {kSubnormal, -kSubnormal, 3 * kSubnormal},
      {0x1p-110f, 0x1p-120f}, {1.0f, 0x1p-126f, 1e-30f}, {5.0f, 6.0f, 7.0f},
  };
  for (const std::vector<float>& values : kinds) {
    const ActivationRangeEstimator estimator = estimator_of(values, 1);
    for (const ActivationMode mode : {kInt8, kUint8}) {
      for (const RangeEstimate& estimate : estimator.estimates(mode)) {
        SCOPED_TRACE(fmt::format("{} {} {}", values[0], name(estimate.method), to_string(mode)));
        EXPECT_LE(estimate.low, 0);
        EXPECT_GE(estimate.high, 0);
        EXPECT_TRUE(std::isfinite(estimate.scale.scale));
        EXPECT_GE(estimate.scale.scale, 0x1p-100f);
        EXPECT_TRUE(std::isfinite(estimate.loss.relative_error));
        EXPECT_GE(estimate.loss.clipped_energy, 0);
        EXPECT_LE(estimate.loss.clipped_energy, 1 + 1e-12);
        EXPECT_LE(estimate.loss.zeroed_share, 1);
      }
    }
    const RangeEstimate minmax = estimator.estimate(kInt8, {});
    EXPECT_EQ(minmax.scale.scale, int8_scale(std::max(std::abs(estimator.smallest()), std::abs(estimator.largest()))));
    EXPECT_EQ(minmax.loss.clipped_share, 0);
  }
  // A constant is a code: exactly so but for the rounding of the scale.
  EXPECT_LT(estimator_of(kinds[1], 1).estimate(kInt8, {}).loss.relative_error, 1e-7);
  EXPECT_EQ(estimator_of(kinds[0], 1).estimate(kInt8, {}).scale.scale, 1.0f);
}

TEST(RangeEstimator, NanAndInfinityAreErrorsThatNameSiteAndRow) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    ActivationRangeEstimator estimator("model.layers.3.mlp.down_proj");
    ChannelRangeEstimator channels("model.layers.3.mlp.down_proj");
    std::vector<float> values(30, 1.0f);
    estimator.add(values, 3);
    channels.add(values, 3);
    const std::vector<RangeEstimate> before = estimator.estimates(kInt8);
    values[13] = values[22] = bad;
    const auto names_it =
        AllOf(HasSubstr("'model.layers.3.mlp.down_proj'"), HasSubstr("row 14 "), HasSubstr("column 1"));
    EXPECT_THAT([&] { estimator.add(values, 3); }, testing::ThrowsMessage<NumericError>(names_it));
    EXPECT_THAT([&] { channels.add(values, 3); }, testing::ThrowsMessage<NumericError>(names_it));
    EXPECT_EQ(estimator.rows(), 10);
    expect_same(estimator.estimates(kInt8)[0], before[0]);
  }
}

TEST(RangeEstimator, WhatCannotBeIsRefused) {
  ActivationRangeEstimator estimator("site");
  EXPECT_THAT([&] { estimator.estimate(kInt8, {}); }, testing::ThrowsMessage<Error>(HasSubstr("'site'")));
  const std::vector<float> values(6, 1.0f);
  EXPECT_THROW(estimator.add(values, 4), ShapeError);
  EXPECT_THROW(estimator.add(values, 0), ShapeError);
  estimator.add(values, 3);
  EXPECT_THROW(estimator.add(values, 2), ShapeError);
  EXPECT_THROW(estimator.estimate(ActivationMode::kDynamicPerToken, {}), UsageError);
  EXPECT_THROW(estimator.estimate(kInt8, {RangeMethod::kPercentile, 98.0}), UsageError);
  EXPECT_THROW(estimator.estimate(kInt8, {RangeMethod::kPercentile, 100.0}), UsageError);
  EXPECT_THROW(ActivationRangeEstimator("site", 0), UsageError);
  EXPECT_THROW(parse_range_method("min_max"), UsageError);
  for (const RangeMethod method : range_methods()) EXPECT_EQ(parse_range_method(name(method)), method);
}

TEST(RangeEstimator, TheHistogramHoldsEveryValue) {
  const std::vector<float> values = golden_values("normal");
  const std::vector<HistogramBar> bars = estimator_of(values).histogram(40);
  ASSERT_EQ(bars.size(), 40);
  int64_t total = 0;
  for (const HistogramBar& bar : bars) {
    const auto held = std::ranges::count_if(values, [&](float x) { return x >= bar.low && x < bar.high; });
    EXPECT_NEAR(bar.count, held, 4);
    total += bar.count;
  }
  EXPECT_NEAR(total, values.size(), 20);
}

TEST(ChannelRangeEstimator, EveryColumnHasTheRangeItHasByItself) {
  constexpr int64_t kColumns = 19;
  std::vector<float> values = golden_values("normal");
  values.resize(values.size() / kColumns * kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= std::ldexp(1.0f, static_cast<int>(i % kColumns) - 9);
  ChannelRangeEstimator estimator("site", 64, 2);
  const size_t half = values.size() / kColumns / 2 * kColumns;
  estimator.add(std::span(values).first(half), kColumns);
  estimator.add(std::span(values).subspan(half), kColumns);
  for (const RangeMethod method :
       {RangeMethod::kMinMax, RangeMethod::kMovingAverage, RangeMethod::kPercentile, RangeMethod::kMse}) {
    const std::vector<RangeEstimate> estimates = estimator.estimate(kInt8, {method, 99.0});
    ASSERT_EQ(estimates.size(), kColumns);
    for (int64_t c = 0; c < kColumns; ++c) {
      std::vector<float> column;
      for (size_t i = c; i < values.size(); i += kColumns) column.push_back(values[i]);
      ActivationRangeEstimator alone("site", 64);
      alone.add(column, 1);
      const RangeEstimate expected = alone.estimate(kInt8, {method, 99.0});
      const bool exact = method == RangeMethod::kMinMax || method == RangeMethod::kMovingAverage;
      const double tolerance = exact ? 0 : method == RangeMethod::kPercentile ? 0x1p-6 : 0.1;
      EXPECT_NEAR(estimates[c].high, expected.high, tolerance * expected.high) << name(method) << c;
      EXPECT_NEAR(estimates[c].loss.relative_error, expected.loss.relative_error, 0.002) << name(method) << c;
    }
  }
  EXPECT_THROW(estimator.estimate(kInt8, {RangeMethod::kEntropy}), UsageError);
}

}  // namespace
}  // namespace octet

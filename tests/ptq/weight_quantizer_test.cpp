// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/weight_quantizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/ptq/awq.h"
#include "octet/ptq/output_error.h"
#include "octet/quant/quantize.h"
#include "tests/ptq/correlated_inputs.h"

namespace octet {
namespace {

constexpr CodeMapping kMappings[] = {CodeMapping::kSymmetric, CodeMapping::kZeroPoint, CodeMapping::kMinimum};

// tr(ΔW · H · ΔWᵀ) as it is written.
double lost(const Tensor& weight, const QTensor& quantized, const InputStatistics& statistics) {
  const int64_t rows = quantized.rows(), cols = quantized.cols();
  const std::vector<int32_t> group_of = group_of_columns(quantized);
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<double> error(cols);
    for (int64_t c = 0; c < cols; ++c) {
      error[c] = weight.as<float>()[r * cols + c] -
                 decode(quantized.codes.as<int8_t>()[r * cols + c], group_grid(quantized, r, group_of[c]));
    }
    for (int64_t i = 0; i < cols; ++i) {
      for (int64_t j = 0; j < cols; ++j) sum += error[i] * statistics.hessian()[i * cols + j] * error[j];
    }
  }
  return sum;
}

TEST(WeightQuantizer, TheOutputErrorIsTheShareOfTheOutputsEnergyThatIsLost) {
  for (const int64_t cols : {1, 33, 96, 200}) {
    for (const int64_t rows : {1, 31, 70}) {
      const std::vector<float> x = correlated_inputs(50, cols, 7, 1);
      const InputStatistics statistics = statistics_of(x, cols);
      const Tensor weight = matrix_of(random_floats(rows * cols, 2), rows, cols);
      const QuantizedWeight made = quantize_weight(weight.view(), {.bits = 4}, {}, &statistics, "layer", 2);
      // Outputs, one by one.
      const Tensor rounded = dequantize(made.tensor);
      double error = 0, energy = 0;
      for (int64_t n = 0; n < 50; ++n) {
        for (int64_t r = 0; r < rows; ++r) {
          double y = 0, z = 0;
          for (int64_t c = 0; c < cols; ++c) {
            y += double{x[n * cols + c]} * weight.as<float>()[r * cols + c];
            z += double{x[n * cols + c]} * rounded.as<float>()[r * cols + c];
          }
          error += (y - z) * (y - z);
          energy += y * y;
        }
      }
      EXPECT_NEAR(made.output_error, error / energy, 1e-5 * error / energy) << rows << "x" << cols;
    }
  }
}

TEST(WeightQuantizer, WithoutStatisticsTheOutputErrorIsNotANumber) {
  const Tensor weight = matrix_of(random_floats(64, 3), 2, 32);
  const QuantizedWeight made = quantize_weight(weight.view(), {.bits = 4}, {}, nullptr, "layer");
  EXPECT_TRUE(std::isnan(made.output_error));
  EXPECT_TRUE(made.notes.empty());
}

TEST(WeightQuantizer, RoundingToNearestIsTheOneQuantizers) {
  const Tensor weight = matrix_of(random_floats(5 * 64, 4), 5, 64);
  for (const CodeMapping mapping : kMappings) {
    const WeightScheme scheme = {.bits = 4, .group_size = 32, .mapping = mapping, .range = RangeEstimator::kMse};
    const QTensor made = quantize_weight(weight.view(), scheme, {}, nullptr, "layer").tensor,
                  expected = quantize_weight(weight.view(), scheme, "layer");
    EXPECT_TRUE(std::ranges::equal(made.codes.as<int8_t>(), expected.codes.as<int8_t>()));
    EXPECT_TRUE(std::ranges::equal(made.scales.as<float>(), expected.scales.as<float>()));
  }
}

// All algorithms on everything that a weight can be.
TEST(WeightQuantizer, EveryAlgorithmGivesAWeightOfItsSchemeWhateverTheValues) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  std::mt19937_64 engine(5);
  for (const WeightAlgorithm algorithm : {WeightAlgorithm::kRoundToNearest, WeightAlgorithm::kGptq,
                                          WeightAlgorithm::kHessianScales, WeightAlgorithm::kHqq}) {
    for (const int64_t group : {0, 32}) {
      for (const CodeMapping mapping : kMappings) {
        for (const auto& [rows, stored, unused] : {std::tuple{1, 4, 0}, {5, 4, 0}, {3, 4, 1}, {3, 4, 2}, {3, 8, 3}}) {
          if (stored == 8 && mapping == CodeMapping::kMinimum) continue;
          const int64_t cols = group == 0 ? 1 + static_cast<int64_t>(engine() % 50) : 64;
          const WeightScheme scheme = {.bits = stored, .group_size = group, .mapping = mapping, .unused_bits = unused};
          std::vector<float> x = correlated_inputs(1 + engine() % 60, cols, 3, engine());
          for (size_t i = 0; i < x.size(); i += cols) x[i] = 0.0f;  // a dead column
          const InputStatistics statistics = statistics_of(x, cols);
          std::vector<std::vector<float>> weights = {
              random_floats(rows * cols, engine()), std::vector<float>(rows * cols),
              std::vector<float>(rows * cols, -3.0f), random_floats(rows * cols, engine(), 1e-40f)};
          weights.push_back(weights[0]);
          weights.back()[0] = 1e30f;
          weights.push_back(weights[0]);
          for (size_t i = 0; i < weights.back().size(); ++i) weights.back()[i] = i % 3 == 0 ? kLargest : -kLargest;
          for (size_t i = 0; i < weights.size(); ++i) {
            const Tensor weight = matrix_of(weights[i], rows, cols);
            WeightAlgorithmOptions options = {.algorithm = algorithm, .act_order = i % 2 == 0};
            const QuantizedWeight made = quantize_weight(weight.view(), scheme, options, &statistics, "layer", 2);
            check(made.tensor, "layer");
            EXPECT_EQ(made.tensor.scheme, resulting_scheme(scheme, options));
            EXPECT_GE(made.output_error, 0);
            const QTensor again = quantize_weight(weight.view(), scheme, options, &statistics, "layer", 1).tensor;
            EXPECT_TRUE(std::ranges::equal(made.tensor.codes.as<int8_t>(), again.codes.as<int8_t>()));
            EXPECT_TRUE(std::ranges::equal(made.tensor.scales.as<float>(), again.scales.as<float>()));
            if (i == 1) {
              EXPECT_EQ(made.output_error, 0);
            }
          }
        }
      }
    }
  }
}

TEST(HessianScales, CodesAreTheNearestOnTheGridsFound) {
  const int64_t rows = 40, cols = 128;
  const InputStatistics statistics = statistics_of(correlated_inputs(300, cols, 30, 6), cols);
  const Tensor weight = matrix_of(random_floats(rows * cols, 7), rows, cols);
  for (const CodeMapping mapping : kMappings) {
    for (const int64_t group : {0, 32, 64}) {
      const QTensor made = quantize_weight(weight.view(), {.bits = 4, .group_size = group, .mapping = mapping},
                                           {.algorithm = WeightAlgorithm::kHessianScales}, &statistics, "layer")
                               .tensor;
      const Tensor codes = quantize_codes(weight.view(), made, "layer");
      EXPECT_TRUE(std::ranges::equal(made.codes.as<int8_t>(), codes.as<int8_t>()));
    }
  }
}

// One group a row: the search can be done by hand, share by share.
TEST(HessianScales, OfAWholeRowAreTheBestOfTheSharesTried) {
  const int64_t rows = 12, cols = 50;
  const InputStatistics statistics = statistics_of(correlated_inputs(200, cols, 20, 8), cols);
  const Tensor weight = matrix_of(random_floats(rows * cols, 9), rows, cols);
  for (const CodeMapping mapping : kMappings) {
    const WeightScheme scheme = {.bits = 4, .mapping = mapping};
    const QTensor made =
        quantize_weight(weight.view(), scheme, {.algorithm = WeightAlgorithm::kHessianScales}, &statistics, "layer")
            .tensor;
    for (int64_t r = 0; r < rows; ++r) {
      const Tensor row = matrix_of(weight.as<float>().subspan(r * cols, cols), 1, cols);
      const auto with_share = [&](int share) {
        QTensor one = make_qtensor(scheme, 1, cols);
        set_group_grid(one, 0, 0, shortened_group_grid(row.as<float>(), scheme, share));
        one.codes = quantize_codes(row.view(), one, "row");
        return one;
      };
      int best = 100;
      double least = lost(row, with_share(100), statistics);
      const auto try_share = [&](int share) {
        const double error = lost(row, with_share(share), statistics);
        if (error < least * (1 - 1e-12)) {
          least = error;
          best = share;
        }
      };
      for (int share = 96; share >= 50; share -= 4) try_share(share);
      const int around = best;
      for (const int step : {-3, -2, -1, 1, 2, 3}) try_share(std::clamp(around + step, 50, 100));
      EXPECT_EQ(group_grid(made, r, 0), group_grid(with_share(best), 0, 0)) << "row " << r;
    }
  }
}

TEST(HessianScales, NeverLoseMoreThanThoseTheyBeginWith) {
  std::mt19937_64 engine(10);
  for (int trial = 0; trial < 20; ++trial) {
    const int64_t rows = 1 + engine() % 40, cols = 32 * (1 + engine() % 5);
    const InputStatistics statistics = statistics_of(correlated_inputs(1 + engine() % 300, cols, 15, engine()), cols);
    const Tensor weight = matrix_of(random_floats(rows * cols, engine()), rows, cols);
    for (const RangeEstimator range : {RangeEstimator::kAbsmax, RangeEstimator::kMse}) {
      const WeightScheme scheme = {.bits = 4, .group_size = 32, .mapping = kMappings[trial % 3], .range = range};
      const QTensor searched =
          quantize_weight(weight.view(), scheme, {.algorithm = WeightAlgorithm::kHessianScales}, &statistics, "layer")
              .tensor;
      EXPECT_LE(lost(weight, searched, statistics),
                lost(weight, quantize_weight(weight.view(), scheme, "layer"), statistics) * (1 + 1e-12));
    }
  }
}

double mean_error(const Tensor& weight, const QTensor& quantized) {
  const Tensor values = dequantize(quantized);
  double sum = 0;
  for (size_t i = 0; i < values.as<float>().size(); ++i)
    sum += std::fabs(double{values.as<float>()[i]} - weight.as<float>()[i]);
  return sum;
}

TEST(Hqq, LosesLessOnAverageThanTheGridsItBeginsWith) {
  // Weights with outliers, which a few large errors are the right price for.
  std::vector<float> values = random_floats(50 * 128, 11, 0.05f);
  for (size_t i = 0; i < values.size(); i += 61) values[i] *= 4;
  const Tensor weight = matrix_of(values, 50, 128);
  for (const CodeMapping mapping : kMappings) {
    for (const int64_t group : {0, 64}) {
      const WeightScheme scheme = {.bits = 4, .group_size = group, .mapping = mapping};
      const QTensor made =
          quantize_weight(weight.view(), scheme, {.algorithm = WeightAlgorithm::kHqq}, nullptr, "layer").tensor;
      const double before = mean_error(weight, quantize_weight(weight.view(), scheme, "layer"));
      EXPECT_LT(mean_error(weight, made), (mapping == CodeMapping::kZeroPoint ? 0.999 : 0.99) * before)
          << static_cast<int>(mapping) << " " << group;
      const Tensor codes = quantize_codes(weight.view(), made, "layer");
      EXPECT_TRUE(std::ranges::equal(made.codes.as<int8_t>(), codes.as<int8_t>()));
    }
  }
}

// The paper's iteration on one group, written for its real zero points: z = -minimum / scale.
TEST(Hqq, OfMinimaIsTheIterationOfThePaper) {
  int moved = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::vector<float> values = random_floats(64, 100 + seed, 0.5f);
    values[seed] = 2.5f;
    const Tensor weight = matrix_of(values, 1, 64);
    const WeightScheme scheme = {.bits = 4, .mapping = CodeMapping::kMinimum};
    const QTensor made =
        quantize_weight(weight.view(), scheme, {.algorithm = WeightAlgorithm::kHqq}, nullptr, "layer").tensor;
    const auto [low, high] = std::ranges::minmax(values);
    const double scale = (high - low) / 15.0f, first = -low / scale;
    double zero = first, best = zero, least = std::numeric_limits<double>::infinity(), beta = 10;
    for (int turn = 0; turn <= 20; ++turn, beta *= 1.01) {
      double error = 0, next = 0;
      for (const float w : values) {
        const double q = std::clamp(std::nearbyint(w / scale + zero), 0.0, 15.0), difference = w - scale * (q - zero);
        const double magnitude = std::max(0.0, std::fabs(difference) - std::pow(std::fabs(difference), 0.7 - 1) / beta);
        next += q - (w - std::copysign(magnitude, difference)) / scale;
        error += std::fabs(difference);
      }
      if (!(error < least)) break;
      least = error;
      best = zero;
      zero = next / 64;
    }
    moved += best != first ? 1 : 0;
    EXPECT_NEAR(made.minima.as<float>()[0], -best * scale, 1e-6) << seed;
    EXPECT_EQ(made.scales.as<float>()[0], static_cast<float>(scale)) << seed;
  }
  EXPECT_GT(moved, 10);
}

TEST(Awq, FactorsAreThoseOfThePapersGridWithTheLeastOutputError) {
  const int64_t cols = 64;
  std::vector<float> x = correlated_inputs(400, cols, 20, 13);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= i % cols == 9 ? 0.0f : i % cols == 5 ? 30.0f : 1.0f;
  const InputStatistics statistics = statistics_of(x, cols);
  const Tensor first = matrix_of(random_floats(24 * cols, 14), 24, cols),
               second = matrix_of(random_floats(7 * cols, 15), 7, cols);
  const std::vector<ConstTensorView> into = {first.view(), second.view()};
  const WeightScheme scheme = {.bits = 4, .group_size = 32};
  const AwqFactors found = awq_factors(statistics, into, scheme, "block", 2);
  EXPECT_GT(found.alpha, 0);
  EXPECT_LT(found.error, found.error_without);
  EXPECT_EQ(found.factors[9], 1.0f);

  std::vector<double> mean(cols);
  for (int64_t c = 0; c < cols; ++c) mean[c] = statistics.abs_sum()[c] / 400;
  double least = std::numeric_limits<double>::infinity(), best = 0, energy = 0;
  for (int step = 0; step < 20; ++step) {
    std::vector<double> factors(cols, 1.0);
    double smallest = std::numeric_limits<double>::infinity(), largest = 0;
    for (int64_t c = 0; c < cols; ++c) {
      if (mean[c] == 0) continue;
      factors[c] = std::pow(mean[c], step / 20.0);
      smallest = std::min(smallest, factors[c]);
      largest = std::max(largest, factors[c]);
    }
    double error = 0;
    energy = 0;
    for (const Tensor* weight : {&first, &second}) {
      const int64_t rows = weight->shape()[0];
      Tensor scaled = Tensor::copy_of(weight->view());
      for (int64_t i = 0; i < rows * cols; ++i) {
        double& factor = factors[i % cols];
        scaled.mutable_as<float>()[i] *=
            static_cast<float>(mean[i % cols] == 0 ? 1 : factor / std::sqrt(smallest * largest));
      }
      const Tensor rounded = dequantize(quantize_weight(scaled.view(), scheme, "layer"));
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<double> e(cols), w(cols);
        for (int64_t c = 0; c < cols; ++c) {
          w[c] = weight->as<float>()[r * cols + c];
          e[c] = w[c] -
                 rounded.as<float>()[r * cols + c] / (mean[c] == 0 ? 1 : factors[c] / std::sqrt(smallest * largest));
        }
        for (int64_t i = 0; i < cols; ++i) {
          for (int64_t j = 0; j < cols; ++j) {
            error += e[i] * statistics.hessian()[i * cols + j] * e[j];
            energy += w[i] * statistics.hessian()[i * cols + j] * w[j];
          }
        }
      }
    }
    if (step == 0) {
      EXPECT_NEAR(found.error_without, error / energy, 1e-6 * error / energy);
    }
    if (error < least) {
      least = error;
      best = step / 20.0;
    }
  }
  EXPECT_EQ(found.alpha, best);
  EXPECT_NEAR(found.error, least / energy, 1e-3 * least / energy);
}

TEST(Awq, InputsThatWereAllZeroLeaveEverythingAsItIs) {
  const InputStatistics statistics = statistics_of(std::vector<float>(3 * 32), 32);
  const Tensor weight = matrix_of(random_floats(4 * 32, 16), 4, 32);
  const ConstTensorView view = weight.view();
  const AwqFactors found = awq_factors(statistics, {&view, 1}, {.bits = 4}, "block");
  EXPECT_EQ(found.factors, std::vector<float>(32, 1.0f));
  EXPECT_EQ(found.error, 0);
}

// What stays in 16 bits carries no error: the others are quantized as if it were not there.
TEST(WeightQuantizer, OutlierColumnsChangeNothingForTheOthers) {
  const int64_t rows = 24, cols = 60, count = 300;
  const std::vector<int32_t> outliers = {0, 17, 18, 59};
  const std::vector<float> values = random_floats(rows * cols, 31);
  std::vector<float> x = correlated_inputs(count, cols, 20, 30), few_x, few_values;
  const auto is_outlier = [&](int64_t c) { return std::ranges::find(outliers, c) != outliers.end(); };
  for (int64_t i = 0; i < std::ssize(values); ++i) {
    if (!is_outlier(i % cols)) few_values.push_back(values[i]);
  }
  for (int64_t i = 0; i < std::ssize(x); ++i) {
    if (is_outlier(i % cols)) {
      x[i] = 0;
    } else {
      few_x.push_back(x[i]);
    }
  }
  const int64_t few = cols - std::ssize(outliers);
  const Tensor weight = matrix_of(values, rows, cols), fewer = matrix_of(few_values, rows, few);
  const InputStatistics statistics = statistics_of(x, cols), of_fewer = statistics_of(few_x, few);
  for (const WeightAlgorithm algorithm : {WeightAlgorithm::kRoundToNearest, WeightAlgorithm::kGptq,
                                          WeightAlgorithm::kHessianScales, WeightAlgorithm::kHqq}) {
    for (const CodeMapping mapping : kMappings) {
      for (const bool act_order : {false, true}) {
        const WeightScheme scheme{.bits = 4, .mapping = mapping};
        const WeightAlgorithmOptions options{.algorithm = algorithm, .act_order = act_order};
        if (mapping == CodeMapping::kMinimum && needs_statistics(algorithm)) {
          EXPECT_THROW(quantize_weight(weight.view(), scheme, options, &statistics, "layer", 1, outliers), UsageError);
          continue;
        }
        const QuantizedWeight made = quantize_weight(weight.view(), scheme, options, &statistics, "layer", 2, outliers),
                              expected = quantize_weight(fewer.view(), scheme, options, &of_fewer, "layer", 2);
        check(made.tensor, "layer");
        EXPECT_TRUE(std::ranges::equal(made.tensor.outlier_indices(), outliers));
        EXPECT_TRUE(std::ranges::equal(made.tensor.scales.as<float>(), expected.tensor.scales.as<float>()));
        size_t at = 0, different = 0;
        for (int64_t i = 0; i < rows * cols; ++i) {
          if (is_outlier(i % cols)) continue;
          different += made.tensor.codes.as<int8_t>()[i] != expected.tensor.codes.as<int8_t>()[at++] ? 1 : 0;
        }
        // GPTQ sums in another order, which fp64 may notice on the edge between two codes.
        EXPECT_LE(different, algorithm == WeightAlgorithm::kGptq ? 2U : 0U) << static_cast<int>(algorithm);
        EXPECT_NEAR(made.output_error, expected.output_error, 0.01 * expected.output_error);
        EXPECT_EQ(made.notes, expected.notes);
      }
    }
  }
  const InputStatistics all = statistics_of(correlated_inputs(count, cols, 20, 30), cols);
  EXPECT_THROW(
      quantize_weight(weight.view(), {.bits = 4}, {.algorithm = WeightAlgorithm::kGptq}, &all, "layer", 1, outliers),
      UsageError);
}

}  // namespace
}  // namespace octet

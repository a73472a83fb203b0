// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"

namespace octet {
namespace {

using Series = std::vector<double>;
using Vector = std::vector<float>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const nlohmann::json& cases(const char* kind) {
  static const nlohmann::json all =
      parse_json(read_text_file(OCTET_TEST_FILES "/metric_cases.json", 1 << 20), "metric_cases.json");
  return all.at(kind);
}

// A series on a grid so coarse that values repeat.
Series random_series(std::mt19937& random, size_t count, int steps) {
  Series series(count);
  for (double& value : series) value = static_cast<double>(static_cast<int>(random() % (2 * steps + 1)) - steps) / 8;
  series.front() = -1e3;  // never constant
  return series;
}

Series random_labels(std::mt19937& random, size_t count) {
  Series labels(count);
  for (double& label : labels) label = random() % 3 == 0 ? 1 : 0;
  labels[0] = 1;
  labels[1] = 0;
  return labels;
}

Series map(Series series, double (*function)(double)) {
  std::transform(series.begin(), series.end(), series.begin(), function);
  return series;
}

TEST(Correlation, AgreesWithScipy) {
  for (const nlohmann::json& c : cases("correlations")) {
    const Series x = c["x"], y = c["y"];
    EXPECT_NEAR(pearson(x, y), c["pearson"], 1e-12) << x.size() << " points";
    EXPECT_NEAR(spearman(x, y), c["spearman"], 1e-12) << x.size() << " points";
  }
}

TEST(Correlation, PearsonDoesNotNoticeScaleAndOffset) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 50; ++trial) {
    const Series x = random_series(random, 2 + random() % 60, 100), y = random_series(random, x.size(), 100);
    const double expected = pearson(x, y);
    EXPECT_NEAR(pearson(map(x, [](double v) { return 3 * v - 7; }), y), expected, 1e-12);
    EXPECT_NEAR(pearson(map(x, [](double v) { return -v; }), y), -expected, 1e-12);
    EXPECT_NEAR(pearson(map(x, [](double v) { return v * 1e304; }), map(y, [](double v) { return v * 1e-300; })),
                expected, 1e-12);
    // Exact in a double, whose last bit is 1/16 there; the mean is not, and must not cost digits.
    EXPECT_NEAR(pearson(map(x, [](double v) { return v + 0x1p48; }), y), expected, 1e-11);
    EXPECT_DOUBLE_EQ(pearson(y, x), expected);
  }
}

TEST(Correlation, SpearmanIsExactlyTheSameUnderEveryRisingMap) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 50; ++trial) {
    const Series x = random_series(random, 2 + random() % 60, 9), y = random_series(random, x.size(), 9);
    const double expected = spearman(x, y);
    EXPECT_EQ(spearman(map(x, [](double v) { return v * v * v; }), map(y, [](double v) { return std::atan(v); })),
              expected);
    EXPECT_DOUBLE_EQ(spearman(map(x, [](double v) { return -v; }), y), -expected);
  }
  EXPECT_EQ(spearman(Series{1, 2, 3, 4}, Series{-5, 0, 1e300, 1.5e300}), 1);
  EXPECT_EQ(spearman(Series{1, 2, 3}, Series{3, 2, -1}), -1);
  // Ranks 1.5, 1.5, 3 against 1, 2, 3: 1.5 / sqrt(1.5 · 2).
  EXPECT_DOUBLE_EQ(spearman(Series{7, 7, 9}, Series{1, 2, 3}), std::sqrt(3) / 2);
}

TEST(Correlation, IsAnErrorWhereUndefined) {
  const Series one = {1}, constant = {4, 4, 4}, rising = {1, 2, 3};
  for (const auto metric : {pearson, spearman}) {
    EXPECT_THROW(metric({}, {}), Error);
    EXPECT_THROW(metric(one, one), Error);
    EXPECT_THROW(metric(constant, rising), Error);
    EXPECT_THROW(metric(rising, constant), Error);
    EXPECT_THROW(metric(rising, one), ShapeError);
    EXPECT_THROW(metric(rising, Series{1, kNan, 3}), NumericError);
    EXPECT_THROW(metric(Series{1, 2, kInfinity}, rising), NumericError);
  }
}

TEST(Classes, AgreeWithScikitLearn) {
  for (const nlohmann::json& c : cases("classes")) {
    const std::vector<int64_t> predicted = c["predicted"], labels = c["labels"];
    EXPECT_DOUBLE_EQ(accuracy(predicted, labels), c["accuracy"]);
    EXPECT_NEAR(matthews(predicted, labels), c["matthews"], 1e-15);
    if (c.contains("f1")) {
      EXPECT_DOUBLE_EQ(f1_score(predicted, labels), c["f1"]);
    }
  }
  EXPECT_THROW(accuracy({}, {}), Error);
  EXPECT_THROW(matthews(std::vector<int64_t>{1}, {}), ShapeError);
}

TEST(BestThreshold, AgreesWithSentenceTransformers) {
  int compared = 0;
  for (const nlohmann::json& c : cases("rankings")) {
    if (!c.contains("accuracy")) continue;
    const Series scores = c["scores"], labels = c["labels"];
    const BestThreshold accuracy = best_accuracy(scores, labels), f1 = best_f1(scores, labels);
    EXPECT_DOUBLE_EQ(accuracy.value, c["accuracy"]) << scores.size() << " pairs";
    EXPECT_DOUBLE_EQ(accuracy.threshold, c["accuracy_threshold"]) << scores.size() << " pairs";
    EXPECT_DOUBLE_EQ(f1.value, c["f1"]) << scores.size() << " pairs";
    EXPECT_DOUBLE_EQ(f1.threshold, c["f1_threshold"]) << scores.size() << " pairs";
    ++compared;
  }
  EXPECT_GE(compared, 4);
}

struct Confusion {
  double true_positives = 0, false_positives = 0, false_negatives = 0, true_negatives = 0;

  Confusion(const Series& scores, const Series& labels, double threshold) {
    for (size_t i = 0; i < scores.size(); ++i) {
      if (scores[i] > threshold) {
        ++(labels[i] == 1 ? true_positives : false_positives);
      } else {
        ++(labels[i] == 1 ? false_negatives : true_negatives);
      }
    }
  }
  double accuracy() const {
    return (true_positives + true_negatives) / (true_positives + true_negatives + false_positives + false_negatives);
  }
  double f1() const { return 2 * true_positives / (2 * true_positives + false_positives + false_negatives); }
};

TEST(BestThreshold, IsTheHighestOfTheBestWhereScoresTie) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 100; ++trial) {
    const Series scores = random_series(random, 2 + random() % 40, 3 + random() % 10);
    const Series labels = random_labels(random, scores.size());
    double accuracy = -1, f1 = -1, accuracy_threshold = 0, f1_threshold = 0;
    const std::set<double> distinct(scores.begin(), scores.end());
    for (auto high = std::next(distinct.begin()); high != distinct.end(); ++high) {
      const double threshold = (*std::prev(high) + *high) / 2;
      const Confusion confusion(scores, labels, threshold);
      if (confusion.accuracy() >= accuracy) accuracy = confusion.accuracy(), accuracy_threshold = threshold;
      if (confusion.f1() >= f1) f1 = confusion.f1(), f1_threshold = threshold;
    }
    EXPECT_EQ(best_accuracy(scores, labels).value, accuracy);
    EXPECT_EQ(best_accuracy(scores, labels).threshold, accuracy_threshold);
    EXPECT_EQ(best_f1(scores, labels).value, f1);
    EXPECT_EQ(best_f1(scores, labels).threshold, f1_threshold);
  }
}

TEST(BestThreshold, PartsScoresThatAreNeighboursAmongDoubles) {
  for (const double low : {1.0, std::nextafter(1.0, 2.0), -3.0, 0.0, 1.7e308}) {
    const double high = std::nextafter(low, kInfinity);
    const BestThreshold best = best_accuracy(Series{high, low}, Series{1, 0});
    EXPECT_EQ(best.value, 1);
    EXPECT_GE(best.threshold, low);
    EXPECT_LT(best.threshold, high);
  }
}

TEST(BestThreshold, IsAnErrorWhereUndefined) {
  const Series scores = {0.1, 0.2, 0.3}, labels = {0, 1, 1};
  for (const auto metric : {best_accuracy, best_f1}) {
    EXPECT_THROW(metric({}, {}), Error);
    EXPECT_THROW(metric(Series{1}, Series{1}), Error);
    EXPECT_THROW(metric(Series{1, 1, 1}, labels), Error);
    EXPECT_THROW(metric(scores, Series{0, 1, 2}), Error);
    EXPECT_THROW(metric(scores, Series{0, 1, 0.5}), Error);
    EXPECT_THROW(metric(scores, Series{0, 1}), ShapeError);
    EXPECT_THROW(metric(Series{0.1, kNan, 0.3}, labels), NumericError);
  }
  EXPECT_THROW(best_f1(scores, Series{0, 0, 0}), Error);
  EXPECT_EQ(best_accuracy(scores, Series{0, 0, 0}).value, 2.0 / 3);
}

TEST(RocAuc, AgreesWithScikitLearn) {
  for (const nlohmann::json& c : cases("rankings")) {
    EXPECT_DOUBLE_EQ(roc_auc(c["scores"].get<Series>(), c["labels"].get<Series>()), c["auc"])
        << c["scores"].size() << " pairs";
  }
}

TEST(RocAuc, CountsCouplesWithTiesAtOneHalf) {
  std::mt19937 random(4);
  for (int trial = 0; trial < 50; ++trial) {
    const Series scores = random_series(random, 2 + random() % 40, 6), labels = random_labels(random, scores.size());
    double won = 0, couples = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      for (size_t j = 0; j < scores.size(); ++j) {
        if (labels[i] != 1 || labels[j] != 0) continue;
        won += scores[i] > scores[j] ? 1 : (scores[i] == scores[j] ? 0.5 : 0);
        ++couples;
      }
    }
    EXPECT_EQ(roc_auc(scores, labels), won / couples);
    EXPECT_EQ(roc_auc(map(scores, [](double v) { return std::atan(v); }), labels), won / couples);
    EXPECT_DOUBLE_EQ(roc_auc(scores, map(labels, [](double label) { return 1 - label; })), 1 - won / couples);
  }
  EXPECT_EQ(roc_auc(Series{5, 5, 5}, Series{0, 1, 1}), 0.5);
  EXPECT_THROW(roc_auc(Series{1, 2}, Series{1, 1}), Error);
  EXPECT_THROW(roc_auc(Series{1, 2}, Series{0, 0}), Error);
  EXPECT_THROW(roc_auc(Series{1, kNan}, Series{0, 1}), NumericError);
  EXPECT_THROW(roc_auc({}, {}), Error);
}

TEST(VectorDistance, FollowsItsDefinition) {
  const Vector a = {3, 4, 0}, b = {4, 3, 12};
  EXPECT_DOUBLE_EQ(cosine(a, b), 24.0 / 65);
  EXPECT_EQ(cosine(a, a), 1);
  EXPECT_EQ(cosine(Vector{0.1f, 0.7f, -0.3f}, Vector{0.1f, 0.7f, -0.3f}), 1);
  EXPECT_EQ(cosine(a, Vector{-6, -8, 0}), -1);
  EXPECT_EQ(max_abs_difference(a, b), 12);
  EXPECT_EQ(max_abs_difference(b, a), 12);
  EXPECT_DOUBLE_EQ(relative_error(a, b), std::sqrt(1 + 1 + 144) / 5);
  EXPECT_DOUBLE_EQ(relative_error(b, a), std::sqrt(1 + 1 + 144) / 13);
  EXPECT_EQ(relative_error(a, a), 0);
  const Vector huge = {3e38f, -3e38f}, tiny = {1e-45f, 1e-45f};
  EXPECT_DOUBLE_EQ(max_abs_difference(huge, Vector{-3e38f, -3e38f}), 2.0 * 3e38f);
  EXPECT_NEAR(cosine(huge, tiny), 0, 1e-15);
  EXPECT_DOUBLE_EQ(relative_error(huge, Vector{0, -3e38f}), std::sqrt(0.5));
}

TEST(VectorDistance, IsAnErrorWhereUndefined) {
  const Vector a = {1, 2}, zeros = {0, 0}, broken = {1, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THROW(cosine(a, zeros), Error);
  EXPECT_THROW(cosine({}, {}), Error);
  EXPECT_THROW(relative_error(zeros, a), Error);
  EXPECT_EQ(relative_error(zeros, zeros), 0);
  EXPECT_EQ(relative_error(a, zeros), 1);
  EXPECT_EQ(max_abs_difference({}, {}), 0);
  for (const auto metric : {cosine, max_abs_difference, relative_error}) {
    EXPECT_THROW(metric(a, broken), NumericError);
    EXPECT_THROW(metric(broken, a), NumericError);
    EXPECT_THROW(metric(a, Vector{1}), ShapeError);
  }
}

}  // namespace
}  // namespace octet

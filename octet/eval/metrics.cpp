// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <string_view>
#include <vector>

#include "octet/base/error.h"

namespace octet {
namespace {

template <class T>
void check_finite(std::string_view metric, std::span<const T> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) fail<NumericError>("{}: element {} is {}", metric, i, values[i]);
  }
}

template <class T>
void check_pair(std::string_view metric, std::span<const T> a, std::span<const T> b) {
  if (a.size() != b.size()) fail<ShapeError>("{}: {} elements against {}", metric, a.size(), b.size());
  check_finite(metric, a);
  check_finite(metric, b);
}

void check_series(std::string_view metric, std::span<const double> values) {
  if (values.size() < 2) fail("{}: {} point(s); the correlation needs at least 2", metric, values.size());
  if (std::all_of(values.begin(), values.end(), [&](double value) { return value == values[0]; })) {
    fail("{}: all {} values of a series are {}; its correlation with anything is undefined", metric, values.size(),
         values[0]);
  }
}

void subtract_mean(std::span<double> values) {
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  for (double& value : values) value -= mean;
}

// Deviations from the mean, divided by a power of two that brings the values into [-1, 1]: neither their sum nor the
// squares of the deviations (at least 2^-54 of the largest) can then overflow or vanish. No correlation notices a
// scale.
std::vector<double> scaled_deviations(std::span<const double> values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  int exponent = 0;
  std::frexp(std::max(std::abs(*low), std::abs(*high)), &exponent);
  std::vector<double> deviations(values.size());
  std::transform(values.begin(), values.end(), deviations.begin(),
                 [&](double value) { return std::ldexp(value, -exponent); });
  subtract_mean(deviations);
  subtract_mean(deviations);  // what rounding left of it, which matters where the mean is large beside the deviations
  return deviations;
}

// The positions of `scores` from the highest score down.
std::vector<size_t> descending(std::span<const double> scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return order;
}

// Calls visit(begin, end) for every run order[begin, end) of equal scores, first to last.
template <class Visit>
void for_each_tie(std::span<const double> scores, std::span<const size_t> order, Visit&& visit) {
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    while (end < order.size() && scores[order[end]] == scores[order[begin]]) ++end;
    visit(begin, end);
  }
}

// Ranks from 1, highest first; each tie shares the mean of the ranks it takes up.
std::vector<double> average_ranks(std::span<const double> scores) {
  std::vector<double> ranks(scores.size());
  const std::vector<size_t> order = descending(scores);
  for_each_tie(scores, order, [&](size_t begin, size_t end) {
    const double rank = static_cast<double>(begin + 1 + end) / 2;
    for (size_t i = begin; i < end; ++i) ranks[order[i]] = rank;
  });
  return ranks;
}

int64_t count_positives(std::string_view metric, std::span<const double> labels) {
  int64_t positives = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] != 0 && labels[i] != 1) fail("{}: label {} is {}; a label is 0 or 1", metric, i, labels[i]);
    positives += labels[i] == 1 ? 1 : 0;
  }
  return positives;
}

// Halfway between two neighbouring scores, low <= halfway < high whatever the rounding.
double halfway(double low, double high) {
  const double middle = low / 2 + high / 2;
  return middle >= low && middle < high ? middle : low;
}

// The best of figure(true positives, false positives) over the thresholds.
template <class Figure>
BestThreshold sweep(std::string_view metric, std::span<const double> scores, std::span<const double> labels,
                    Figure&& figure) {
  if (scores.size() < 2) fail("{}: {} pair(s); a threshold needs at least 2", metric, scores.size());
  const std::vector<size_t> order = descending(scores);
  if (scores[order.front()] == scores[order.back()]) {
    fail("{}: all {} scores are {}; no threshold parts them", metric, scores.size(), scores[0]);
  }
  BestThreshold best{-1, 0};
  int64_t true_positives = 0, false_positives = 0;
  for_each_tie(scores, order, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) ++(labels[order[i]] == 1 ? true_positives : false_positives);
    if (end == order.size()) return;
    const double value = figure(static_cast<double>(true_positives), static_cast<double>(false_positives));
    if (value > best.value) best = {value, halfway(scores[order[end]], scores[order[begin]])};
  });
  return best;
}

double sum_of_squares(std::span<const float> values) {
  // Doubles neither overflow nor vanish here: a float's square lies between 1e-90 and 1.2e77, or is 0.
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  return squares;
}

double correlation(std::string_view metric, std::span<const double> x, std::span<const double> y) {
  check_pair(metric, x, y);
  check_series(metric, x);
  check_series(metric, y);
  const std::vector<double> dx = scaled_deviations(x), dy = scaled_deviations(y);
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < dx.size(); ++i) {
    xx += dx[i] * dx[i];
    yy += dy[i] * dy[i];
    xy += dx[i] * dy[i];
  }
  // One root of the product, not a product of roots: equal series then give exactly 1.
  return std::clamp(xy / std::sqrt(xx * yy), -1.0, 1.0);
}

}  // namespace

double pearson(std::span<const double> x, std::span<const double> y) { return correlation("Pearson", x, y); }

double spearman(std::span<const double> x, std::span<const double> y) {
  check_pair("Spearman", x, y);
  return correlation("Spearman", average_ranks(x), average_ranks(y));
}

BestThreshold best_accuracy(std::span<const double> scores, std::span<const double> labels) {
  check_pair("accuracy", scores, labels);
  const auto positives = static_cast<double>(count_positives("accuracy", labels));
  const auto negatives = static_cast<double>(labels.size()) - positives;
  return sweep("accuracy", scores, labels, [&](double true_positives, double false_positives) {
    return (true_positives + negatives - false_positives) / (positives + negatives);
  });
}

BestThreshold best_f1(std::span<const double> scores, std::span<const double> labels) {
  check_pair("F1", scores, labels);
  const auto positives = static_cast<double>(count_positives("F1", labels));
  if (positives == 0) fail("F1: none of the {} labels is 1", labels.size());
  // 2 TP + FP + FN = (TP + FP) + positives.
  return sweep("F1", scores, labels, [&](double true_positives, double false_positives) {
    return 2 * true_positives / (true_positives + false_positives + positives);
  });
}

double roc_auc(std::span<const double> scores, std::span<const double> labels) {
  check_pair("ROC AUC", scores, labels);
  const auto positives = static_cast<double>(count_positives("ROC AUC", labels));
  const auto negatives = static_cast<double>(labels.size()) - positives;
  if (positives == 0 || negatives == 0) {
    fail("ROC AUC: {} of {} labels are 1; both labels are needed", positives, labels.size());
  }
  // A negative outranked by a positive counts 1, a tie 1/2; all are integers or halves, exact in a double.
  const std::vector<size_t> order = descending(scores);
  double won = 0, positives_above = 0;
  for_each_tie(scores, order, [&](size_t begin, size_t end) {
    double tied_positives = 0, tied_negatives = 0;
    for (size_t i = begin; i < end; ++i) ++(labels[order[i]] == 1 ? tied_positives : tied_negatives);
    won += tied_negatives * (positives_above + tied_positives / 2);
    positives_above += tied_positives;
  });
  return won / (positives * negatives);
}

double accuracy(std::span<const int64_t> predicted, std::span<const int64_t> labels) {
  check_pair("accuracy", predicted, labels);
  if (labels.empty()) fail("accuracy: of no predictions");
  int64_t right = 0;
  for (size_t i = 0; i < labels.size(); ++i) right += predicted[i] == labels[i] ? 1 : 0;
  return static_cast<double>(right) / static_cast<double>(labels.size());
}

double f1_score(std::span<const int64_t> predicted, std::span<const int64_t> labels) {
  check_pair("F1", predicted, labels);
  int64_t true_positives = 0, positives = 0;  // the latter of both sides
  for (size_t i = 0; i < labels.size(); ++i) {
    true_positives += predicted[i] == 1 && labels[i] == 1 ? 1 : 0;
    positives += (predicted[i] == 1 ? 1 : 0) + (labels[i] == 1 ? 1 : 0);
  }
  return positives == 0 ? 0 : static_cast<double>(2 * true_positives) / static_cast<double>(positives);
}

double matthews(std::span<const int64_t> predicted, std::span<const int64_t> labels) {
  check_pair("Matthews", predicted, labels);
  // With n pairs, c of them right, p_k predictions and t_k labels of class k:
  // (c n - Σ p_k t_k) / sqrt((n² - Σ p_k²) (n² - Σ t_k²)).
  std::map<int64_t, std::pair<double, double>> of_class;
  double right = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    ++of_class[predicted[i]].first;
    ++of_class[labels[i]].second;
    right += predicted[i] == labels[i] ? 1 : 0;
  }
  const auto n = static_cast<double>(labels.size());
  double both = 0, of_predictions = n * n, of_labels = n * n;
  for (const auto& [name, counts] : of_class) {
    both += counts.first * counts.second;
    of_predictions -= counts.first * counts.first;
    of_labels -= counts.second * counts.second;
  }
  if (of_predictions == 0 || of_labels == 0) return 0;
  return std::clamp((right * n - both) / std::sqrt(of_predictions * of_labels), -1.0, 1.0);
}

double cosine(std::span<const float> a, std::span<const float> b) {
  check_pair("cosine", a, b);
  const double scale = std::sqrt(sum_of_squares(a) * sum_of_squares(b));
  if (scale == 0) fail("cosine: a vector of {} elements is zero throughout; its direction is undefined", a.size());
  double product = 0;
  for (size_t i = 0; i < a.size(); ++i) product += static_cast<double>(a[i]) * b[i];
  return std::clamp(product / scale, -1.0, 1.0);
}

double max_abs_difference(std::span<const float> a, std::span<const float> b) {
  check_pair("largest difference", a, b);
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  return largest;
}

double relative_error(std::span<const float> reference, std::span<const float> other) {
  check_pair("relative error", reference, other);
  double squares = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double difference = static_cast<double>(reference[i]) - other[i];
    squares += difference * difference;
  }
  if (squares == 0) return 0;
  const double size = std::sqrt(sum_of_squares(reference));
  if (size == 0) fail("relative error: the reference's {} elements are zero, the other's are not", reference.size());
  return std::sqrt(squares) / size;
}

}  // namespace octet

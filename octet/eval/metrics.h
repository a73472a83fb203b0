// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace octet {

// Every function here reads all of its input and throws ShapeError where two series differ in length, NumericError
// where a number is NaN or infinite, and Error where the figure is not defined: never a silent 0 or NaN. Sums are taken
// in double.

/// Pearson's correlation: Σ (x - x̄)(y - ȳ) / sqrt(Σ (x - x̄)² · Σ (y - ȳ)²), in [-1, 1].
/// Not defined for fewer than two points or where all of x, or all of y, are equal.
double pearson(std::span<const double> x, std::span<const double> y);

/// Spearman's rank correlation: Pearson's of the ranks. Equal values share the mean of the ranks they take up
/// (Kendall and Gibbons, Rank Correlation Methods). Not defined where Pearson's is not.
double spearman(std::span<const double> x, std::span<const double> y);

/// A figure at the threshold where it is largest.
struct BestThreshold {
  double value = 0;
  double threshold = 0;  ///< a score above it says "positive"
};

/// The largest share of labels met by calling a pair positive where its score exceeds a threshold. Labels are 0 or 1.
///
/// The thresholds tried lie halfway between each two neighbours among the distinct scores, so each leaves pairs on
/// both sides; of equally good ones the highest is taken. That is the rule of sentence-transformers'
/// BinaryClassificationEvaluator, except that equal scores are never parted: the order of the pairs does not matter.
/// Not defined for fewer than two pairs or where all scores are equal.
BestThreshold best_accuracy(std::span<const double> scores, std::span<const double> labels);

/// The same for F1 = 2 · precision · recall / (precision + recall) = 2 TP / (2 TP + FP + FN).
/// Moreover not defined where no label is 1.
BestThreshold best_f1(std::span<const double> scores, std::span<const double> labels);

/// The area under the receiver operating characteristic: how often a positive's score exceeds a negative's over all
/// such couples, equal scores counting one half (the statistic of Mann and Whitney, 1947). Labels are 0 or 1.
/// Not defined where only one of the labels occurs.
double roc_auc(std::span<const double> scores, std::span<const double> labels);

/// The share of predictions, classes of any numbers, that are the label's. Not defined for none.
double accuracy(std::span<const int64_t> predicted, std::span<const int64_t> labels);

/// F1 = 2 TP / (2 TP + FP + FN) of the class 1; 0 where neither predictions nor labels have one.
double f1_score(std::span<const int64_t> predicted, std::span<const int64_t> labels);

/// Matthews' correlation coefficient (1975), of any number of classes (Gorodkin, 2004), in [-1, 1]; 0, as other tools
/// have it, where all predictions, or all labels, are one class.
double matthews(std::span<const int64_t> predicted, std::span<const int64_t> labels);

/// a · b / (‖a‖ ‖b‖), in [-1, 1]. Not defined for a vector of zeros or without elements.
double cosine(std::span<const float> a, std::span<const float> b);

/// max |a - b|; 0 where there are no elements.
double max_abs_difference(std::span<const float> a, std::span<const float> b);

/// ‖reference - other‖ / ‖reference‖ in the Euclidean norm; 0 where the two are equal, whatever they hold.
/// Not defined where only `reference` is zero throughout.
double relative_error(std::span<const float> reference, std::span<const float> other);

}  // namespace octet

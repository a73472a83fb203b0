// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/tensor/scheme.h"

namespace octet {

/// How the range that a static activation scale covers is found. low ≤ 0 ≤ high in all of them; symmetric codes cover
/// [-max(-low, high), max(-low, high)].
enum class RangeMethod : uint8_t {
  kMinMax,  ///< the smallest and the largest value: nothing is clipped
  /// averages over batches of their smallest and largest values, the latest counting most (Jacob et al., 2018)
  kMovingAverage,
  /// the given percentile of values and its mirror image, 100 less it; of symmetric codes that of magnitudes
  kPercentile,
  kMse,      ///< the range with the least squared error of the dequantized values
  kEntropy,  ///< the range whose codes' distribution diverges least from the values' (Migacz, 2017)
  kBest,     ///< of all these the one with the least relative error; of equals the one that comes first
};

/// "minmax", "moving_average", "percentile", "mse", "entropy", "best": what recipes call them.
std::string_view name(RangeMethod method) noexcept;
/// Throws UsageError, which names the nearest known one, for another name.
RangeMethod parse_range_method(std::string_view text);
/// All but kBest.
std::span<const RangeMethod> range_methods() noexcept;

/// What quantizing by a scale does to values. It tells a collapse before any evaluation: by clipping, where
/// clipped_energy is large though clipped_share is small; by too long a step, where zeroed_share is large though
/// relative_error is small, as outliers hold most of Σ x².
struct QuantizationLoss {
  double clipped_share = 0;   ///< of values, those more than half a step beyond the last code
  double clipped_energy = 0;  ///< of Σ x², what these values hold
  double zeroed_share = 0;    ///< of values that are not 0, those whose code stands for 0
  double clipping_error = 0;  ///< √(Σ (x - clamp(x))² / Σ x²)
  double relative_error = 0;  ///< √(Σ (x - dequantized x)² / Σ x²), clipping_error included
};

/// A range found, its scale, and what that does to the values seen.
struct RangeEstimate {
  RangeMethod method = RangeMethod::kMinMax;  ///< never kBest, but the winner
  float low = 0, high = 0;                    ///< low = -high of symmetric codes
  ActivationScale scale;
  QuantizationLoss loss;
};

struct RangeOptions {
  RangeMethod method = RangeMethod::kMinMax;
  double percentile = 99.99;  ///< from 99 to 99.9999
  int bits = 8;               ///< of the codes, 2 to 8
};

/// One bar of a histogram: values in [low, high).
struct HistogramBar {
  float low, high;
  int64_t count;
};

/// The values that flow through one site, seen in any number of parts, in memory that does not grow with them. What it
/// finds has the same bits whatever the threads, and however the stream of rows was cut into calls of add.
///
/// Kept are the exact smallest and largest value and counts in bins of the floats' own making: a bin is a sign, an
/// exponent and the first 11 bits of a mantissa, so its width is at most 2^-11 of its values (as HdrHistogram's, Tene,
/// 2012). Pages of bins exist for the exponents that were met: 16 KB each, at most 8 MB in all. Within a bin values
/// count as evenly spread. As the distance to the nearest code changes no faster than a value does, that puts errors
/// off by at most 2^-11, whatever the values; on smooth distributions by far less.
class ActivationRangeEstimator {
 public:
  /// `site` is named in errors. `batch_rows` consecutive rows are a batch of kMovingAverage, the last one what is left;
  /// threads 0: as many as there are.
  explicit ActivationRangeEstimator(std::string site, int64_t batch_rows = 512, int threads = 0);
  ActivationRangeEstimator(ActivationRangeEstimator&&) noexcept;
  ActivationRangeEstimator& operator=(ActivationRangeEstimator&&) noexcept;
  ~ActivationRangeEstimator();

  /// rows [n, columns], n any. Throws NumericError, naming the site and the first such row, where one holds NaN or
  /// infinity (nothing of this call counts then), and ShapeError where `columns` changes or does not divide the values.
  void add(std::span<const float> rows, int64_t columns);

  const std::string& site() const noexcept;
  int64_t rows() const noexcept;
  int64_t columns() const noexcept;  ///< 0 before the first add
  float smallest() const noexcept;   ///< 0 of no values
  float largest() const noexcept;
  /// √(Σ error² / Σ x²) that dynamic INT8, one scale a row, has on the same rows: what a static scale is measured by.
  double dynamic_relative_error() const noexcept;

  /// The range and scale for a static `mode`. Throws UsageError for a mode that is not static or a percentile that is
  /// not offered, and Error, naming the site, where no value was seen.
  RangeEstimate estimate(ActivationMode mode, const RangeOptions& options) const;
  /// Those of all methods but kBest, in their order.
  std::vector<RangeEstimate> estimates(ActivationMode mode, double percentile = RangeOptions().percentile,
                                       int bits = 8) const;
  /// What a given scale does to the values seen.
  QuantizationLoss measure(ActivationMode mode, const ActivationScale& scale) const;

  /// Values in `bars` bars of one width from the smallest to the largest; counts are rounded from fractions of bins.
  std::vector<HistogramBar> histogram(int bars) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The same for each column of the rows by itself: ranges [columns]. 64 bins for each power of two, so errors are known
/// to 2^-6; methods other than kEntropy, whose procedure needs finer ones.
class ChannelRangeEstimator {
 public:
  explicit ChannelRangeEstimator(std::string site, int64_t batch_rows = 512, int threads = 0);
  ChannelRangeEstimator(ChannelRangeEstimator&&) noexcept;
  ChannelRangeEstimator& operator=(ChannelRangeEstimator&&) noexcept;
  ~ChannelRangeEstimator();

  /// As ActivationRangeEstimator::add.
  void add(std::span<const float> rows, int64_t columns);
  int64_t rows() const noexcept;
  int64_t columns() const noexcept;
  /// [columns]. Throws as ActivationRangeEstimator::estimate, and UsageError for kEntropy.
  std::vector<RangeEstimate> estimate(ActivationMode mode, const RangeOptions& options) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace octet

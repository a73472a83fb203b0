// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "octet/quant/range_estimator.h"
#include "octet/quant/value_histogram.h"

namespace octet {

/// The ends of a range.
struct Range {
  float low = 0, high = 0;
};

/// What is known of the values of a site, or of one of its channels, once they have gone by.
class SeenValues {
 public:
  /// `bins` ascend, as ValueHistogram gives them; `extremes` are the exact smallest and largest value.
  SeenValues(std::vector<ValueBin> bins, Range extremes, Range moving_average);

  std::span<const ValueBin> bins() const noexcept { return bins_; }
  int64_t count() const noexcept { return count_; }
  Range extremes() const noexcept { return extremes_; }
  Range moving_average() const noexcept { return moving_average_; }
  double energy() const noexcept { return energy_; }  ///< Σ x²
  /// The value below which a share of all values lies, interpolated between the two nearest ranks.
  double quantile(double share) const;
  /// The same of magnitudes.
  double magnitude_quantile(double share) const;

 private:
  std::vector<ValueBin> bins_;
  Range extremes_, moving_average_;
  int64_t count_ = 0;
  double energy_ = 0;
};

/// Codes of a static mode are whole steps of its scale, counted from the zero point.
struct CodeSteps {
  double step, lowest, highest;

  CodeSteps(ActivationMode mode, const ActivationScale& scale) noexcept;
};

/// Σ (x - dequantized x)², values within a bin evenly spread.
double squared_error(std::span<const ValueBin> bins, const CodeSteps& codes) noexcept;
QuantizationLoss quantization_loss(const SeenValues& seen, const CodeSteps& codes) noexcept;

/// The scale that covers a range in a static `mode`, with codes of so many bits.
ActivationScale scale_for(ActivationMode mode, Range range, int bits) noexcept;

/// The range that a method, not kBest, finds. kEntropy needs bins of a ValueHistogram of 11 bits.
Range find_range(const SeenValues& seen, ActivationMode mode, const RangeOptions& options);

/// As ActivationRangeEstimator::histogram.
std::vector<HistogramBar> bars_of(const SeenValues& seen, int bars);

/// As ActivationRangeEstimator::estimate; `what` is named in errors.
RangeEstimate estimate_range(const SeenValues& seen, ActivationMode mode, const RangeOptions& options,
                             std::span<const RangeMethod> offered, const std::string& what);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace octet {

/// An axis of a chart: where values lie on it, and which of them are marked.
class Axis {
 public:
  enum class Scale : uint8_t {
    kLinear,
    kLogarithmic,  ///< of values above 0
  };
  enum class Ends : uint8_t {
    kAsGiven,
    kPadded,  ///< a little room on both sides; linear ones go out to the next tick, but not across 0
  };

  /// From `low` to `high` with about `ticks` ticks: steps of 1, 2 or 5 times a power of ten; on a logarithmic one
  /// powers of ten, with 2 and 5 between where these are few. Where both ends are one value, room is made around it.
  /// Throws NumericError for ends that are not finite, the wrong way around, or, logarithmic, not above 0.
  Axis(double low, double high, Scale scale, Ends ends, int ticks = 6);

  double low() const noexcept { return low_; }
  double high() const noexcept { return high_; }
  /// 0 at the low end, 1 at the high end; beyond them where the value is.
  double share(double value) const;
  const std::vector<double>& ticks() const noexcept { return ticks_; }
  /// With as many digits as tell the ticks apart.
  std::string label(double tick) const;

 private:
  Scale scale_;
  double low_, high_, step_ = 0;
  std::vector<double> ticks_;
};

}  // namespace octet

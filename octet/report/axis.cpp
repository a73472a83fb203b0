// SPDX-License-Identifier: Apache-2.0
#include "octet/report/axis.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/report/format.h"

namespace octet {
namespace {

// The least of 1, 2, 5 and 10 times a power of ten that is not below `least`, but for rounding.
double round_step(double least) {
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

// Multiples of `step` in [low, high], which may be off by rounding.
std::vector<double> multiples(double low, double high, double step) {
  std::vector<double> out;
  const double slack = step * 1e-9;
  for (double i = std::ceil((low - slack) / step); i * step <= high + slack; ++i) out.push_back(i == 0 ? 0 : i * step);
  return out;
}

std::vector<double> logarithmic_ticks(double low, double high, int wanted) {
  const double decades = std::log10(high / low);
  std::vector<double> factors = {1};
  if (decades < 2.5) factors = {1, 2, 5};
  // So short a stretch may hold no 1, 2 or 5.
  if (decades < 0.7) factors = {1, 1.5, 2, 3, 4, 5, 6, 8};
  // Every second, third … power of ten only, where there are many.
  const double stride = factors.size() > 1 ? 1 : std::max(1.0, std::ceil(decades / wanted));
  std::vector<double> out;
  for (double exponent = std::floor(std::log10(low) / stride) * stride; exponent <= std::log10(high);
       exponent += stride) {
    for (const double factor : factors) {
      const double tick = factor * std::pow(10, exponent);
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) out.push_back(tick);
    }
  }
  return out;
}

}  // namespace

Axis::Axis(double low, double high, Scale scale, Ends ends, int ticks) : scale_(scale), low_(low), high_(high) {
  if (!std::isfinite(low) || !std::isfinite(high) || low > high || (scale == Scale::kLogarithmic && low <= 0))
    fail<NumericError>("no axis can go from {} to {}", low, high);
  if (scale == Scale::kLogarithmic) {
    if (ends == Ends::kPadded || low_ == high_) {
      // A twentieth of the length on each side, and a factor of 1.3 at least.
      const double factor = std::max(1.3, std::pow(high_ / low_, 0.05));
      low_ /= factor, high_ *= factor;
    }
    ticks_ = logarithmic_ticks(low_, high_, ticks);
    return;
  }
  if (low_ == high_) {
    const double room = low_ == 0 ? 1 : std::abs(low_) * 0.1;
    low_ -= room, high_ += room;
  }
  step_ = round_step((high_ - low_) / std::max(1, ticks));
  if (ends == Ends::kPadded) {
    const bool positive = low_ >= 0;
    low_ = std::floor((low_ - step_ / 4) / step_) * step_;
    high_ = std::ceil((high_ + step_ / 4) / step_) * step_;
    if (positive) low_ = std::max(low_, 0.0);
  }
  ticks_ = multiples(low_, high_, step_);
}

double Axis::share(double value) const {
  if (scale_ == Scale::kLogarithmic) return std::log(value / low_) / std::log(high_ / low_);
  return (value - low_) / (high_ - low_);
}

std::string Axis::label(double tick) const {
  if (tick == 0) return "0";
  const auto power = [](double value) { return static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9)); };
  if (scale_ == Scale::kLogarithmic) return format_number(tick, tick / std::pow(10, power(tick)) == 1.5 ? 2 : 1);
  return format_number(tick, power(tick) - power(step_) + 1);
}

}  // namespace octet

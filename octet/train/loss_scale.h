// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace octet {

/// What losses are multiplied by on the way back, and gradients divided by before they are used, so that small ones do
/// not fall below what 16-bit floats hold (Micikevicius et al., 2018). In fp32 a power of two changes no bit.
///
/// Fixed, or found as training goes on: doubled after so many steps, halved where a gradient is not finite, and the
/// step is taken again.
class LossScale {
 public:
  static constexpr double kFirst = 1 << 16, kLargest = 1 << 24;
  static constexpr int64_t kStepsUntilDoubled = 2000;

  explicit LossScale(double fixed) : value_(fixed) {}
  static LossScale dynamic(double value = kFirst, int64_t steps = 0) {
    LossScale scale(value);
    scale.dynamic_ = true;
    scale.steps_ = steps;
    return scale;
  }

  double value() const noexcept { return value_; }
  bool is_dynamic() const noexcept { return dynamic_; }
  int64_t steps() const noexcept { return steps_; }  ///< since it changed

  /// After a step whose gradient was finite.
  void grow() noexcept {
    if (!dynamic_ || ++steps_ < kStepsUntilDoubled) return;
    value_ = std::min(2 * value_, kLargest);
    steps_ = 0;
  }
  /// After one whose gradient was not. False where a smaller scale is not to be had.
  bool shrink() noexcept {
    if (!dynamic_ || value_ <= 1) return false;
    value_ /= 2;
    steps_ = 0;
    return true;
  }

 private:
  double value_;
  bool dynamic_ = false;
  int64_t steps_ = 0;
};

}  // namespace octet

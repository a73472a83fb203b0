// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

namespace octet {

/// Values that lie in [low, high], as evenly spread as makes no difference.
struct ValueBin {
  float low, high;
  int64_t count;
};

/// Counts of finite floats in bins that are floats without the last bits of their mantissa: each power of two, of both
/// signs, has 2^bits bins (as HdrHistogram's, Tene, 2012), so the scale of what comes need not be known. Whatever lies
/// within 2^-126 / 2^bits of 0 counts as 0. Counts do not depend on the order in which values came.
class ValueHistogram {
 public:
  /// bits from 1 to 11. A page of 2^bits counts exists for each power of two that was met, at most 512.
  explicit ValueHistogram(int bits = 11) : bits_(bits) {}

  void add(float value) {
    const auto pattern = std::bit_cast<uint32_t>(value);
    Page& page = pages_[pattern >> kMantissaBits];
    if (!page) page = std::make_unique<int64_t[]>(size_t{1} << bits_);
    ++page[(pattern & ((1u << kMantissaBits) - 1)) >> (kMantissaBits - bits_)];
  }
  /// Adds the counts of another histogram of the same bits.
  void merge(const ValueHistogram& other);

  /// Those that hold values, ascending; 0 is one of its own from 0 to 0. All values lie in [smallest, largest], which
  /// no bin exceeds.
  std::vector<ValueBin> bins(float smallest, float largest) const;

 private:
  static constexpr int kMantissaBits = 23;
  using Page = std::unique_ptr<int64_t[]>;

  int bits_;
  std::array<Page, 512> pages_{};  ///< by sign and exponent
};

}  // namespace octet

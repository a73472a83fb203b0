// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/value_histogram.h"

#include <algorithm>
#include <ranges>

namespace octet {

void ValueHistogram::merge(const ValueHistogram& other) {
  const size_t counts = size_t{1} << bits_;
  for (size_t i = 0; i < pages_.size(); ++i) {
    if (!other.pages_[i]) continue;
    if (!pages_[i]) pages_[i] = std::make_unique<int64_t[]>(counts);
    for (size_t k = 0; k < counts; ++k) pages_[i][k] += other.pages_[i][k];
  }
}

std::vector<ValueBin> ValueHistogram::bins(float smallest, float largest) const {
  constexpr size_t kExponents = 256;
  const auto counts = uint32_t{1} << bits_;
  const int shift = kMantissaBits - bits_;
  // Bins of one sign by falling or rising magnitude; the first bin of all, next to 0, is no part of them.
  const auto magnitudes = [&](size_t first_page, auto visit) {
    for (size_t exponent = 0; exponent < kExponents; ++exponent) {
      const Page& page = pages_[first_page + exponent];
      if (!page) continue;
      for (uint32_t k = exponent == 0 ? 1 : 0; k < counts; ++k) {
        if (page[k] == 0) continue;
        const auto low = (static_cast<uint32_t>(exponent) << kMantissaBits) | (k << shift);
        visit(std::bit_cast<float>(low), std::bit_cast<float>(low + (1u << shift)), page[k]);
      }
    }
  };
  std::vector<ValueBin> bins;
  magnitudes(kExponents, [&](float low, float high, int64_t count) {
    bins.push_back({std::max(-high, smallest), std::min(-low, largest), count});
  });
  std::ranges::reverse(bins);
  int64_t zeros = 0;
  for (const size_t page : {size_t{0}, kExponents}) zeros += pages_[page] ? pages_[page][0] : 0;
  if (zeros != 0) bins.push_back({0.0f, 0.0f, zeros});
  magnitudes(0, [&](float low, float high, int64_t count) {
    bins.push_back({std::max(low, smallest), std::min(high, largest), count});
  });
  return bins;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/group_sums.h"

#include <algorithm>
#include <array>

namespace octet::cpu {

void sum_groups(const float* x, int64_t x_stride, int64_t rows, int64_t depth, int64_t size, float* sums) {
  // An addition waits four cycles for the one before it and two start in each, so eight sums run side by side, of one
  // row or of several.
  constexpr int64_t kSums = 8;
  const int64_t groups = depth / size, count = rows * groups;
  const auto group = [&](int64_t index) { return x + index / groups * x_stride + index % groups * size; };
  int64_t index = 0;
  for (; index + kSums <= count; index += kSums) {
    std::array<const float*, kSums> from;
    for (int64_t i = 0; i < kSums; ++i) from[i] = group(index + i);
    std::array<float, kSums> sum{};
    for (int64_t k = 0; k < size; ++k) {
      for (int64_t i = 0; i < kSums; ++i) sum[i] += from[i][k];
    }
    std::copy(sum.begin(), sum.end(), sums + index);
  }
  for (; index < count; ++index) {
    const float* from = group(index);
    float sum = 0.0f;
    for (int64_t k = 0; k < size; ++k) sum += from[k];
    sums[index] = sum;
  }
}

void sum_codes(const int8_t* codes, int64_t depth, int64_t size, float* sums) {
  for (int64_t first = 0; first < depth; first += size) {
    const int64_t last = std::min(depth, first + size);
    int32_t sum = 0;
    for (int64_t k = first; k < last; ++k) sum += codes[k];
    *sums++ = static_cast<float>(sum);
  }
}

}  // namespace octet::cpu

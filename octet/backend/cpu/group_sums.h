// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet::cpu {

/// What minima meet: sums[r][g] = Σ of group g of row r, `size` neighbours each, which divides `depth`. Every sum runs
/// over ascending k from +0.
void sum_groups(const float* x, int64_t x_stride, int64_t rows, int64_t depth, int64_t size, float* sums);

/// sums[g] = float(Σ of group g) of one row of codes; the last group may be shorter. |Σ| must fit int32.
void sum_codes(const int8_t* codes, int64_t depth, int64_t size, float* sums);

}  // namespace octet::cpu

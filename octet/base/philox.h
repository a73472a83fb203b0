// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace octet {

/// Philox4x32-10, a counter-based random number generator (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
/// easy as 1, 2, 3", 2011): 128 random bits for each counter, a function of counter and key alone. What draws by
/// position, step or sample gets the same numbers in any order and on any number of threads. A 64-bit seed is the key,
/// its low half first.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t seed) noexcept;

/// A number in [0, 1) of 53 random bits: the high 32 from `high`, the low 21 from the high bits of `low`.
double uniform_double(uint32_t high, uint32_t low) noexcept;

}  // namespace octet

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

/// The paper's multipliers, and the Weyl sequence of its key: the golden ratio and √3 - 1, times 2^32.
struct PhiloxConstants {
  static constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  static constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  static constexpr int kRounds = 10;
};

/// A number in [0, 1) of 53 random bits: the high 32 from `high`, the low 21 from the high bits of `low`.
double uniform_double(uint32_t high, uint32_t low) noexcept;

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/base/philox.h"

namespace octet {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t seed) noexcept {
  using Constants = PhiloxConstants;
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < Constants::kRounds; ++round, key0 += Constants::kWeyl0, key1 += Constants::kWeyl1) {
    const uint64_t product0 = uint64_t{Constants::kMultiplier0} * counter[0],
                   product1 = uint64_t{Constants::kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
  }
  return counter;
}

double uniform_double(uint32_t high, uint32_t low) noexcept {
  const uint64_t bits = (uint64_t{high} << 21) | (low >> 11);
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace octet

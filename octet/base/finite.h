// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>

namespace octet {

/// The index of the first NaN or infinity in `values`, if any.
inline std::optional<int64_t> first_not_finite(std::span<const float> values) {
  // Of magnitudes the bits are ordered as the numbers are; a loop without an exit can be vectorized.
  uint32_t largest = 0;
  for (const float x : values) largest = std::max(largest, std::bit_cast<uint32_t>(x) & 0x7fffffffu);
  if (std::isfinite(std::bit_cast<float>(largest))) return std::nullopt;
  return std::ranges::find_if(values, [](float x) { return !std::isfinite(x); }) - values.begin();
}

}  // namespace octet

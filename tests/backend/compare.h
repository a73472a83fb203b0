// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"

namespace octet::backend_cases {

// Sanitizers make everything many times slower: fewer samples then.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

/// All bits the same; the payload of a NaN does not count.
inline testing::AssertionResult same_bits(std::span<const float> actual, std::span<const float> expected) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::bit_cast<uint32_t>(actual[i]) == std::bit_cast<uint32_t>(expected[i])) continue;
    if (std::isnan(actual[i]) && std::isnan(expected[i])) continue;
    return testing::AssertionFailure() << "first difference at " << i << ": " << std::hexfloat << actual[i]
                                       << ", expected " << expected[i];
  }
  return testing::AssertionSuccess();
}

/// |actual - expected| ≤ tolerance(i) everywhere.
template <class Tolerance>
testing::AssertionResult near(std::span<const float> actual, std::span<const double> expected, Tolerance tolerance) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::abs(actual[i] - expected[i]) <= tolerance(i)) continue;
    return testing::AssertionFailure() << "first difference at " << i << ": " << actual[i] << ", expected "
                                       << expected[i] << " within " << tolerance(i);
  }
  return testing::AssertionSuccess();
}

/// The instruction sets to hold against ref.
inline std::vector<std::string> vector_isas() {
  std::vector<std::string> isas = cpu_isas();
  isas.erase(isas.begin());
  return isas;
}

}  // namespace octet::backend_cases

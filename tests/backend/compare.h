// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "tests/sanitized.h"

namespace octet::backend_cases {

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

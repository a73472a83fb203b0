// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

/// What gradients are held against: differences of the operation in double.
namespace octet::backend_cases {

using Doubles = std::vector<double>;
using Function = std::function<Doubles(const Doubles&)>;

inline Doubles to_doubles(std::span<const float> values) { return {values.begin(), values.end()}; }

/// ∂ (Σ w ∘ f(x)) / ∂x by central differences.
inline Doubles differences(const Function& f, const Doubles& x, std::span<const float> w) {
  const auto loss = [&](const Doubles& at) {
    const Doubles y = f(at);
    return std::inner_product(y.begin(), y.end(), w.begin(), 0.0);
  };
  Doubles gradient;
  for (size_t i = 0; i < x.size(); ++i) {
    const double step = 1e-5 * std::max(1.0, std::abs(x[i]));
    Doubles moved = x;
    moved[i] = x[i] + step;
    const double above = loss(moved);
    moved[i] = x[i] - step;
    gradient.push_back((above - loss(moved)) / (2 * step));
  }
  return gradient;
}

/// |actual - expected| ≤ tolerance · (1 + |expected|)
inline testing::AssertionResult close(std::span<const float> actual, const Doubles& expected, double tolerance) {
  return near(actual, expected, [&](size_t i) { return tolerance * (1 + std::abs(expected[i])); });
}

struct Way {
  std::string isa;
  int threads;
};

/// The first is what the others are held against, bit for bit.
inline std::vector<Way> ways() {
  std::vector<Way> all;
  for (const std::string& isa : cpu_isas()) {
    for (const int threads : {1, 3}) all.push_back({isa, threads});
  }
  return all;
}

/// run(backend) on every way gives the same bits, which it returns.
template <class Run>
std::vector<float> same_everywhere(Run run) {
  std::vector<float> first;
  for (const Way& way : ways()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = way.threads, .isa = way.isa});
    const std::vector<float> result = run(*backend);
    if (first.empty()) first = result;
    EXPECT_TRUE(same_bits(result, first)) << way.isa << ", " << way.threads << " threads";
  }
  return first;
}

}  // namespace octet::backend_cases

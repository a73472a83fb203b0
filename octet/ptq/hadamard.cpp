// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/hadamard.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>

#include "octet/base/error.h"
#include "octet/base/philox.h"

namespace octet {
namespace {

// Beyond it a factor costs more to apply than it mixes.
constexpr int64_t kLargestPrime = 200;

bool is_prime(int64_t n) noexcept {
  if (n < 2) return false;
  for (int64_t divisor = 2; divisor * divisor <= n; ++divisor) {
    if (n % divisor == 0) return false;
  }
  return true;
}

// Paley's conference matrix of order q + 1: zeros on its diagonal, ±1 elsewhere, C · Cᵀ = q · I. It is symmetric where
// q is 1 modulo 4 and antisymmetric where it is 3.
std::vector<int8_t> conference_matrix(int64_t q) {
  std::vector<int8_t> character(static_cast<size_t>(q), -1);  // 1 of squares modulo q, 0 of 0
  character[0] = 0;
  for (int64_t i = 1; i < q; ++i) character[static_cast<size_t>(i * i % q)] = 1;
  const int64_t order = q + 1;
  std::vector<int8_t> c(static_cast<size_t>(order * order), 0);
  for (int64_t i = 1; i < order; ++i) {
    c[static_cast<size_t>(i)] = 1;
    c[static_cast<size_t>(i * order)] = q % 4 == 1 ? 1 : -1;
    for (int64_t k = 1; k < order; ++k) {
      c[static_cast<size_t>(i * order + k)] = character[static_cast<size_t>(((i - k) % q + q) % q)];
    }
  }
  return c;
}

// The orders of factors of a Hadamard matrix of order n; none where it has none here.
std::optional<std::vector<int64_t>> factors_of(int64_t n) {
  if (n == 1) return std::vector<int64_t>{};
  if (n % 2 != 0) return std::nullopt;
  if ((n & (n - 1)) == 0)
    return std::vector<int64_t>(static_cast<size_t>(std::countr_zero(static_cast<uint64_t>(n))), 2);
  for (int64_t order = 12; order <= std::min(n, 2 * (kLargestPrime + 1)); order += 4) {
    if (n % order != 0 || (order & (order - 1)) == 0 || prime_hadamard(order).empty()) continue;
    if (auto rest = factors_of(n / order)) {
      rest->push_back(order);
      return rest;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<int8_t> prime_hadamard(int64_t order) {
  if (order == 1) return {1};
  if (order == 2) return {1, 1, 1, -1};
  if (order < 4 || order % 4 != 0) return {};
  const auto entry = [](int64_t row, int64_t column, int64_t width) {
    return static_cast<size_t>(row * width + column);
  };
  std::vector<int8_t> h(static_cast<size_t>(order * order));
  if (const int64_t q = order - 1; q <= kLargestPrime && is_prime(q)) {
    // Of an antisymmetric C: C + I.
    h = conference_matrix(q);
    for (int64_t i = 0; i < order; ++i) h[entry(i, i, order)] = 1;
    return h;
  }
  const int64_t q = order / 2 - 1;
  if (q > kLargestPrime || q % 4 != 1 || !is_prime(q)) return {};
  // Of a symmetric C: C ⊗ [1 1; 1 -1] + I ⊗ [1 -1; -1 -1].
  const std::vector<int8_t> c = conference_matrix(q);
  constexpr int8_t kOff[2][2] = {{1, 1}, {1, -1}}, kOn[2][2] = {{1, -1}, {-1, -1}};
  for (int64_t i = 0; i < order; ++i) {
    for (int64_t k = 0; k < order; ++k) {
      const int8_t of_pair = c[entry(i / 2, k / 2, q + 1)];
      h[entry(i, k, order)] = static_cast<int8_t>(i / 2 == k / 2 ? kOn[i % 2][k % 2] : of_pair * kOff[i % 2][k % 2]);
    }
  }
  return h;
}

HadamardRotation::HadamardRotation(int64_t width, uint64_t seed) {
  if (width < 1) fail<ShapeError>("a rotation of {} columns", width);
  for (int64_t blocks = 1; blocks <= width; ++blocks) {
    if (width % blocks != 0) continue;
    const auto orders = factors_of(width / blocks);
    if (!orders) continue;
    block_ = width / blocks;
    for (const int64_t order : *orders) factors_.push_back({order, prime_hadamard(order)});
    break;
  }
  const double scale = 1 / std::sqrt(static_cast<double>(block_));
  for (int64_t i = 0; i < width; ++i) {
    const auto place = static_cast<uint64_t>(i);
    const auto bits = philox({static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32), 0, 0}, seed);
    signs_.push_back((bits[0] & 1) != 0 ? -scale : scale);
  }
}

void HadamardRotation::apply(double* x, int64_t stride) const {
  const int64_t width = this->width();
  for (int64_t i = 0; i < width; ++i) x[i * stride] *= signs_[static_cast<size_t>(i)];
  // One factor after another along its own digit of the index: digits before it vary slower, those after it faster.
  std::vector<double> mixed;
  int64_t faster = 1;
  for (const Factor& factor : factors_) {
    const int64_t order = factor.order, span = order * faster;
    mixed.resize(static_cast<size_t>(order));
    for (int64_t first = 0; first < width; first += span) {
      for (int64_t i = first; i < first + faster; ++i) {
        double* const digit = x + i * stride;
        const int64_t step = faster * stride;
        for (int64_t column = 0; column < order; ++column) {
          double sum = 0;
          for (int64_t row = 0; row < order; ++row) {
            sum += digit[row * step] * factor.signs[static_cast<size_t>(row * order + column)];
          }
          mixed[static_cast<size_t>(column)] = sum;
        }
        for (int64_t column = 0; column < order; ++column) digit[column * step] = mixed[static_cast<size_t>(column)];
      }
    }
    faster = span;
  }
}

}  // namespace octet

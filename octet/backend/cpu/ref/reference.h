// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

/// The plain reading of the numerics contract (docs/NUMERICS.md), over T = float, where it defines the bits, or double,
/// where it serves to check gradients by finite differences. One output at a time, one operation after the other.
namespace octet::cpu::reference {

/// start + Σ x[k] · weight(k) by fma over ascending k in [first, last).
template <class T, class Weight>
T dot(const T* x, const Weight& weight, int64_t first, int64_t last, T start) {
  T sum = start;
  for (int64_t k = first; k < last; ++k) sum = std::fma(x[k], static_cast<T>(weight(k)), sum);
  return sum;
}

/// Sixteen partial sums, folded 8, 4, 2, 1. add(i, partial) returns the partial sum with element i in it.
template <class T, class Add>
T sum_by_sixteen(int64_t count, Add add) {
  std::array<T, 16> partial{};
  for (int64_t i = 0; i < count; ++i) partial[i % 16] = add(i, partial[i % 16]);
  for (const int width : {8, 4, 2, 1}) {
    for (int i = 0; i < width; ++i) partial[i] += partial[i + width];
  }
  return partial[0];
}

template <class T>
void layer_norm_row(const T* x, int64_t cols, const T* gamma, const T* beta, T eps, T* y) {
  const T width = static_cast<T>(cols);
  const T mean = sum_by_sixteen<T>(cols, [x](int64_t i, T sum) { return sum + x[i]; }) / width;
  const auto square = [x, mean](int64_t i, T sum) { return std::fma(x[i] - mean, x[i] - mean, sum); };
  const T variance = sum_by_sixteen<T>(cols, square) / width;
  const T inverse = T{1} / std::sqrt(variance + eps);
  for (int64_t i = 0; i < cols; ++i) y[i] = std::fma((x[i] - mean) * inverse, gamma[i], beta[i]);
}

template <class T>
void rms_norm_row(const T* x, int64_t cols, const T* gamma, T eps, T* y) {
  const T squares = sum_by_sixteen<T>(cols, [x](int64_t i, T sum) { return std::fma(x[i], x[i], sum); });
  const T inverse = T{1} / std::sqrt(squares / static_cast<T>(cols) + eps);
  for (int64_t i = 0; i < cols; ++i) y[i] = x[i] * inverse * gamma[i];
}

/// (a, b) turned by an angle in the plane, sine and cosine having what length changes in them.
template <class T>
void rotate(T& a, T& b, T sine, T cosine) {
  const T turned = std::fma(a, cosine, -(b * sine));
  b = std::fma(b, cosine, a * sine);
  a = turned;
}

/// x [2 · cols]: the gate, then what it lets through. nonlinearity(T) is the caller's.
template <class T, class F>
void gated_row(const T* x, int64_t cols, F nonlinearity, T* y) {
  for (int64_t c = 0; c < cols; ++c) y[c] = nonlinearity(x[c]) * x[cols + c];
}

template <class T>
void l2_normalize_row(T* x, int64_t cols) {
  const T length = std::sqrt(sum_by_sixteen<T>(cols, [x](int64_t i, T sum) { return std::fma(x[i], x[i], sum); }));
  // As max(a, b) = a > b ? a : b, so that a NaN in the row reaches all of it.
  const T shortest = static_cast<T>(1e-12f);
  const T divisor = shortest > length ? shortest : length;
  for (int64_t i = 0; i < cols; ++i) x[i] /= divisor;
}

/// exp(T) is the caller's. Returns 1 / Σ p.
template <class T, class Exp>
T softmax_row(T* scores, int64_t cols, T scale, Exp exponential) {
  T largest = -std::numeric_limits<T>::infinity();
  for (int64_t j = 0; j < cols; ++j) {
    scores[j] *= scale;
    largest = largest > scores[j] ? largest : scores[j];
  }
  for (int64_t j = 0; j < cols; ++j) scores[j] = exponential(scores[j] - largest);
  return T{1} / sum_by_sixteen<T>(cols, [scores](int64_t j, T sum) { return sum + scores[j]; });
}

}  // namespace octet::cpu::reference

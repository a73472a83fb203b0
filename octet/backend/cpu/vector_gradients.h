// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/vector_rows.h"

/// The row operations of training over a lane type V, see vector_rows.h.
namespace octet::cpu {

/// 1 / (1 + e^-v) and 1 / (1 + e^v), each without cancellation.
template <class V>
struct Logistic {
  V of, of_negative;
};

template <class V>
[[gnu::always_inline]] inline Logistic<V> logistic(V v) {
  const V zero = V::all(0.0f), one = V::all(1.0f);
  // At 88 the power is 0 already; only an infinity needs the limit.
  const SplitPower<V> power = split_power(min(V::all(100.0f), abs(v)), -1.0f);
  const V e = power.polynomial * power.power;
  const V larger = one / (one + e), smaller = e * larger;
  return {if_less(v, zero, smaller, larger), if_less(v, zero, larger, smaller)};
}

/// Φ(x) + x φ(x), the slope of GELU: for x ≥ 0 it is 1 - h and for x < 0 it is h, h = Φ(-t) - t φ(t), t = |x|.
template <class V>
[[gnu::always_inline]] inline V gelu_slope(V x) {
  const V t = min(V::all(15.0f), abs(x));
  const V square = t * t;
  const SplitPower<V> e = split_power(square, fms(t, t, square), -0.5f);
  // Φ(-t) = e^(-t²/2) · M(t), and φ(t) = e^(-t²/2) / √(2π).
  const TailQuotient<V> m = tail_quotient(t);
  const V h = (m.numerator / m.denominator - t * V::all(0x1.988454p-2f)) * e.polynomial * e.power;
  return if_less(x, V::all(0.0f), h, V::all(1.0f) - h);
}

template <Nonlinearity kind, class V>
[[gnu::always_inline]] inline V slope(V x) {
  const V zero = V::all(0.0f), one = V::all(1.0f);
  if constexpr (kind == Nonlinearity::kGelu) return gelu_slope(x);
  if constexpr (kind == Nonlinearity::kGeluTanh) {
    // x · s(v), v = 2√(2/π)(x + 0.044715 x³), has the slope s(v) + x · s(v) s(-v) · v'. Beyond 11.5 s(-v) is 0.
    const V t = max(V::all(-11.5f), min(V::all(11.5f), x));
    const V square = t * t;
    const V v = t * fma(square, V::all(0x1.2444f2p-4f), V::all(0x1.988454p0f));
    const V rate = fma(square, V::all(0x1.b6676cp-3f), V::all(0x1.988454p0f));
    const Logistic<V> s = logistic(v);
    return fma(t * s.of_negative, s.of * rate, s.of);
  }
  if constexpr (kind == Nonlinearity::kRelu) return if_less(zero, x, one, zero);
  if constexpr (kind == Nonlinearity::kTanh) {
    const V y = tanh(x);
    return fma(zero - y, y, one);
  }
  if constexpr (kind == Nonlinearity::kSilu) {
    const V t = max(V::all(-100.0f), min(V::all(100.0f), x));
    const Logistic<V> s = logistic(x);
    return fma(t * s.of_negative, s.of, s.of);
  }
  return one;
}

template <class V>
void nonlinearity_rows(const NonlinearityRows& n) {
  for_nonlinearity(n.nonlinearity, [&n]<Nonlinearity kind>() {
    for (int64_t r = 0; r < n.rows; ++r) {
      const float* x = n.x + r * n.x_stride;
      float* y = n.y + r * n.y_stride;
      for_blocks(n.cols,
                 [&](int64_t i, int64_t count) { store_upto(apply<kind>(load_upto<V>(x + i, count)), y + i, count); });
    }
  });
}

template <class V>
void nonlinearity_gradient_rows(const NonlinearityGradientRows& n) {
  for_nonlinearity(n.nonlinearity, [&n]<Nonlinearity kind>() {
    for (int64_t r = 0; r < n.rows; ++r) {
      const float *x = n.x + r * n.x_stride, *dy = n.dy + r * n.dy_stride;
      float* dx = n.dx + r * n.dx_stride;
      for_blocks(n.cols, [&](int64_t i, int64_t count) {
        store_upto(load_upto<V>(dy + i, count) * slope<kind>(load_upto<V>(x + i, count)), dx + i, count);
      });
    }
  });
}

template <class V>
void gated_gradient_rows(const NonlinearityGradientRows& n) {
  for_nonlinearity(n.nonlinearity, [&n]<Nonlinearity kind>() {
    for (int64_t r = 0; r < n.rows; ++r) {
      const float *gate = n.x + r * n.x_stride, *up = gate + n.cols, *dy = n.dy + r * n.dy_stride;
      float *dgate = n.dx + r * n.dx_stride, *dup = dgate + n.cols;
      for_blocks(n.cols, [&](int64_t i, int64_t count) {
        const V x = load_upto<V>(gate + i, count), d = load_upto<V>(dy + i, count), u = load_upto<V>(up + i, count);
        store_upto(d * u * slope<kind>(x), dgate + i, count);
        store_upto(d * apply<kind>(x), dup + i, count);
      });
    }
  });
}

/// One row of a normalization's gradient. `centre` is what is taken off x, `inverse` what it is multiplied by then.
template <class V, bool centred>
void norm_gradient_row(const NormGradientRows& n, const float* x, const float* dy, float* dx, V centre, V inverse) {
  const V zero = V::all(0.0f), width = V::all(static_cast<float>(n.cols));
  const auto normalized = [&](int64_t i, int64_t count) {
    V value = load_upto<V>(x + i, count);
    if constexpr (centred) {
      value = value - centre;
      if (count != kLanes) value = V::choose_first(value, zero, count);
    }
    return value * inverse;
  };
  V sums = zero, products = zero;
  for_blocks(n.cols, [&](int64_t i, int64_t count) {
    const V value = normalized(i, count), d = load_upto<V>(dy + i, count);
    const V g = d * load_upto<V>(n.gamma + i, count);
    if constexpr (centred) sums = sums + g;
    products = fma(g, value, products);
    store_upto(fma(d, value, load_upto<V>(n.dgamma + i, count)), n.dgamma + i, count);
    if constexpr (centred) store_upto(load_upto<V>(n.dbeta + i, count) + d, n.dbeta + i, count);
  });
  const V mean = centred ? V::all(sums.sum()) / width : zero, product = V::all(products.sum()) / width;
  for_blocks(n.cols, [&](int64_t i, int64_t count) {
    const V g = load_upto<V>(dy + i, count) * load_upto<V>(n.gamma + i, count);
    V d = (g - mean - normalized(i, count) * product) * inverse;
    if (n.adds) d = load_upto<V>(dx + i, count) + d;
    store_upto(d, dx + i, count);
  });
}

template <class V>
void norm_gradient_rows(const NormGradientRows& n) {
  const float width = static_cast<float>(n.cols);
  const V zero = V::all(0.0f);
  for (int64_t r = 0; r < n.rows; ++r) {
    const float *x = n.x + r * n.x_stride, *dy = n.dy + r * n.dy_stride;
    float* dx = n.dx + r * n.dx_stride;
    V mean = zero, squares = zero;
    if (n.dbeta != nullptr) {
      V sums = zero;
      for_blocks(n.cols, [&](int64_t i, int64_t count) { sums = sums + load_upto<V>(x + i, count); });
      mean = V::all(sums.sum() / width);
    }
    for_blocks(n.cols, [&](int64_t i, int64_t count) {
      V centred = load_upto<V>(x + i, count) - mean;
      if (count != kLanes) centred = V::choose_first(centred, zero, count);
      squares = fma(centred, centred, squares);
    });
    const V inverse = V::all(1.0f) / sqrt(V::all(squares.sum() / width + n.eps));
    n.dbeta != nullptr ? norm_gradient_row<V, true>(n, x, dy, dx, mean, inverse)
                       : norm_gradient_row<V, false>(n, x, dy, dx, mean, inverse);
  }
}

/// p ← p · inverse_sum, ds = p · (dp - Σ p dp) · scale; ds takes the place of dp.
template <class V>
void softmax_gradient_row(float* p, float* dp, int64_t count, float inverse_sum, float scale) {
  const V inverse = V::all(inverse_sum), factor = V::all(scale);
  V sums = V::all(0.0f);
  for_blocks(count, [&](int64_t i, int64_t n) {
    const V normalized = load_upto<V>(p + i, n) * inverse;
    store_upto(normalized, p + i, n);
    sums = fma(normalized, load_upto<V>(dp + i, n), sums);
  });
  const V mean = V::all(sums.sum());
  for_blocks(count, [&](int64_t i, int64_t n) {
    store_upto(load_upto<V>(p + i, n) * (load_upto<V>(dp + i, n) - mean) * factor, dp + i, n);
  });
}

/// sums[c] += Σ x[r][c], r ascending.
template <class V>
void add_rows(const float* x, int64_t stride, int64_t rows, int64_t cols, float* sums) {
  for_blocks(cols, [&](int64_t c, int64_t n) {
    V sum = load_upto<V>(sums + c, n);
    for (int64_t r = 0; r < rows; ++r) sum = sum + load_upto<V>(x + r * stride + c, n);
    store_upto(sum, sums + c, n);
  });
}

template <class V>
void adamw_elements(const AdamwElements& a) {
  const V beta1 = V::all(a.beta1), beta2 = V::all(a.beta2), rest1 = V::all(1.0f - a.beta1),
          rest2 = V::all(1.0f - a.beta2), correction1 = V::all(a.correction1), correction2 = V::all(a.correction2);
  const V rate = V::all(a.rate), decay = V::all(a.decay), eps = V::all(a.eps), factor = V::all(a.gradient_factor);
  for_blocks(a.count, [&](int64_t i, int64_t n) {
    const V g = load_upto<V>(a.gradient + i, n) * factor, w = load_upto<V>(a.weights + i, n);
    const V m = fma(beta1, load_upto<V>(a.m + i, n), rest1 * g);
    const V v = fma(beta2, load_upto<V>(a.v + i, n), rest2 * (g * g));
    store_upto(m, a.m + i, n);
    store_upto(v, a.v + i, n);
    const V step = (m / correction1) / (sqrt(v / correction2) + eps);
    store_upto(w - rate * fma(decay, w, step), a.weights + i, n);
  });
}

template <class V>
constexpr GradientKernels gradient_kernels() {
  return {.nonlinearity = nonlinearity_rows<V>,
          .nonlinearity_gradient = nonlinearity_gradient_rows<V>,
          .gated_gradient = gated_gradient_rows<V>,
          .norm_gradient = norm_gradient_rows<V>,
          .softmax_gradient = softmax_gradient_row<V>,
          .add_rows = add_rows<V>,
          .adamw = adamw_elements<V>};
}

}  // namespace octet::cpu

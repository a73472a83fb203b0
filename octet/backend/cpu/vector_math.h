// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/nonlinearity.h"

/// exp, tanh, GELU, SiLU, sine and cosine as fixed sequences of IEEE operations, written once over a lane type V: `ref`
/// instantiates them with one lane, the vector kernels with sixteen, and all give the same bits. Lane types live in
/// anonymous namespaces, so that each instantiation stays in the file that made it.
///
/// V offers: V::all(float); + - * /; fma(a, b, c) = a·b + c and fms(a, b, c) = a·b - c, rounded once;
/// min(a, b) = a < b ? a : b and max(a, b) = a > b ? a : b, which return b where one is NaN; abs;
/// copy_sign(magnitude, sign); if_less(a, b, yes, no); power_of_two(t), see split_power below; by_quadrant(t, even,
/// odd), see sine_cosine.
///
/// Polynomials are minimax fits in relative error (Lawson's iteration on Chebyshev points), rounded to fp32; the bounds
/// in ulp are in docs/NUMERICS.md and tested by sweeps. always_inline, because gcc 12 passes pairs of registers to a
/// function through memory, which costs more than the function.
namespace octet::cpu {

/// 2^n · polynomial, in two parts: who multiplies by more factors multiplies by the power last.
template <class V>
struct SplitPower {
  V polynomial;  ///< 2^f in [0.7, 1.42]
  V power;       ///< 2^n for n ≥ -126; 0 below, so that no subnormal slows down what follows
};

/// e^(x·scale), |x·scale| ≤ 10^6; `scale` is ±2^i, so that its product with log2(e) is as exact as that.
/// `rest` is what rounding took from x.
template <class V>
[[gnu::always_inline]] inline SplitPower<V> split_power(V x, V rest, float scale) {
  // log2(e) in two parts: 2^(x log2 e) = 2^n · 2^f with f in [-1/2, 1/2].
  const V factor = V::all(0x1.715476p0f * scale), factor_rest = V::all(0x1.4ae0c0p-26f * scale);
  // Adding 1.5 · 2^23, whose ulp is 1, rounds to the integer n and leaves it in the low bits, where power_of_two reads
  // it.
  const V rounder = V::all(0x1.8p23f);
  const V t = fma(x, factor, rounder);
  V f = fms(x, factor, t - rounder);
  f = fma(x, factor_rest, f);
  f = fma(rest, factor, f);
  // 2^f to 2^-25.
  V p = fma(f, V::all(0x1.41fb2ep-13f), V::all(0x1.5f3f30p-10f));
  p = fma(p, f, V::all(0x1.3b2d50p-7f));
  p = fma(p, f, V::all(0x1.c6aee6p-5f));
  p = fma(p, f, V::all(0x1.ebfbdcp-3f));
  p = fma(p, f, V::all(0x1.62e430p-1f));
  p = fma(p, f, V::all(1.0f));
  return {p, power_of_two(t)};
}

template <class V>
[[gnu::always_inline]] inline SplitPower<V> split_power(V x, float scale) {
  return split_power(x, V::all(0.0f), scale);
}

/// e^x for x ≤ 0 (or NaN): softmax asks for no other. Below 2^-126.5 it is 0.
template <class V>
[[gnu::always_inline]] inline V exp_of_negative(V x) {
  // The order of arguments lets NaN through.
  const SplitPower<V> e = split_power(max(V::all(-1000.0f), x), 1.0f);
  return e.polynomial * e.power;
}

template <class V>
[[gnu::always_inline]] inline V tanh(V x) {
  const V magnitude = abs(x);
  // Below 0.625 an odd polynomial, because the formula for the rest cancels there.
  const V square = magnitude * magnitude;
  V p = fma(square, V::all(-0x1.75e1cep-8f), V::all(0x1.52269cp-6f));
  p = fma(p, square, V::all(-0x1.b83c5ap-5f));
  p = fma(p, square, V::all(0x1.110726p-3f));
  p = fma(p, square, V::all(-0x1.555532p-2f));
  const V small = fma(magnitude * square, p, magnitude);
  // 1 - 2 / (e^2x + 1), which is 1 in fp32 from 9.02 on.
  const SplitPower<V> e = split_power(min(V::all(10.0f), magnitude), 2.0f);
  const V one = V::all(1.0f);
  const V large = one - V::all(2.0f) / fma(e.polynomial, e.power, one);
  return copy_sign(if_less(magnitude, V::all(0.625f), small, large), x);
}

/// M(t), t in [0, 15], of the tail of the normal distribution, Φ(-t) = e^(-t²/2) · M(t) (Mills' ratio over √2π): a
/// quotient of polynomials of degrees 4 and 5 to 2^-25 of M.
template <class V>
struct TailQuotient {
  V numerator, denominator;
};

template <class V>
[[gnu::always_inline]] inline TailQuotient<V> tail_quotient(V t) {
  V p = fma(t, V::all(0x1.0dc41cp-8f), V::all(0x1.4cddf8p-5f));
  p = fma(p, t, V::all(0x1.7743eap-3f));
  p = fma(p, t, V::all(0x1.c0d058p-2f));
  p = fma(p, t, V::all(0.5f));
  V q = fma(t, V::all(0x1.521902p-7f), V::all(0x1.a136a0p-4f));
  q = fma(q, t, V::all(0x1.e0bcd2p-2f));
  q = fma(q, t, V::all(0x1.33d736p0f));
  q = fma(q, t, V::all(0x1.acaa5cp0f));
  q = fma(q, t, V::all(1.0f));
  return {p, q};
}

/// x Φ(x), Φ the normal distribution: x/2 · (1 + erf(x/√2)) without the cancellation that formula has for x < 0.
template <class V>
[[gnu::always_inline]] inline V gelu(V x) {
  // By the tail of the distribution for t = |x|; from 13.3 on the power is 0.
  const V t = min(V::all(15.0f), abs(x));
  const V square = t * t;
  const SplitPower<V> e = split_power(square, fms(t, t, square), -0.5f);
  const TailQuotient<V> m = tail_quotient(t);
  const V tail = t * m.numerator * e.polynomial / m.denominator * e.power;  // t Φ(-t)
  // x Φ(x) is x - tail for x > 0 and -tail for x < 0.
  return max(x, V::all(0.0f)) - tail;
}

/// x / (1 + e^-v) for a v of the sign of x, by t = |x| and e = e^-|v|: that is x e / (1 + e) where x < 0. `t` may stop
/// growing where e is 0, so that no infinity meets it.
template <class V>
[[gnu::always_inline]] inline V times_logistic(V x, V t, SplitPower<V> e) {
  const V zero = V::all(0.0f), one = V::all(1.0f);
  const V quotient = if_less(x, zero, zero - t * e.polynomial, x) / fma(e.polynomial, e.power, one);
  return quotient * if_less(x, zero, e.power, one);
}

/// x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))) = x / (1 + e^-v), v = 2√(2/π)(x + 0.044715 x³).
template <class V>
[[gnu::always_inline]] inline V gelu_tanh(V x) {
  // With t = |x|: x / (1 + e^-v) for x > 0, and x e^-v / (1 + e^-v) for x < 0. At 11.5 v is 126.9 and t e^-v < 2^-150.
  const V t = min(V::all(11.5f), abs(x));
  // v = t · (c₁ + c₂ t²) with what rounding loses carried along, because e^-v shows v's absolute error.
  const V c1 = V::all(0x1.988454p0f), c1_rest = V::all(-0x1.857936p-25f);
  const V c2 = V::all(0x1.2444f2p-4f), c2_rest = V::all(0x1.49b16ap-29f);
  const V square = t * t;
  const V square_rest = fms(t, t, square);
  const V product = c2 * square;
  const V product_rest = fms(c2, square, product) + fma(c2, square_rest, fma(c2_rest, square, c1_rest));
  // product + c₁ and its rounding error (Knuth's two-sum: either may be the larger).
  const V factor = product + c1;
  const V c1_part = factor - product;
  const V sum_rest = (product - (factor - c1_part)) + (c1 - c1_part);
  const V v = t * factor;
  const V v_rest = fma(t, sum_rest + product_rest, fms(t, factor, v));
  return times_logistic(x, t, split_power(v, v_rest, -1.0f));
}

/// x / (1 + e^-x)
template <class V>
[[gnu::always_inline]] inline V silu(V x) {
  // At 88 the power is 0 already; only an infinity needs the limit.
  const V t = min(V::all(100.0f), abs(x));
  return times_logistic(x, t, split_power(t, -1.0f));
}

template <class V>
struct SineCosine {
  V sine, cosine;
};

/// sin x and cos x for |x| ≤ 2^20.
template <class V>
[[gnu::always_inline]] inline SineCosine<V> sine_cosine(V x) {
  // x = n · π/2 + r (Cody and Waite, 1980), π/2 in three parts of 24 bits, the third of which ends at 2^-76. As n is
  // off by at most 2^20 · 2/π · 2^-24.6 where it rounds, |r| ≤ 0.828.
  const V first = V::all(-0x1.921fb6p0f), second = V::all(-0x1.777a5cp-25f), third = V::all(0x1.ee59dap-50f);
  const V rounder = V::all(0x1.8p23f);  // as in split_power
  const V t = fma(x, V::all(0x1.45f306p-1f), rounder);
  const V n = t - rounder;
  // Exact. From x = 1 on it is a multiple of 2^-23 below 1; for a smaller x, n is 0, or 1 and x within a factor of two
  // of what is taken off (Sterbenz).
  const V coarse = fma(n, first, x);
  const V product = n * second;
  const V r = coarse - product;
  // What these two roundings lost, and the third part. Where n is not 0, `coarse` is a multiple of the ulp of
  // `product`, so that the first line is exact (Dekker's fast two-sum).
  const V sum_rest = (coarse - r) - product;
  const V rest = fma(n, third, sum_rest - fms(n, second, product));
  const V square = r * r;
  // sin(r + rest) = r + r³ · S(r²) + rest · (1 - r²/2), S to 2^-27 of the sine.
  V s = fma(square, V::all(-0x1.9862aap-13f), V::all(0x1.110486p-7f));
  s = fma(s, square, V::all(-0x1.55553ep-3f));
  const V sine = r + fma(r * square, s, rest * fma(square, V::all(-0.5f), V::all(1.0f)));
  // cos(r + rest) = 1 - r²/2 + r⁴ · C(r²) - rest · r, C to 2^-32 of the cosine.
  V c = fma(square, V::all(0x1.993bcep-16f), V::all(-0x1.6c09c0p-10f));
  c = fma(c, square, V::all(0x1.555546p-5f));
  c = fma(c, square, V::all(-0.5f));
  const V cosine = V::all(1.0f) + fms(square, c, rest * r);
  // n mod 4 says which of the two it is, and its sign; cos x = sin(x + π/2).
  return {by_quadrant(t, sine, cosine), by_quadrant(t + V::all(1.0f), sine, cosine)};
}

template <Nonlinearity kind, class V>
[[gnu::always_inline]] inline V apply(V x) {
  if constexpr (kind == Nonlinearity::kGelu) return gelu(x);
  if constexpr (kind == Nonlinearity::kGeluTanh) return gelu_tanh(x);
  if constexpr (kind == Nonlinearity::kRelu) return max(V::all(0.0f), x);
  if constexpr (kind == Nonlinearity::kTanh) return tanh(x);
  if constexpr (kind == Nonlinearity::kSilu) return silu(x);
  return x;
}

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/vector_math.h"

/// Epilogues and row operations over a lane type V of sixteen lanes, one for each of the sixteen partial sums that the
/// numerics contract prescribes. Beyond what vector_math.h asks, V offers: load, load_first(p, n) (zeros beyond n ≤
/// 16), from_int32(p), load_element(p, TableElement, n); store, store_first; keep_first(v, n) (zeros beyond n); sqrt;
/// swap_neighbours (lanes 2 · i and 2 · i + 1); max_or_nan (NaN if either is); max_bits and largest_bits, of lanes as
/// unsigned integers; sum (folded 8, 4, 2, 1) and largest, which return one float.
namespace octet::cpu {

constexpr int64_t kLanes = 16;

template <class V>
V load_upto(const float* p, int64_t n) {
  return n >= kLanes ? V::load(p) : V::load_first(p, n);
}

template <class V>
void store_upto(V v, float* p, int64_t n) {
  n >= kLanes ? v.store(p) : v.store_first(p, n);
}

template <class V, Rescale rescale, Nonlinearity nonlinearity>
void finish_columns(const Finish& f) {
  for (int64_t c = 0; c < f.cols; c += kLanes) {
    const int64_t n = f.cols - c;
    const bool biased = f.bias != nullptr;
    V bias = biased ? load_upto<V>(f.bias + c, n) : V::all(0.0f);
    constexpr bool minimum = rescale == Rescale::kWeightMinimum || rescale == Rescale::kBothMinimum;
    V scales = V::all(1.0f), minima = V::all(0.0f);
    if constexpr (rescale == Rescale::kWeight || rescale == Rescale::kBoth || minimum)
      scales = load_upto<V>(f.weight_scales + c, n);
    if constexpr (minimum) minima = load_upto<V>(f.weight_minima + c, n);
    for (int64_t r = 0; r < f.rows; ++r) {
      const int64_t at = r * f.tile_stride + c;
      if (f.bias_stride != 0) bias = load_upto<V>(f.bias + r * f.bias_stride + c, n);
      V y = V::all(0.0f);
      if constexpr (rescale == Rescale::kBoth) {
        y = fma(V::from_int32(static_cast<const int32_t*>(f.tile) + at), V::all(f.activation_scales[r]) * scales, bias);
      } else if constexpr (rescale == Rescale::kBothMinimum) {
        const V t = fma(V::from_int32(static_cast<const int32_t*>(f.tile) + at), scales, V::all(0.0f));
        y = fma(fma(minima, V::all(f.sums[r]), t), V::all(f.activation_scales[r]), bias);
      } else {
        V t = V::load(static_cast<const float*>(f.tile) + at);
        if constexpr (rescale == Rescale::kWeightMinimum) {
          t = fma(minima, V::all(f.sums[r]), fma(t, scales, V::all(0.0f)));
          y = biased ? t + bias : t;
        }
        if constexpr (rescale == Rescale::kNone) y = biased ? t + bias : t;
        if constexpr (rescale == Rescale::kWeight) y = fma(t, scales, bias);
        if constexpr (rescale == Rescale::kActivation) y = fma(t, V::all(f.activation_scales[r]), bias);
      }
      y = apply<nonlinearity>(y);
      if (f.residual != nullptr) y = y + load_upto<V>(f.residual + r * f.residual_stride + c, n);
      store_upto(y, f.y + r * f.y_stride + c, n);
    }
  }
}

/// Calls run.template operator()<kind>() for the kind it is given.
template <class Run>
void for_nonlinearity(Nonlinearity kind, Run run) {
  switch (kind) {
    case Nonlinearity::kNone:
      return run.template operator()<Nonlinearity::kNone>();
    case Nonlinearity::kGelu:
      return run.template operator()<Nonlinearity::kGelu>();
    case Nonlinearity::kGeluTanh:
      return run.template operator()<Nonlinearity::kGeluTanh>();
    case Nonlinearity::kRelu:
      return run.template operator()<Nonlinearity::kRelu>();
    case Nonlinearity::kTanh:
      return run.template operator()<Nonlinearity::kTanh>();
    case Nonlinearity::kSilu:
      return run.template operator()<Nonlinearity::kSilu>();
  }
}

template <class V, Rescale rescale>
void finish_rescaled(const Finish& f) {
  for_nonlinearity(f.nonlinearity, [&f]<Nonlinearity kind>() { finish_columns<V, rescale, kind>(f); });
}

template <class V>
void finish_tile(const Finish& f) {
  switch (f.rescale) {
    case Rescale::kNone:
      return finish_rescaled<V, Rescale::kNone>(f);
    case Rescale::kWeight:
      return finish_rescaled<V, Rescale::kWeight>(f);
    case Rescale::kBoth:
      return finish_rescaled<V, Rescale::kBoth>(f);
    case Rescale::kActivation:
      return finish_rescaled<V, Rescale::kActivation>(f);
    case Rescale::kWeightMinimum:
      return finish_rescaled<V, Rescale::kWeightMinimum>(f);
    case Rescale::kBothMinimum:
      return finish_rescaled<V, Rescale::kBothMinimum>(f);
  }
}

/// Calls visit(offset, n) for blocks of sixteen and the rest.
template <class Visit>
void for_blocks(int64_t count, Visit visit) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) visit(i, kLanes);
  if (i < count) visit(i, count - i);
}

template <class V, bool int8>
void softmax_rows_of(const Softmax& s) {
  const V factor = V::all(s.scale);
  for (int64_t r = 0; r < s.rows; ++r) {
    float* scores = s.scores + r * s.stride;
    const int32_t* sums = reinterpret_cast<const int32_t*>(scores);
    const V query_scale = V::all(int8 ? s.query_scales[r] : 1.0f);
    // The rest of the last block repeats the row's first score: it changes no maximum.
    V first = V::all(scores[0]);
    if constexpr (int8) {
      const float sum = static_cast<float>(__builtin_bit_cast(int32_t, scores[0]));
      first = V::all(sum) * (query_scale * V::all(s.key_scales[0]));
    }
    first = first * factor;
    V largest = first;
    for_blocks(s.cols, [&](int64_t j, int64_t n) {
      V score = V::all(0.0f);
      if constexpr (int8) {
        score = V::from_int32(sums + j) * (query_scale * V::load(s.key_scales + j));
      } else {
        score = V::load(scores + j);
      }
      const V scaled = score * factor;
      scaled.store(scores + j);
      largest = max(largest, n == kLanes ? scaled : V::choose_first(scaled, first, n));
    });
    const V m = V::all(largest.largest());
    V sum = V::all(0.0f), heaviest = sum;
    for_blocks(s.cols, [&](int64_t j, int64_t n) {
      V p = exp_of_negative(V::load(scores + j) - m);
      if (n != kLanes) p = V::choose_first(p, V::all(0.0f), n);
      sum = sum + p;
      if constexpr (int8) {
        p = p * load_upto<V>(s.value_scales + j, n);
        heaviest = max_bits(heaviest, p);
      }
      p.store(scores + j);
    });
    s.inverse_sums[r] = 1.0f / sum.sum();
    // Nothing is negative but perhaps a NaN.
    if constexpr (int8) s.absmax_bits[r] = heaviest.largest_bits() & 0x7fffffffu;
  }
}

template <class V>
void softmax_rows(const Softmax& s) {
  s.key_scales != nullptr ? softmax_rows_of<V, true>(s) : softmax_rows_of<V, false>(s);
}

template <class V>
void scale_row(const float* x, int64_t count, float factor, float* y) {
  for_blocks(count, [&](int64_t i, int64_t n) { store_upto(load_upto<V>(x + i, n) * V::all(factor), y + i, n); });
}

template <class V>
void scale_sums(const ScaleSums& s) {
  const V scale = V::all(s.scale), factor = V::all(s.factor);
  for_blocks(s.count,
             [&](int64_t i, int64_t n) { store_upto(V::from_int32(s.sums + i) * scale * factor, s.y + i, n); });
}

template <class V>
void layer_norm_rows(const LayerNorm& l) {
  const float width = static_cast<float>(l.cols);
  const V zero = V::all(0.0f);
  for (int64_t r = 0; r < l.rows; ++r) {
    const float* x = l.x + r * l.x_stride;
    float* y = l.y + r * l.y_stride;
    V sums = zero;
    for_blocks(l.cols, [&](int64_t i, int64_t n) { sums = sums + load_upto<V>(x + i, n); });
    const V mean = V::all(sums.sum() / width);
    V squares = zero;
    for_blocks(l.cols, [&](int64_t i, int64_t n) {
      V centred = load_upto<V>(x + i, n) - mean;
      if (n != kLanes) centred = V::choose_first(centred, zero, n);
      squares = fma(centred, centred, squares);
    });
    const V inverse = V::all(1.0f) / sqrt(V::all(squares.sum() / width + l.eps));
    for_blocks(l.cols, [&](int64_t i, int64_t n) {
      const V scaled = (load_upto<V>(x + i, n) - mean) * inverse;
      store_upto(fma(scaled, load_upto<V>(l.gamma + i, n), load_upto<V>(l.beta + i, n)), y + i, n);
    });
  }
}

template <class V>
void rms_norm_rows(const RmsNorm& n) {
  const float width = static_cast<float>(n.cols);
  for (int64_t r = 0; r < n.rows; ++r) {
    const float* x = n.x + r * n.x_stride;
    float* y = n.y + r * n.y_stride;
    V squares = V::all(0.0f);
    for_blocks(n.cols, [&](int64_t i, int64_t count) {
      const V v = load_upto<V>(x + i, count);
      squares = fma(v, v, squares);
    });
    const V inverse = V::all(1.0f) / sqrt(V::all(squares.sum() / width + n.eps));
    for_blocks(n.cols, [&](int64_t i, int64_t count) {
      const V scaled = load_upto<V>(x + i, count) * inverse;
      store_upto(scaled * load_upto<V>(n.gamma + i, count), y + i, count);
    });
  }
}

/// Pairs [first, first + n) of all heads of a row, n ≤ 16: columns i and i + p.pairs.
template <class V>
void rotate_halves(const Rope& p, float* row, int64_t first, int64_t n, V sine, V cosine) {
  for (int64_t head = 0; head < p.heads; ++head) {
    float* x = row + head * p.head_stride + first;
    const V a = load_upto<V>(x, n), b = load_upto<V>(x + p.pairs, n);
    store_upto(fms(a, cosine, b * sine), x, n);
    store_upto(fma(b, cosine, a * sine), x + p.pairs, n);
  }
}

/// The same of columns 2 · i and 2 · i + 1. Each lane is a column, which meets its pair's cosine, and its neighbour the
/// sine: b · -sine is -(b · sine) to the bit.
template <class V>
void rotate_neighbours(const Rope& p, float* row, int64_t first, int64_t n, V sine, V cosine) {
  float of_pair[2][kLanes], sines[2 * kLanes], cosines[2 * kLanes];
  sine.store(of_pair[0]);
  cosine.store(of_pair[1]);
  for (int64_t i = 0; i < kLanes; ++i) {
    sines[2 * i] = -of_pair[0][i];
    sines[2 * i + 1] = of_pair[0][i];
    cosines[2 * i] = cosines[2 * i + 1] = of_pair[1][i];
  }
  for (int64_t head = 0; head < p.heads; ++head) {
    for_blocks(2 * n, [&](int64_t column, int64_t count) {
      float* x = row + head * p.head_stride + 2 * first + column;
      const V value = load_upto<V>(x, count);
      store_upto(fma(value, V::load(cosines + column), swap_neighbours(value) * V::load(sines + column)), x, count);
    });
  }
}

template <class V>
void rope_rows(const Rope& p) {
  const V factor = V::all(p.factor);
  for (int64_t r = 0; r < p.rows; ++r) {
    const V position = V::all(static_cast<float>(p.positions[r]));
    float* row = p.x + r * p.x_stride;
    // All heads turn by the same angles.
    for_blocks(p.pairs, [&](int64_t i, int64_t n) {
      const SineCosine<V> turn = sine_cosine(position * load_upto<V>(p.frequencies + i, n));
      const V turned = p.backward ? V::all(0.0f) - turn.sine : turn.sine;
      const V sine = turned * factor, cosine = turn.cosine * factor;
      p.layout == RotaryLayout::kHalves ? rotate_halves(p, row, i, n, sine, cosine)
                                        : rotate_neighbours(p, row, i, n, sine, cosine);
    });
  }
}

template <class V>
void gated_rows(const Gated& g) {
  for_nonlinearity(g.nonlinearity, [&g]<Nonlinearity kind>() {
    for (int64_t r = 0; r < g.rows; ++r) {
      const float *gate = g.x + r * g.x_stride, *up = gate + g.cols;
      float* y = g.y + r * g.y_stride;
      for_blocks(g.cols, [&](int64_t i, int64_t n) {
        store_upto(apply<kind>(load_upto<V>(gate + i, n)) * load_upto<V>(up + i, n), y + i, n);
      });
    }
  });
}

template <class V>
void l2_normalize_row(float* x, int64_t count) {
  V squares = V::all(0.0f);
  for_blocks(count, [&](int64_t i, int64_t n) {
    const V v = load_upto<V>(x + i, n);
    squares = fma(v, v, squares);
  });
  const V divisor = max(V::all(1e-12f), sqrt(V::all(squares.sum())));
  for_blocks(count, [&](int64_t i, int64_t n) { store_upto(load_upto<V>(x + i, n) / divisor, x + i, n); });
}

template <class V>
void pool_columns(const PoolColumns& p) {
  for_blocks(p.cols, [&](int64_t c, int64_t n) {
    V y = load_upto<V>(p.x + c, n);
    for (int64_t r = 1; r < p.rows; ++r) {
      const V x = load_upto<V>(p.x + r * p.x_stride + c, n);
      y = p.kind == PoolColumns::Kind::kSum ? y + x : max_or_nan(y, x);
    }
    if (p.kind == PoolColumns::Kind::kSum) y = y / V::all(p.divisor);
    store_upto(y, p.y + c, n);
  });
}

template <class V>
void embed_row(const void* row, TableElement element, int64_t count, Start start, float* y) {
  for_blocks(count, [&](int64_t i, int64_t n) {
    const V x = V::load_element(row, element, i, n);
    store_upto(start == Start::kFromTile ? load_upto<V>(y + i, n) + x : x, y + i, n);
  });
}

/// Columns of a matrix as panels of sixteen, see PackPanels.
template <class V>
void pack_column_panels(const PackPanels& p) {
  float* out = p.panels;
  for (int64_t c = 0; c < p.cols; c += kLanes) {
    for (int64_t r = 0; r < p.rows; ++r, out += kLanes) {
      load_upto<V>(p.source + r * p.stride + c, p.cols - c).store(out);
    }
  }
}

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/vector_math.h"

/// Epilogues and row operations over a lane type V of sixteen lanes, one for each of the sixteen partial sums that the
/// numerics contract prescribes. Beyond what vector_math.h asks, V offers: load, load_first(p, n) (zeros beyond n ≤
/// 16), from_int32(p), load_element(p, TableElement, n); store, store_first; keep_first(v, n) (zeros beyond n); sqrt;
/// max_or_nan (NaN if either is); sum (folded 8, 4, 2, 1) and largest, which return one float.
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
    const V bias = biased ? load_upto<V>(f.bias + c, n) : V::all(0.0f);
    V scales = V::all(1.0f);
    if constexpr (rescale == Rescale::kWeight || rescale == Rescale::kBoth)
      scales = load_upto<V>(f.weight_scales + c, n);
    for (int64_t r = 0; r < f.rows; ++r) {
      const int64_t at = r * f.tile_stride + c;
      V y = V::all(0.0f);
      if constexpr (rescale == Rescale::kBoth) {
        y = fma(V::from_int32(static_cast<const int32_t*>(f.tile) + at), V::all(f.activation_scales[r]) * scales, bias);
      } else {
        const V t = V::load(static_cast<const float*>(f.tile) + at);
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

template <class V, Rescale rescale>
void finish_rescaled(const Finish& f) {
  switch (f.nonlinearity) {
    case Nonlinearity::kNone:
      return finish_columns<V, rescale, Nonlinearity::kNone>(f);
    case Nonlinearity::kGelu:
      return finish_columns<V, rescale, Nonlinearity::kGelu>(f);
    case Nonlinearity::kGeluTanh:
      return finish_columns<V, rescale, Nonlinearity::kGeluTanh>(f);
    case Nonlinearity::kRelu:
      return finish_columns<V, rescale, Nonlinearity::kRelu>(f);
    case Nonlinearity::kTanh:
      return finish_columns<V, rescale, Nonlinearity::kTanh>(f);
  }
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
  }
}

/// Calls visit(offset, n) for blocks of sixteen and the rest.
template <class Visit>
void for_blocks(int64_t count, Visit visit) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) visit(i, kLanes);
  if (i < count) visit(i, count - i);
}

template <class V>
void softmax_rows(const Softmax& s) {
  const V factor = V::all(s.scale);
  for (int64_t r = 0; r < s.rows; ++r) {
    float* scores = s.scores + r * s.stride;
    // The rest of the last block repeats the row's first score: it changes no maximum.
    V largest = V::all(scores[0]) * factor;
    const V first = largest;
    for_blocks(s.cols, [&](int64_t j, int64_t n) {
      const V scaled = V::load(scores + j) * factor;
      scaled.store(scores + j);
      largest = max(largest, n == kLanes ? scaled : V::choose_first(scaled, first, n));
    });
    const V m = V::all(largest.largest());
    V sum = V::all(0.0f);
    for_blocks(s.cols, [&](int64_t j, int64_t n) {
      V p = exp_of_negative(V::load(scores + j) - m);
      if (n != kLanes) p = V::choose_first(p, V::all(0.0f), n);
      p.store(scores + j);
      sum = sum + p;
    });
    s.inverse_sums[r] = 1.0f / sum.sum();
  }
}

template <class V>
void scale_row(const float* x, int64_t count, float factor, float* y) {
  for_blocks(count, [&](int64_t i, int64_t n) { store_upto(load_upto<V>(x + i, n) * V::all(factor), y + i, n); });
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

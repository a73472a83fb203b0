// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/avx512/products.h"

#include <immintrin.h>

namespace octet::cpu::avx512 {
namespace {

constexpr int64_t kWidth = 16;  // outputs of a panel: one register
constexpr int64_t kRows = 14;   // rows of a tile by two panels: 28 accumulators, two of weights and a broadcast of 32

// Rows in groups of at most fourteen and nearly the same size.
struct RowGroups {
  int64_t count, size, larger;  // the first `larger` groups have one row more

  explicit RowGroups(int64_t rows) : count((rows + kRows - 1) / kRows), size(rows / count), larger(rows % count) {}
  int64_t rows_of(int64_t group) const { return size + (group < larger ? 1 : 0); }
};

inline __m512 load_weights(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 load_weights(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// R rows by P panels. Where rows are few they take several panels: an fma takes four cycles and two start in each, so
// fewer than eight accumulators leave the units waiting. "GCC unroll" as in avx2/products.cpp.
template <int R, int P, class W>
void float_tile(const FloatProduct& p, int64_t row, int64_t panel) {
  const float* x = p.x + row * p.x_stride;
  const int64_t x_stride = p.x_stride;
  const W* w = static_cast<const W*>(p.panels) + panel * p.panel_stride;
  const int64_t panel_stride = p.panel_stride, depth = p.depth;
  float* tile = p.tile + row * p.tile_stride + panel * kWidth;

  __m512 sum[R][P];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) {
      sum[r][c] =
          p.start == Start::kFromTile ? _mm512_loadu_ps(tile + r * p.tile_stride + kWidth * c) : _mm512_setzero_ps();
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    __m512 weights[P];
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) weights[c] = load_weights(w + c * panel_stride + k * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512 a = _mm512_set1_ps(x[r * x_stride + k]);
#pragma GCC unroll 16
      for (int c = 0; c < P; ++c) sum[r][c] = _mm512_fmadd_ps(a, weights[c], sum[r][c]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) _mm512_storeu_ps(tile + r * p.tile_stride + kWidth * c, sum[r][c]);
  }
}

// Four codes of an activation (s8) meet four of each output (as u8, code + 128) in one vpdpbusd, which adds the four
// products in int32 without saturation: Σ (w + 128) a = Σ w a + 128 Σ a. Sums start at -128 Σ a. What wraps around on
// the way comes back, because the result fits.
template <int R, int P>
void int8_tile(const Int8Product& p, int64_t row, int64_t panel) {
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t codes_stride = p.codes_stride;
  const int8_t* w = p.panels + panel * p.panel_stride;
  const int64_t panel_stride = p.panel_stride, quads = (p.depth + 3) / 4;
  int32_t* tile = p.tile + row * p.tile_stride + panel * kWidth;

  __m512i sum[R][P];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const auto code_sum = static_cast<uint32_t>(p.code_sums[(row + r) * p.code_sums_stride]);
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) sum[r][c] = _mm512_set1_epi32(static_cast<int32_t>(0u - 128u * code_sum));
  }
  for (int64_t k = 0; k < quads; ++k) {
    __m512i weights[P];
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) weights[c] = _mm512_loadu_si512(w + c * panel_stride + k * 4 * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512i a = _mm512_broadcastd_epi32(_mm_loadu_si32(codes + r * codes_stride + k * 4));
#pragma GCC unroll 16
      for (int c = 0; c < P; ++c) sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], weights[c], a);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) _mm512_storeu_si512(tile + r * p.tile_stride + kWidth * c, sum[r][c]);
  }
}

// Tiles of one to fourteen rows.
template <int P, class W>
constexpr void (*kFloatTiles[kRows])(const FloatProduct&, int64_t, int64_t) = {
    float_tile<1, P, W>,  float_tile<2, P, W>,  float_tile<3, P, W>,  float_tile<4, P, W>, float_tile<5, P, W>,
    float_tile<6, P, W>,  float_tile<7, P, W>,  float_tile<8, P, W>,  float_tile<9, P, W>, float_tile<10, P, W>,
    float_tile<11, P, W>, float_tile<12, P, W>, float_tile<13, P, W>, float_tile<14, P, W>};
template <int P>
constexpr void (*kInt8Tiles[kRows])(const Int8Product&, int64_t, int64_t) = {
    int8_tile<1, P>,  int8_tile<2, P>,  int8_tile<3, P>,  int8_tile<4, P>, int8_tile<5, P>,
    int8_tile<6, P>,  int8_tile<7, P>,  int8_tile<8, P>,  int8_tile<9, P>, int8_tile<10, P>,
    int8_tile<11, P>, int8_tile<12, P>, int8_tile<13, P>, int8_tile<14, P>};

template <class Product>
using Tile = void (*)(const Product&, int64_t row, int64_t panel);

// All panels by all rows, the rows within the panels: `pair` takes two panels, `single` the last one.
template <class Product>
void by_tiles(const Product& p, const Tile<Product>* pair, const Tile<Product>* single) {
  const RowGroups groups(p.rows);
  for (int64_t panel = 0; panel < p.panel_count; panel += 2) {
    const Tile<Product>* tiles = panel + 1 < p.panel_count ? pair : single;
    for (int64_t group = 0, row = 0; group < groups.count; row += groups.rows_of(group), ++group) {
      tiles[groups.rows_of(group) - 1](p, row, panel);
    }
  }
}

// At most three rows, by several panels at once and the last panels one by one.
template <class Product>
void by_wide_tiles(const Product& p, Tile<Product> wide, int64_t panels, Tile<Product> single) {
  int64_t panel = 0;
  for (; panel + panels <= p.panel_count; panel += panels) wide(p, 0, panel);
  for (; panel < p.panel_count; ++panel) single(p, 0, panel);
}

template <class W>
void float_product(const FloatProduct& p) {
  switch (p.rows) {
    case 1:
      return by_wide_tiles<FloatProduct>(p, float_tile<1, 8, W>, 8, float_tile<1, 1, W>);
    case 2:
      return by_wide_tiles<FloatProduct>(p, float_tile<2, 4, W>, 4, float_tile<2, 1, W>);
    case 3:
      return by_wide_tiles<FloatProduct>(p, float_tile<3, 4, W>, 4, float_tile<3, 1, W>);
    default:
      return by_tiles<FloatProduct>(p, kFloatTiles<2, W>, kFloatTiles<1, W>);
  }
}

// Sixteen codes as int32: cvtps rounds to nearest, ties to even.
inline __m512i codes_of(__m512 x, __m512 inverse) {
  const __m512 limit = _mm512_set1_ps(127.0f);
  const __m512 scaled = _mm512_mul_ps(x, inverse);
  return _mm512_cvtps_epi32(_mm512_max_ps(_mm512_min_ps(scaled, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit)));
}

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

}  // namespace

void product_f32(const FloatProduct& p) { float_product<float>(p); }
void product_w8(const FloatProduct& p) { float_product<int8_t>(p); }

void product_int8(const Int8Product& p) {
  switch (p.rows) {
    case 1:
      return by_wide_tiles<Int8Product>(p, int8_tile<1, 8>, 8, int8_tile<1, 1>);
    case 2:
      return by_wide_tiles<Int8Product>(p, int8_tile<2, 4>, 4, int8_tile<2, 1>);
    case 3:
      return by_wide_tiles<Int8Product>(p, int8_tile<3, 4>, 4, int8_tile<3, 1>);
    default:
      return by_tiles<Int8Product>(p, kInt8Tiles<2>, kInt8Tiles<1>);
  }
}

void widen(const int8_t* codes, int64_t count, float* out) {
  // Panels are sixteen wide, so `count` is a multiple of sixteen.
  for (int64_t i = 0; i < count; i += 16) _mm512_storeu_ps(out + i, load_weights(codes + i));
}

uint32_t absmax_bits(const float* x, int64_t count) {
  // Floats without their sign are ordered as their bits are; NaN and infinity are above all others.
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i < 16 ? count - i : 16);
    largest = _mm512_max_epi32(largest, _mm512_and_si512(magnitude, _mm512_maskz_loadu_epi32(lanes, x + i)));
  }
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(largest));
}

int32_t quantize(const float* x, int64_t count, float inverse, void* codes) {
  int8_t* out = static_cast<int8_t*>(codes);
  const __m512 factor = _mm512_set1_ps(inverse);
  __m512i sums = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m512i values = codes_of(_mm512_loadu_ps(x + i), factor);
    sums = _mm512_add_epi32(sums, values);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi32_epi8(values));
  }
  if (i < count) {
    const __m512i values = codes_of(_mm512_maskz_loadu_ps(first_lanes(count - i), x + i), factor);
    sums = _mm512_add_epi32(sums, values);
    // Up to a whole group of four k; the lanes beyond x hold zeros.
    _mm512_mask_cvtepi32_storeu_epi8(out + i, first_lanes((count - i + 3) / 4 * 4), values);
  }
  return _mm512_reduce_add_epi32(sums);
}

}  // namespace octet::cpu::avx512

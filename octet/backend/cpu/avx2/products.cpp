// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/avx2/products.h"

#include <immintrin.h>

namespace octet::cpu::avx2 {
namespace {

constexpr int64_t kWidth = 16;  // outputs of a panel: two registers
constexpr int64_t kRows = 6;    // rows of a tile: 12 accumulators, leaving four registers for the operands

// Loops over a tile carry "GCC unroll" (clang knows it too): only when they are unrolled before it splits arrays into
// registers does gcc 12 keep the accumulators there; it stored all twelve in each step otherwise, at 40 % of the speed.

// Rows in groups of at most six and nearly the same size: 7 is 4 + 3, not 6 + 1, because few rows wait for latency.
struct RowGroups {
  int64_t count, size, larger;  // the first `larger` groups have one row more

  explicit RowGroups(int64_t rows) : count((rows + kRows - 1) / kRows), size(rows / count), larger(rows % count) {}
  int64_t rows_of(int64_t group) const { return size + (group < larger ? 1 : 0); }
};

inline __m256 load_weights(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 load_weights(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// R rows by P panels, two accumulators each. Where rows are few they take several panels: an fma takes four cycles and
// two start in each, so fewer than eight accumulators leave the units waiting.
template <int R, int P, class W>
void float_tile(const FloatProduct& p, int64_t row, int64_t panel) {
  const float* x = p.x + row * p.x_stride;
  const int64_t x_stride = p.x_stride;
  const W* w = static_cast<const W*>(p.panels) + panel * p.panel_stride;
  const int64_t panel_stride = p.panel_stride, depth = p.depth;
  float* tile = p.tile + row * p.tile_stride + panel * kWidth;

  __m256 sum[R][2 * P];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < 2 * P; ++c) {
      sum[r][c] = p.start == Start::kFromTile ? _mm256_loadu_ps(tile + r * p.tile_stride + 8 * c) : _mm256_setzero_ps();
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    __m256 weights[2 * P];
#pragma GCC unroll 16
    for (int c = 0; c < 2 * P; ++c) weights[c] = load_weights(w + (c / 2) * panel_stride + k * kWidth + 8 * (c % 2));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256 a = _mm256_broadcast_ss(x + r * x_stride + k);
#pragma GCC unroll 16
      for (int c = 0; c < 2 * P; ++c) sum[r][c] = _mm256_fmadd_ps(a, weights[c], sum[r][c]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < 2 * P; ++c) _mm256_storeu_ps(tile + r * p.tile_stride + 8 * c, sum[r][c]);
  }
}

template <int R, int P, class W>
void float_few_rows(const FloatProduct& p) {
  int64_t panel = 0;
  for (; panel + P <= p.panel_count; panel += P) float_tile<R, P, W>(p, 0, panel);
  for (; panel < p.panel_count; ++panel) float_tile<R, 1, W>(p, 0, panel);
}

template <class W>
void float_product(const FloatProduct& p) {
  switch (p.rows) {
    case 1:
      return float_few_rows<1, 4, W>(p);
    case 2:
      return float_few_rows<2, 2, W>(p);
    case 3:
      return float_few_rows<3, 2, W>(p);
    default:
      break;
  }
  const RowGroups groups(p.rows);
  for (int64_t panel = 0; panel < p.panel_count; ++panel) {
    for (int64_t group = 0, row = 0; group < groups.count; row += groups.rows_of(group), ++group) {
      switch (groups.rows_of(group)) {
        case 6:
          float_tile<6, 1, W>(p, row, panel);
          break;
        case 5:
          float_tile<5, 1, W>(p, row, panel);
          break;
        case 4:
          float_tile<4, 1, W>(p, row, panel);
          break;
        default:
          float_tile<3, 1, W>(p, row, panel);
          break;
      }
    }
  }
}

// Codes of activations are int16 and come in pairs of k; vpmaddwd multiplies a pair by a pair of widened weights and
// adds the two products in int32: exact for all codes, at the same four operations for 32 products as the sign trick
// for vpmaddubsw, of which only two, not three, need the multiplying ports. Widening costs two operations for R rows.
template <int R>
void int8_tile(const Int8Product& p, int64_t row, int64_t panel) {
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t codes_stride = p.codes_stride;
  const int8_t* w = p.panels + panel * p.panel_stride;
  const int64_t pairs = (p.depth + 1) / 2;
  int32_t* tile = p.tile + row * p.tile_stride + panel * kWidth;

  __m256i sum[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  for (int64_t k = 0; k < pairs; ++k) {
    const __m128i* pair = reinterpret_cast<const __m128i*>(w + k * 2 * kWidth);
    const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(pair));
    const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(pair + 1));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i a =
          _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(codes + r * codes_stride + k * 4)));
      sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(a, low));
      sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(a, high));
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    __m256i* out = reinterpret_cast<__m256i*>(tile + r * p.tile_stride);
    _mm256_storeu_si256(out, sum[r][0]);
    _mm256_storeu_si256(out + 1, sum[r][1]);
  }
}

}  // namespace

void product_f32(const FloatProduct& p) { float_product<float>(p); }
void product_w8(const FloatProduct& p) { float_product<int8_t>(p); }

void product_int8(const Int8Product& p) {
  const RowGroups groups(p.rows);
  for (int64_t panel = 0; panel < p.panel_count; ++panel) {
    for (int64_t group = 0, row = 0; group < groups.count; row += groups.rows_of(group), ++group) {
      switch (groups.rows_of(group)) {
        case 6:
          int8_tile<6>(p, row, panel);
          break;
        case 5:
          int8_tile<5>(p, row, panel);
          break;
        case 4:
          int8_tile<4>(p, row, panel);
          break;
        case 3:
          int8_tile<3>(p, row, panel);
          break;
        case 2:
          int8_tile<2>(p, row, panel);
          break;
        default:
          int8_tile<1>(p, row, panel);
          break;
      }
    }
  }
}

void widen(const int8_t* codes, int64_t count, float* out) {
  // Panels are sixteen wide, so `count` is a multiple of eight.
  for (int64_t i = 0; i < count; i += 8) _mm256_storeu_ps(out + i, load_weights(codes + i));
}

uint32_t absmax_bits(const float* x, int64_t count) {
  // Floats without their sign are ordered as their bits are; NaN and infinity are above all others.
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256(), other = largest;
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i* p = reinterpret_cast<const __m256i*>(x + i);
    largest = _mm256_max_epi32(largest, _mm256_and_si256(magnitude, _mm256_loadu_si256(p)));
    other = _mm256_max_epi32(other, _mm256_and_si256(magnitude, _mm256_loadu_si256(p + 1)));
  }
  alignas(32) uint32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_max_epi32(largest, other));
  uint32_t result = 0;
  for (const uint32_t lane : lanes) result = lane > result ? lane : result;
  for (; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_castps_si128(_mm_load_ss(x + i)))) & 0x7fffffffu;
    result = bits > result ? bits : result;
  }
  return result;
}

namespace {

// Eight codes as int32: cvtps rounds to nearest, ties to even.
inline __m256i codes_of(__m256 x, __m256 inverse) {
  const __m256 limit = _mm256_set1_ps(127.0f);
  const __m256 scaled = _mm256_mul_ps(x, inverse);
  return _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(scaled, limit), _mm256_sub_ps(_mm256_setzero_ps(), limit)));
}

}  // namespace

int32_t quantize(const float* x, int64_t count, float inverse, void* codes) {
  int16_t* out = static_cast<int16_t*>(codes);
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i sums = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i low = codes_of(_mm256_loadu_ps(x + i), factor), high = codes_of(_mm256_loadu_ps(x + i + 8), factor);
    sums = _mm256_add_epi32(sums, _mm256_add_epi32(low, high));
    // packs interleaves the 128-bit halves of its operands; the permutation puts them in order.
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0b11'01'10'00);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), packed);
  }
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums);
  int32_t sum = 0;
  for (const int32_t lane : lanes) sum += lane;
  for (; i < count; ++i) {
    const int32_t code = _mm256_extract_epi32(codes_of(_mm256_broadcast_ss(x + i), factor), 0);
    out[i] = static_cast<int16_t>(code);
    sum += code;
  }
  if (count % 2 != 0) out[count] = 0;
  return sum;
}

}  // namespace octet::cpu::avx2

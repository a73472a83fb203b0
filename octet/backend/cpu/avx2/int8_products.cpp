// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "octet/backend/cpu/avx2/products.h"
#include "octet/backend/cpu/avx2/tiles.h"

namespace octet::cpu::avx2 {
namespace {

inline __m256i four_bytes(const char* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
}

// R rows of a panel whose sums go out: as they are, or times the scales of their group and added to the tile.
template <int R>
struct SumTile {
  const Int8Product& p;
  int64_t row, panel;

  [[gnu::always_inline]] void store(const __m256i (&sum)[R][2], int64_t group) const {
    const int64_t at = row * p.tile_stride + panel * kWidth;
    if (p.groups.size == 0) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        __m256i* out = reinterpret_cast<__m256i*>(static_cast<int32_t*>(p.tile) + at + r * p.tile_stride);
        _mm256_storeu_si256(out, sum[r][0]);
        _mm256_storeu_si256(out + 1, sum[r][1]);
      }
      return;
    }
    const float* scales = p.groups.scales + panel * p.groups.panel_stride + group * p.groups.stride;
#pragma GCC unroll 16
    for (int c = 0; c < 2; ++c) {
      const __m256 scale = _mm256_loadu_ps(scales + 8 * c);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* t = static_cast<float*>(p.tile) + at + r * p.tile_stride + 8 * c;
        const __m256 before = group == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(t);
        _mm256_storeu_ps(t, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][c]), scale, before));
      }
    }
  }
};

// Bytes: codes of activations are int16 and come in pairs of k; vpmaddwd multiplies a pair by a pair of widened weights
// and adds the two products in int32: exact for all codes, at the same four operations for 32 products as the sign
// trick for vpmaddubsw, of which only two, not three, need the multiplying ports. Widening costs two operations for R
// rows.
template <int R>
void byte_tile(const Int8Product& p, int64_t row, int64_t panel) {
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t codes_stride = p.codes_stride;
  const int8_t* w = static_cast<const int8_t*>(p.panels) + panel * p.panel_stride;
  const int64_t size = p.groups.size != 0 ? p.groups.size : p.depth;

  for (int64_t first = 0, group = 0; first < p.depth; first += size, ++group) {
    const int64_t last = (first + size < p.depth ? first + size : p.depth);
    __m256i sum[R][2];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (int64_t k = first / 2; k < (last + 1) / 2; ++k) {
      const __m128i* pair = reinterpret_cast<const __m128i*>(w + k * 2 * kWidth);
      const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(pair));
      const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(pair + 1));
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const __m256i a = four_bytes(codes + r * codes_stride + k * 4);
        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(a, low));
        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(a, high));
      }
    }
    SumTile<R>{p, row, panel}.store(sum, group);
  }
}

// Nibbles: codes of activations are int8 and come in fours of k, and weights are unsigned, as vpmaddubsw wants them. A
// pair sum of it is at most 2 · 15 · 127 = 3,810; eight fours of k add 30,480 < 32,768 into an int16 lane, which is
// then widened: exact. Last the zero points go, z · Σ code.
constexpr int64_t kInInt16 = 32;

// gcc 12 keeps these in registers only as what they are: as __m256i it copies each in every step, and runs out of them.
using Int16Lanes = int16_t __attribute__((vector_size(32)));

// The products at `depth` ≤ kInInt16 k.
template <int R>
[[gnu::always_inline]] inline void multiply_nibbles(const uint8_t* w, const char* codes, int64_t codes_stride,
                                                    int64_t depth, Int16Lanes (&part)[R][2]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) part[r][0] = part[r][1] = Int16Lanes{};
#pragma GCC unroll 1
  for (int64_t k = 0; k < depth; k += 4, w += 2 * kWidth) {
    const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)), mask = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(word, mask), high = _mm256_and_si256(_mm256_srli_epi16(word, 4), mask);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i a = four_bytes(codes + r * codes_stride + k);
      part[r][0] += reinterpret_cast<Int16Lanes>(_mm256_maddubs_epi16(low, a));
      part[r][1] += reinterpret_cast<Int16Lanes>(_mm256_maddubs_epi16(high, a));
    }
  }
}

inline __m256i widened(Int16Lanes part) {
  return _mm256_madd_epi16(reinterpret_cast<__m256i>(part), _mm256_set1_epi16(1));
}

// Adds them to sums. Not inline, so that the sums do not take the lanes' registers.
template <int R>
[[gnu::noinline]] void add_nibbles(const uint8_t* w, const char* codes, int64_t codes_stride, int64_t depth,
                                   __m256i (*sum)[2]) {
  Int16Lanes part[R][2];
  multiply_nibbles<R>(w, codes, codes_stride, depth, part);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    sum[r][0] = _mm256_add_epi32(sum[r][0], widened(part[r][0]));
    sum[r][1] = _mm256_add_epi32(sum[r][1], widened(part[r][1]));
  }
}

// Of eight outputs from c on.
inline __m256i zero_points(const Groups& groups, int64_t panel, int64_t group, int64_t c) {
  if (groups.zeros == nullptr) return _mm256_set1_epi32(8);
  const uint8_t* zeros = groups.zeros + panel * groups.panel_stride + group * groups.stride + c;
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros)));
}

// `single`: a group fits into the int16 lanes, and its sums need not be kept elsewhere.
template <int R, bool single>
void nibble_tile(const Int8Product& p, int64_t row, int64_t panel) {
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t codes_stride = p.codes_stride;
  const uint8_t* w = static_cast<const uint8_t*>(p.panels) + panel * p.panel_stride / 2;
  const int64_t size = p.groups.size != 0 ? p.groups.size : p.depth;

  for (int64_t first = 0, group = 0; first < p.depth; first += size, ++group) {
    __m256i sum[R][2];
    if constexpr (single) {
      Int16Lanes part[R][2];
      multiply_nibbles<R>(w + first * (kWidth / 2), codes + first, codes_stride, kInInt16, part);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        sum[r][0] = widened(part[r][0]);
        sum[r][1] = widened(part[r][1]);
      }
    } else {
      const int64_t last = first + size < p.depth ? first + size : p.depth;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
      for (int64_t k = first; k < last; k += kInInt16) {
        const int64_t depth = last - k < kInInt16 ? last - k : kInInt16;
        add_nibbles<R>(w + k * (kWidth / 2), codes + k, codes_stride, depth, sum);
      }
    }
    const __m256i low = zero_points(p.groups, panel, group, 0), high = zero_points(p.groups, panel, group, 8);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i code_sum = _mm256_set1_epi32(p.code_sums[(row + r) * p.code_sums_stride + group]);
      sum[r][0] = _mm256_sub_epi32(sum[r][0], _mm256_mullo_epi32(low, code_sum));
      sum[r][1] = _mm256_sub_epi32(sum[r][1], _mm256_mullo_epi32(high, code_sum));
    }
    SumTile<R>{p, row, panel}.store(sum, group);
  }
}

template <bool single>
void nibble_product(const Int8Product& p) {
  by_tiles<Int8Product>(p, {nibble_tile<1, single>, nibble_tile<2, single>, nibble_tile<3, single>,
                            nibble_tile<4, single>, nibble_tile<5, single>, nibble_tile<6, single>});
}

}  // namespace

void product_w8a8(const Int8Product& p) {
  by_tiles<Int8Product>(p, {byte_tile<1>, byte_tile<2>, byte_tile<3>, byte_tile<4>, byte_tile<5>, byte_tile<6>});
}
void product_w4a8(const Int8Product& p) {
  p.groups.size == kInInt16 ? nibble_product<true>(p) : nibble_product<false>(p);
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

// Sixteen codes of int16 in order. packs interleaves the 128-bit halves of its operands; the permutation mends that.
inline __m256i sixteen_codes(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0b11'01'10'00);
}
inline void store_codes(__m256i codes, int16_t* out) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), codes); }
inline void store_codes(__m256i codes, int8_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   _mm_packs_epi16(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1)));
}

template <class Code>
int32_t quantize(const float* x, int64_t count, float inverse, Code* out) {
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i sums = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i low = codes_of(_mm256_loadu_ps(x + i), factor), high = codes_of(_mm256_loadu_ps(x + i + 8), factor);
    sums = _mm256_add_epi32(sums, _mm256_add_epi32(low, high));
    store_codes(sixteen_codes(low, high), out + i);
  }
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums);
  int32_t sum = 0;
  for (const int32_t lane : lanes) sum += lane;
  for (; i < count; ++i) {
    const int32_t code = _mm256_extract_epi32(codes_of(_mm256_broadcast_ss(x + i), factor), 0);
    out[i] = static_cast<Code>(code);
    sum += code;
  }
  for (; i % kCodePadding != 0; ++i) out[i] = 0;
  return sum;
}

}  // namespace

int32_t quantize_to_int16(const float* x, int64_t count, float inverse, void* codes) {
  return quantize(x, count, inverse, static_cast<int16_t*>(codes));
}
int32_t quantize_to_int8(const float* x, int64_t count, float inverse, void* codes) {
  return quantize(x, count, inverse, static_cast<int8_t*>(codes));
}

}  // namespace octet::cpu::avx2

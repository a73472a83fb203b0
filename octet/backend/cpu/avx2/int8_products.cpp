// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "octet/backend/cpu/avx2/products.h"
#include "octet/backend/cpu/avx2/tiles.h"

namespace octet::cpu::avx2 {
namespace {

inline __m256i four_bytes(const char* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
}

// gcc 12 keeps accumulators in registers only as what they are: as __m256i it copies each in every step, and runs out
// of registers.
using Int16Lanes = int16_t __attribute__((vector_size(32)));
using Int32Lanes = int32_t __attribute__((vector_size(32)));

inline Int32Lanes load_lanes(const int32_t* p) {
  return reinterpret_cast<Int32Lanes>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_lanes(int32_t* p, Int32Lanes lanes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(lanes));
}

// Some whole groups, or some k where there are none, of a product: as much as the L1 cache holds of a panel and of the
// rows of a tile.
struct DepthBlock : Int8Product {
  bool begins = true;  // else its sums are added to the tile's
};

// Where the sums of a group go: times its scales they are added to the tile.
inline void add_scaled(Int32Lanes sum, const float* scales, bool begins, float* tile) {
  const __m256 before = begins ? _mm256_setzero_ps() : _mm256_loadu_ps(tile);
  const __m256 sums = _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(sum));
  _mm256_storeu_ps(tile, _mm256_fmadd_ps(sums, _mm256_loadu_ps(scales), before));
}

// Bytes: codes of activations are int16 and come in pairs of k; vpmaddwd multiplies a pair by a pair of widened weights
// and adds the two products in int32: exact for all codes, at the same four operations for 32 products as the sign
// trick for vpmaddubsw, of which only two, not three, need the multiplying ports. Widening costs two operations for R
// rows.
template <int R>
[[gnu::always_inline]] inline void multiply_bytes(const int8_t* w, const char* codes, int64_t codes_stride,
                                                  int64_t pairs, Int32Lanes (&sum)[R][2]) {
  for (int64_t k = 0; k < pairs; ++k) {
    const __m128i* pair = reinterpret_cast<const __m128i*>(w + k * 2 * kWidth);
    const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(pair));
    const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(pair + 1));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i a = four_bytes(codes + r * codes_stride + k * 4);
      sum[r][0] += reinterpret_cast<Int32Lanes>(_mm256_madd_epi16(a, low));
      sum[r][1] += reinterpret_cast<Int32Lanes>(_mm256_madd_epi16(a, high));
    }
  }
}

template <int R>
void byte_tile(const DepthBlock& p, int64_t row, int64_t panel) {
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t codes_stride = p.codes_stride, tile_stride = p.tile_stride, size = p.groups.size;
  const int8_t* w = static_cast<const int8_t*>(p.panels) + panel * p.panel_stride;
  Int32Lanes sum[R][2];
  if (size == 0) {
    int32_t* tile = static_cast<int32_t*>(p.tile) + row * tile_stride + panel * kWidth;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      sum[r][0] = p.begins ? Int32Lanes{} : load_lanes(tile + r * tile_stride);
      sum[r][1] = p.begins ? Int32Lanes{} : load_lanes(tile + r * tile_stride + 8);
    }
    multiply_bytes<R>(w, codes, codes_stride, (p.depth + 1) / 2, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      store_lanes(tile + r * tile_stride, sum[r][0]);
      store_lanes(tile + r * tile_stride + 8, sum[r][1]);
    }
    return;
  }
  float* tile = static_cast<float*>(p.tile) + row * tile_stride + panel * kWidth;
  const float* scales = p.groups.scales + panel * p.groups.panel_stride;
  bool begins = p.begins;
  for (int64_t first = 0; first < p.depth; first += size, scales += p.groups.stride, begins = false) {
    const int64_t depth = first + size < p.depth ? size : p.depth - first;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = Int32Lanes{};
    multiply_bytes<R>(w + first * kWidth, codes + first * 2, codes_stride, (depth + 1) / 2, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      add_scaled(sum[r][0], scales, begins, tile + r * tile_stride);
      add_scaled(sum[r][1], scales + 8, begins, tile + r * tile_stride + 8);
    }
  }
}

// Nibbles: codes of activations are int8 and come in fours of k, and weights w are unsigned, as vpmaddubsw wants them.
// Its pair sums add up in two int16 lanes for each output, one of which meets the first and second of the fours, the
// other the third and fourth; then both are widened. A lane starts at -z · Σ of the codes that it will meet, so that
// what wraps around on the way comes back: it ends at Σ (w - z) · code. Of 32 k that is at most 16 · 15 · 127 = 30,480
// < 32,768; with the usual zero point, 8, and so |w - z| ≤ 8, even of 64 at most 32 · 8 · 127 = 32,512: exact.
constexpr int64_t kSymmetricBlock = 64, kShiftedBlock = 32;
static_assert(kNibbleSums == 32);

// Codes of a row are summed by 32: -Σ of the first and second of each four in the low half, of the others in the high
// one.
inline int32_t nibble_sum(int32_t first_pairs, int32_t second_pairs) {
  return static_cast<int32_t>(static_cast<uint32_t>(-second_pairs) << 16 |
                              (static_cast<uint32_t>(-first_pairs) & 0xffff));
}

// Zero points of eight outputs, for both lanes of each.
inline Int16Lanes zero_points(const uint8_t* zeros) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros)));
  return reinterpret_cast<Int16Lanes>(_mm256_or_si256(wide, _mm256_slli_epi32(wide, 16)));
}

inline Int32Lanes widened(Int16Lanes part) {
  return reinterpret_cast<Int32Lanes>(_mm256_madd_epi16(reinterpret_cast<__m256i>(part), _mm256_set1_epi16(1)));
}

// The products at the next `depth` k of a block; `sums` are those of the first row.
template <int R, bool symmetric>
[[gnu::always_inline]] inline void multiply_nibbles(const uint8_t* w, const Int16Lanes (&zeros)[2], const char* codes,
                                                    int64_t codes_stride, const int32_t* sums, int64_t sums_stride,
                                                    int64_t depth, Int16Lanes (&part)[R][2]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    __m256i lanes = four_bytes(reinterpret_cast<const char*>(sums + r * sums_stride));
    if constexpr (symmetric) {
      lanes = _mm256_slli_epi16(lanes, 3);
      part[r][0] = part[r][1] = reinterpret_cast<Int16Lanes>(lanes);
    } else {
      part[r][0] = reinterpret_cast<Int16Lanes>(lanes) * zeros[0];
      part[r][1] = reinterpret_cast<Int16Lanes>(lanes) * zeros[1];
    }
  }
  if (symmetric && depth > kNibbleSums) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i lanes = four_bytes(reinterpret_cast<const char*>(sums + r * sums_stride + 1));
      part[r][0] += reinterpret_cast<Int16Lanes>(_mm256_slli_epi16(lanes, 3));
      part[r][1] = part[r][0];
    }
  }
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

template <int R, bool symmetric>
void nibble_tile(const DepthBlock& p, int64_t row, int64_t panel) {
  constexpr int64_t kBlock = symmetric ? kSymmetricBlock : kShiftedBlock;
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t codes_stride = p.codes_stride, tile_stride = p.tile_stride;
  const int32_t* code_sums = p.code_sums + row * p.code_sums_stride;
  const int64_t code_sums_stride = p.code_sums_stride;
  const uint8_t* w = static_cast<const uint8_t*>(p.panels) + panel * p.panel_stride / 2;
  const int64_t size = p.groups.size != 0 ? p.groups.size : p.depth;
  float* const tile = static_cast<float*>(p.tile) + row * tile_stride + panel * kWidth;  // floats only in groups
  int64_t at = panel * p.groups.panel_stride;  // of the group's scales and zero points
  bool begins = p.begins;

  for (int64_t first = 0; first < p.depth; first += size, at += p.groups.stride, begins = false) {
    const int64_t last = first + size < p.depth ? first + size : p.depth;
    const float* scales = p.groups.scales + at;
    Int16Lanes zeros[2] = {};
    if constexpr (!symmetric) {
      zeros[0] = zero_points(p.groups.zeros + at);
      zeros[1] = zero_points(p.groups.zeros + at + 8);
    }
    // Sums of more than a block lie in memory, for the parts need the registers: in the tile itself if there they are
    // to stay.
    alignas(32) int32_t buffer[R * kWidth];
    int32_t* sums = buffer;
    int64_t sums_stride = kWidth;
    bool add = false;
    if (p.groups.size == 0) {
      sums = reinterpret_cast<int32_t*>(tile);
      sums_stride = tile_stride;
      add = !begins;
    }
    for (int64_t k = first; k < last; k += kBlock, add = true) {
      const int32_t* block_sums = code_sums + k / kNibbleSums;
      Int16Lanes part[R][2];
      multiply_nibbles<R, symmetric>(w + k * (kWidth / 2), zeros, codes + k, codes_stride, block_sums, code_sums_stride,
                                     last - k < kBlock ? last - k : kBlock, part);
      // Which of three it is stands outside of the unrolled loops: a branch in them would push registers out.
      const bool ends = k + kBlock >= last && p.groups.size != 0;
      const auto for_sums = [&](auto visit) [[gnu::always_inline]] {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
          for (int c = 0; c < 2; ++c) {
            visit(r, c, widened(part[r][c]));
          }
        }
      };
      if (ends && !add) {
        for_sums([&](int r, int c, Int32Lanes sum) [[gnu::always_inline]] {
          add_scaled(sum, scales + 8 * c, begins, tile + r * tile_stride + 8 * c);
        });
      } else if (ends) {
        for_sums([&](int r, int c, Int32Lanes sum) [[gnu::always_inline]] {
          sum += load_lanes(sums + r * sums_stride + 8 * c);
          add_scaled(sum, scales + 8 * c, begins, tile + r * tile_stride + 8 * c);
        });
      } else if (add) {
        for_sums([&](int r, int c, Int32Lanes sum) [[gnu::always_inline]] {
          int32_t* const out = sums + r * sums_stride + 8 * c;
          store_lanes(out, load_lanes(out) + sum);
        });
      } else {
        for_sums([&](int r, int c, Int32Lanes sum)
                     [[gnu::always_inline]] { store_lanes(sums + r * sums_stride + 8 * c, sum); });
      }
    }
  }
}

// By blocks of about `depth` k, a multiple of all sizes of groups. Codes of activations take `code_bytes`.
void by_depth_blocks(const Int8Product& p, int64_t depth, const PanelFormat& format, int code_bytes,
                     const Tile<DepthBlock> (&tiles)[kRows]) {
  const int64_t size = p.groups.size;
  if (depth < size) depth = size;
  for (int64_t first = 0, group = 0; first < p.depth; first += depth, group += size != 0 ? depth / size : 0) {
    DepthBlock block{p, first == 0};
    block.depth = first + depth < p.depth ? depth : p.depth - first;
    block.codes = static_cast<const char*>(p.codes) + first * code_bytes;
    if (format.bits == 4) block.code_sums += first / kNibbleSums;
    block.panels = static_cast<const char*>(p.panels) + first * kWidth * format.bits / 8;
    if (size != 0) block.groups.scales += group * p.groups.stride;
    if (p.groups.zeros != nullptr) block.groups.zeros += group * p.groups.stride;
    by_tiles<DepthBlock>(block, tiles);
  }
}

}  // namespace

// 512 k of a panel of bytes are 8 KB, of six rows of int16 6 KB; 1024 of nibbles and of int8 just the same.
void product_w8a8(const Int8Product& p) {
  by_depth_blocks(p, 512, {.bits = 8}, 2,
                  {byte_tile<1>, byte_tile<2>, byte_tile<3>, byte_tile<4>, byte_tile<5>, byte_tile<6>});
}
void product_w4a8(const Int8Product& p) {
  if (p.groups.zeros == nullptr) {
    by_depth_blocks(p, 1024, {.bits = 4}, 1,
                    {nibble_tile<1, true>, nibble_tile<2, true>, nibble_tile<3, true>, nibble_tile<4, true>,
                     nibble_tile<5, true>, nibble_tile<6, true>});
  } else {
    by_depth_blocks(p, 1024, {.bits = 4}, 1,
                    {nibble_tile<1, false>, nibble_tile<2, false>, nibble_tile<3, false>, nibble_tile<4, false>,
                     nibble_tile<5, false>, nibble_tile<6, false>});
  }
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

// Codes of x, and Σ of those at k % 4 = 0 and 1 and of those at 2 and 3.
struct PairSums {
  int32_t first = 0, second = 0;
};

template <class Code>
PairSums quantize(const float* x, int64_t count, float inverse, Code* out) {
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i pairs = _mm256_setzero_si256();  // those of sixteen codes: first, second, first, …
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i low = codes_of(_mm256_loadu_ps(x + i), factor), high = codes_of(_mm256_loadu_ps(x + i + 8), factor);
    const __m256i codes = sixteen_codes(low, high);
    pairs = _mm256_add_epi32(pairs, _mm256_madd_epi16(codes, _mm256_set1_epi16(1)));
    store_codes(codes, out + i);
  }
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), pairs);
  PairSums sums{lanes[0] + lanes[2] + lanes[4] + lanes[6], lanes[1] + lanes[3] + lanes[5] + lanes[7]};
  for (; i < count; ++i) {
    const int32_t code = _mm256_extract_epi32(codes_of(_mm256_broadcast_ss(x + i), factor), 0);
    out[i] = static_cast<Code>(code);
    (i % 4 < 2 ? sums.first : sums.second) += code;
  }
  for (; i % kCodePadding != 0; ++i) out[i] = 0;
  return sums;
}

}  // namespace

int32_t quantize_to_int16(const float* x, int64_t count, float inverse, void* codes) {
  const PairSums sums = quantize(x, count, inverse, static_cast<int16_t*>(codes));
  return sums.first + sums.second;
}
int32_t quantize_to_int8(const float* x, int64_t count, float inverse, void* codes) {
  const PairSums sums = quantize(x, count, inverse, static_cast<int8_t*>(codes));
  return nibble_sum(sums.first, sums.second);
}

}  // namespace octet::cpu::avx2

// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "octet/backend/cpu/avx512/products.h"
#include "octet/backend/cpu/avx512/tiles.h"
#include "octet/tensor/half.h"

namespace octet::cpu::avx512 {
namespace {

inline __m512 widened(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 widened(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline __m512 widened(const BFloat16* p) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(low, 16));
}
inline __m512 widened(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

// The weights of a tile, kMinima saying whether groups have minima: load(c, k, j) are those of panel c at k + j, where
// k is a multiple of kStep and j < kStep a constant.
//
// Elements that lie as fp32 does, each widened by itself.
template <class Element>
class Elements {
 public:
  static constexpr int kStep = 1;
  static constexpr bool kMinima = false;
  Elements(const FloatProduct& p, int64_t panel)
      : w_(static_cast<const Element*>(p.panels) + panel * p.panel_stride), stride_(p.panel_stride) {}
  void begin_group(int64_t) {}
  __m512 load(int c, int64_t k, int) const { return widened(w_ + c * stride_ + k * kWidth); }

 private:
  const Element* w_;
  int64_t stride_;
};

// A lane of 32 bits holds eight k of an output. A nibble in its lowest byte, masked where it lies, is the mantissa of
// 2^23 + code, or of 2^19 + code if it is the high one; one vpternlogd makes (word & mask) | bits. Taking 2^23 (2^19) +
// zero point off is exact.
constexpr int32_t kLowBits = 0x4b000000, kHighBits = 0x49000000;  // of 2^23 and 2^19
constexpr float kLowUnit = 0x1p23f, kHighUnit = 0x1p19f;

inline __m512 nibble(const uint8_t* lanes, int j) {
  const __m512i mask = _mm512_set1_epi32(j % 2 == 0 ? 0x0f : 0xf0);
  const __m512i bits = _mm512_set1_epi32(j % 2 == 0 ? kLowBits : kHighBits);
  const __m512i word = _mm512_srli_epi32(_mm512_loadu_si512(lanes), static_cast<unsigned>(j / 2 * 8));
  constexpr int kAndOr = 0b11101010;  // (a & b) | c, its result for a b c = 7, 6, … 0
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(word, mask, bits, kAndOr));
}

inline __m512 zeros_of(const uint8_t* zeros) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros))));
}

// Nibbles of P panels. From those of groups with minima nothing is taken off.
template <int P, bool minima>
class Nibbles {
 public:
  static constexpr int kStep = 8;
  static constexpr bool kMinima = minima;
  Nibbles(const FloatProduct& p, int64_t panel)
      : w_(static_cast<const uint8_t*>(p.panels) + panel * p.panel_stride / 2),
        stride_(p.panel_stride / 2),
        zeros_(p.groups.zeros != nullptr ? p.groups.zeros + panel * p.groups.panel_stride : nullptr),
        zeros_panel_stride_(p.groups.panel_stride),
        zeros_stride_(p.groups.stride) {}
  void begin_group(int64_t group) {
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) {
      __m512 zero = _mm512_setzero_ps();
      if constexpr (!minima) {
        zero = zeros_ != nullptr ? zeros_of(zeros_ + c * zeros_panel_stride_ + group * zeros_stride_)
                                 : _mm512_set1_ps(8.0f);
      }
      offsets_[c][0] = _mm512_add_ps(_mm512_set1_ps(kLowUnit), zero);
      offsets_[c][1] = _mm512_add_ps(_mm512_set1_ps(kHighUnit), zero);
    }
  }
  __m512 load(int c, int64_t k, int j) const { return _mm512_sub_ps(nibble(lanes(c, k), j), offsets_[c][j % 2]); }
  // The same for any j, at the end of a K that is no multiple of eight.
  __m512 load_one(int c, int64_t k, int j) const {
    const __m512i word = _mm512_srl_epi32(_mm512_loadu_si512(lanes(c, k)), _mm_cvtsi32_si128(4 * j));
    const __m512i code = _mm512_and_si512(word, _mm512_set1_epi32(15));
    return _mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_sub_ps(offsets_[c][0], _mm512_set1_ps(kLowUnit)));
  }

 private:
  const uint8_t* lanes(int c, int64_t k) const { return w_ + c * stride_ + k * (kWidth / 2); }

  const uint8_t* w_;
  int64_t stride_;
  const uint8_t* zeros_;
  int64_t zeros_panel_stride_, zeros_stride_;
  __m512 offsets_[P][2];
};

// Bytes of P panels with zero points.
template <int P>
class ShiftedBytes : public Elements<int8_t> {
 public:
  ShiftedBytes(const FloatProduct& p, int64_t panel)
      : Elements(p, panel),
        zeros_(p.groups.zeros + panel * p.groups.panel_stride),
        zeros_panel_stride_(p.groups.panel_stride),
        zeros_stride_(p.groups.stride) {}
  void begin_group(int64_t group) {
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) {
      const __m512 stored = zeros_of(zeros_ + c * zeros_panel_stride_ + group * zeros_stride_);
      zero_[c] = _mm512_sub_ps(stored, _mm512_set1_ps(128.0f));
    }
  }
  __m512 load(int c, int64_t k, int j) const { return _mm512_sub_ps(Elements::load(c, k, j), zero_[c]); }

 private:
  const uint8_t* zeros_;
  int64_t zeros_panel_stride_, zeros_stride_;
  __m512 zero_[P];
};

// Weights that were widened, in groups with minima.
class FloatsWithMinima : public Elements<float> {
 public:
  static constexpr bool kMinima = true;
  using Elements<float>::Elements;
};

// R rows by P panels. Where rows are few they take several panels: an fma takes four cycles and two start in each, so
// fewer than eight accumulators leave the units waiting.
template <int R, int P, class Weights>
void float_tile(const FloatProduct& p, int64_t row, int64_t panel) {
  const float* x = p.x + row * p.x_stride;
  const int64_t x_stride = p.x_stride, depth = p.depth, tile_stride = p.tile_stride;
  const bool grouped = p.groups.size != 0;
  const int64_t size = grouped ? p.groups.size : depth;
  float* tile = p.tile + row * tile_stride + panel * kWidth;
  const float* scales = p.groups.scales + (grouped ? panel * p.groups.panel_stride : 0);
  bool from_tile = p.start == Start::kFromTile;
  Weights weights(p, panel);

  for (int64_t first = 0, group = 0; first < depth; first += size, ++group) {
    weights.begin_group(group);
    __m512 sum[R][P];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int c = 0; c < P; ++c) {
        sum[r][c] = from_tile && !grouped ? _mm512_loadu_ps(tile + r * tile_stride + kWidth * c) : _mm512_setzero_ps();
      }
    }
    int64_t k = first;
    for (; k + Weights::kStep <= first + size; k += Weights::kStep) {
#pragma GCC unroll 16
      for (int j = 0; j < Weights::kStep; ++j) {
        __m512 w[P];
#pragma GCC unroll 16
        for (int c = 0; c < P; ++c) w[c] = weights.load(c, k, j);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const __m512 a = _mm512_set1_ps(x[r * x_stride + k + j]);
#pragma GCC unroll 16
          for (int c = 0; c < P; ++c) sum[r][c] = _mm512_fmadd_ps(a, w[c], sum[r][c]);
        }
      }
    }
    if constexpr (Weights::kStep > 1) {
      for (int j = 0; k + j < first + size; ++j) {
#pragma GCC unroll 16
        for (int c = 0; c < P; ++c) {
          const __m512 w = weights.load_one(c, k, j);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r)
            sum[r][c] = _mm512_fmadd_ps(_mm512_set1_ps(x[r * x_stride + k + j]), w, sum[r][c]);
        }
      }
    }
    if (!grouped) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int c = 0; c < P; ++c) _mm512_storeu_ps(tile + r * tile_stride + kWidth * c, sum[r][c]);
      }
      return;
    }
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) {
      const int64_t at = c * p.groups.panel_stride + group * p.groups.stride;
      const __m512 scale = _mm512_loadu_ps(scales + at);
      __m512 minimum = _mm512_setzero_ps();
      if constexpr (Weights::kMinima) minimum = _mm512_loadu_ps(p.groups.minima + panel * p.groups.panel_stride + at);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* t = tile + r * tile_stride + kWidth * c;
        const __m512 before = from_tile ? _mm512_loadu_ps(t) : _mm512_setzero_ps();
        __m512 after = _mm512_fmadd_ps(sum[r][c], scale, before);
        if constexpr (Weights::kMinima) {
          const float row_sum = p.group_sums[(row + r) * p.group_sums_stride + group];
          after = _mm512_fmadd_ps(minimum, _mm512_set1_ps(row_sum), after);
        }
        _mm512_storeu_ps(t, after);
      }
    }
    from_tile = true;
  }
}

// Tiles of one to fourteen rows.
template <int P, class W>
constexpr Tile<FloatProduct> kTiles[kRows] = {
    float_tile<1, P, W>,  float_tile<2, P, W>,  float_tile<3, P, W>,  float_tile<4, P, W>, float_tile<5, P, W>,
    float_tile<6, P, W>,  float_tile<7, P, W>,  float_tile<8, P, W>,  float_tile<9, P, W>, float_tile<10, P, W>,
    float_tile<11, P, W>, float_tile<12, P, W>, float_tile<13, P, W>, float_tile<14, P, W>};

template <template <int> class Weights>
void float_product(const FloatProduct& p) {
  switch (p.rows) {
    case 1:
      return by_wide_tiles<FloatProduct>(p, float_tile<1, 8, Weights<8>>, 8, float_tile<1, 1, Weights<1>>);
    case 2:
      return by_wide_tiles<FloatProduct>(p, float_tile<2, 4, Weights<4>>, 4, float_tile<2, 1, Weights<1>>);
    case 3:
      return by_wide_tiles<FloatProduct>(p, float_tile<3, 4, Weights<4>>, 4, float_tile<3, 1, Weights<1>>);
    default:
      return by_tiles<FloatProduct>(p, kTiles<2, Weights<2>>, kTiles<1, Weights<1>>);
  }
}

template <int>
using Floats = Elements<float>;
template <int>
using Halves = Elements<Half>;
template <int>
using BrainFloats = Elements<BFloat16>;
template <int>
using Bytes = Elements<int8_t>;
template <int>
using AnyFloatsWithMinima = FloatsWithMinima;
template <int P>
using PlainNibbles = Nibbles<P, false>;
template <int P>
using NibblesWithMinima = Nibbles<P, true>;

template <class Element>
void widen(const Widen& w) {
  const auto* elements = static_cast<const Element*>(w.codes);
  for (int64_t i = 0; i < w.depth * kWidth; i += kWidth) _mm512_storeu_ps(w.out + i, widened(elements + i));
}

}  // namespace

void product_f32(const FloatProduct& p) {
  p.groups.minima == nullptr ? float_product<Floats>(p) : float_product<AnyFloatsWithMinima>(p);
}
void product_f16(const FloatProduct& p) { float_product<Halves>(p); }
void product_bf16(const FloatProduct& p) { float_product<BrainFloats>(p); }
void product_w8a16(const FloatProduct& p) {
  p.groups.zeros == nullptr ? float_product<Bytes>(p) : float_product<ShiftedBytes>(p);
}
void product_w4a16(const FloatProduct& p) {
  p.groups.minima == nullptr ? float_product<PlainNibbles>(p) : float_product<NibblesWithMinima>(p);
}

void widen_f16(const Widen& w) { widen<Half>(w); }
void widen_bf16(const Widen& w) { widen<BFloat16>(w); }
void widen_w8(const Widen& w) {
  if (w.groups.zeros == nullptr) return widen<int8_t>(w);
  const auto* codes = static_cast<const int8_t*>(w.codes);
  const int64_t size = w.groups.size != 0 ? w.groups.size : w.depth;
  for (int64_t first = 0, group = 0; first < w.depth; first += size, ++group) {
    const __m512 zero = _mm512_sub_ps(zeros_of(w.groups.zeros + group * w.groups.stride), _mm512_set1_ps(128.0f));
    for (int64_t i = first * kWidth; i < (first + size) * kWidth; i += kWidth)
      _mm512_storeu_ps(w.out + i, _mm512_sub_ps(widened(codes + i), zero));
  }
}

void widen_w4(const Widen& w) {
  const int64_t size = w.groups.size != 0 ? w.groups.size : w.depth;
  for (int64_t first = 0, group = 0; first < w.depth; first += size, ++group) {
    const __m512 zero = w.groups.zeros != nullptr ? zeros_of(w.groups.zeros + group * w.groups.stride)
                                                  : _mm512_set1_ps(w.groups.minima != nullptr ? 0.0f : 8.0f);
    const __m512 low = _mm512_add_ps(_mm512_set1_ps(kLowUnit), zero);
    const __m512 high = _mm512_add_ps(_mm512_set1_ps(kHighUnit), zero);
    for (int64_t k = first; k < first + size; k += 8) {
      const uint8_t* lanes = static_cast<const uint8_t*>(w.codes) + k * (kWidth / 2);
      const int64_t count = first + size - k;
#pragma GCC unroll 16
      for (int j = 0; j < 8; ++j) {
        if (j < count) {
          _mm512_storeu_ps(w.out + (k + j) * kWidth, _mm512_sub_ps(nibble(lanes, j), j % 2 == 0 ? low : high));
        }
      }
    }
  }
}

}  // namespace octet::cpu::avx512

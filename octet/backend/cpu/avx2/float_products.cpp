// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "octet/backend/cpu/avx2/products.h"
#include "octet/backend/cpu/avx2/tiles.h"
#include "octet/tensor/half.h"

namespace octet::cpu::avx2 {
namespace {

inline __m256 widened(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 widened(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline __m256 widened(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// The panels of a tile lie `apart` panels from each other: see kPanelsAtOnce in int8_lanes.h.
struct SpreadProduct : FloatProduct {
  int64_t apart = 1;
};

// The weights of a tile, kMinima saying whether groups have minima: load(c, k, j) are those of eight outputs, c
// counting the registers of its panels, at k + j, where k is a multiple of kStep and j < kStep a constant.
//
// Elements that lie as fp32 does, each widened by itself.
template <class Element>
class Elements {
 public:
  static constexpr int kStep = 1;
  static constexpr bool kMinima = false;
  Elements(const SpreadProduct& p, int64_t panel)
      : w_(static_cast<const Element*>(p.panels) + panel * p.panel_stride), stride_(p.apart * p.panel_stride) {}
  void begin_group(int64_t) {}
  __m256 load(int c, int64_t k, int) const { return widened(w_ + (c / 2) * stride_ + k * kWidth + 8 * (c % 2)); }

 private:
  const Element* w_;
  int64_t stride_;
};

// A lane of 32 bits holds two k of an output, each of which becomes a float in one operation. (Laid out as fp16 is, it
// would take two: 18 GMAC/s for one row on Zen 3, where this gives 29.)
inline __m256 brain_float(const BFloat16* lanes, int j) {
  const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes));
  return _mm256_castsi256_ps(j == 0 ? _mm256_slli_epi32(word, 16)
                                    : _mm256_and_si256(word, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}

class BrainFloats {
 public:
  static constexpr int kStep = 2;
  static constexpr bool kMinima = false;
  BrainFloats(const SpreadProduct& p, int64_t panel)
      : w_(static_cast<const BFloat16*>(p.panels) + panel * p.panel_stride), stride_(p.apart * p.panel_stride) {}
  void begin_group(int64_t) {}
  __m256 load(int c, int64_t k, int j) const {
    return brain_float(w_ + (c / 2) * stride_ + k * kWidth + 16 * (c % 2), j);
  }
  // The last of an odd K.
  __m256 load_one(int c, int64_t k, int) const { return load(c, k, 0); }

 private:
  const BFloat16* w_;
  int64_t stride_;
};

// A lane of 32 bits holds eight k of an output, so that a nibble becomes a float in three operations for eight lanes:
// masked where it lies, it is the mantissa of 2^23 + code, or of 2^19 + code if it is the high nibble of its byte;
// taking 2^23 (2^19) + zero point off is exact. Bytes are brought to the lane's end by loading from 1, 2, 3 bytes on.
constexpr int32_t kLowBits = 0x4b000000, kHighBits = 0x49000000;  // of 2^23 and 2^19
constexpr float kLowUnit = 0x1p23f, kHighUnit = 0x1p19f;

inline __m256 nibble(const uint8_t* lanes, int j) {
  const __m256i mask = _mm256_set1_epi32(j % 2 == 0 ? 0x0f : 0xf0);
  const __m256i bits = _mm256_set1_epi32(j % 2 == 0 ? kLowBits : kHighBits);
  const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes + j / 2));
  return _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(word, mask), bits));
}

inline __m256 zeros_of(const uint8_t* zeros) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros))));
}

// Nibbles of P panels.
template <int P, Zero zero>
class Nibbles {
 public:
  static constexpr int kStep = 8;
  static constexpr bool kMinima = zero == Zero::kNone;
  Nibbles(const SpreadProduct& p, int64_t panel)
      : w_(static_cast<const uint8_t*>(p.panels) + panel * p.panel_stride / 2),
        stride_(p.apart * p.panel_stride / 2),
        zeros_(zero == Zero::kStored ? p.groups.zeros + panel * p.groups.panel_stride : nullptr),
        zeros_panel_stride_(p.apart * p.groups.panel_stride),
        zeros_stride_(p.groups.stride) {}
  void begin_group(int64_t group) {
    if constexpr (zero == Zero::kStored) {
#pragma GCC unroll 16
      for (int c = 0; c < 2 * P; ++c) {
        const __m256 stored = zeros_of(zeros_ + (c / 2) * zeros_panel_stride_ + group * zeros_stride_ + 8 * (c % 2));
        offsets_[c][0] = _mm256_add_ps(_mm256_set1_ps(kLowUnit), stored);
        offsets_[c][1] = _mm256_add_ps(_mm256_set1_ps(kHighUnit), stored);
      }
    }
  }
  __m256 load(int c, int64_t k, int j) const { return _mm256_sub_ps(nibble(lanes(c, k), j), offset(c, j)); }
  // The same for any j, at the end of a K that is no multiple of eight.
  __m256 load_one(int c, int64_t k, int j) const {
    const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes(c, k)));
    const __m256i code = _mm256_and_si256(_mm256_srl_epi32(word, _mm_cvtsi32_si128(4 * j)), _mm256_set1_epi32(15));
    return _mm256_sub_ps(_mm256_cvtepi32_ps(code), _mm256_sub_ps(offset(c, 0), _mm256_set1_ps(kLowUnit)));
  }

 private:
  const uint8_t* lanes(int c, int64_t k) const { return w_ + (c / 2) * stride_ + k * (kWidth / 2) + 32 * (c % 2); }
  __m256 offset(int c, int j) const {
    if constexpr (zero == Zero::kStored) return offsets_[c][j % 2];
    return _mm256_set1_ps((j % 2 == 0 ? kLowUnit : kHighUnit) + (zero == Zero::kEight ? 8.0f : 0.0f));
  }

  const uint8_t* w_;
  int64_t stride_;
  const uint8_t* zeros_;
  int64_t zeros_panel_stride_, zeros_stride_;
  __m256 offsets_[zero == Zero::kStored ? 2 * P : 1][2];
};

// Bytes of P panels with zero points.
template <int P>
class ShiftedBytes : public Elements<int8_t> {
 public:
  ShiftedBytes(const SpreadProduct& p, int64_t panel)
      : Elements(p, panel),
        zeros_(p.groups.zeros + panel * p.groups.panel_stride),
        zeros_panel_stride_(p.apart * p.groups.panel_stride),
        zeros_stride_(p.groups.stride) {}
  void begin_group(int64_t group) {
#pragma GCC unroll 16
    for (int c = 0; c < 2 * P; ++c) {
      const uint8_t* const stored = zeros_ + (c / 2) * zeros_panel_stride_ + group * zeros_stride_ + 8 * (c % 2);
      zero_[c] = _mm256_sub_ps(zeros_of(stored), _mm256_set1_ps(128.0f));
    }
  }
  __m256 load(int c, int64_t k, int j) const { return _mm256_sub_ps(Elements::load(c, k, j), zero_[c]); }

 private:
  const uint8_t* zeros_;
  int64_t zeros_panel_stride_, zeros_stride_;
  __m256 zero_[2 * P];
};

// Weights that were widened, in groups with minima.
class FloatsWithMinima : public Elements<float> {
 public:
  static constexpr bool kMinima = true;
  using Elements<float>::Elements;
};

// R rows by P panels, two accumulators each. Where rows are few they take several panels: an fma takes four cycles and
// two start in each, so fewer than eight accumulators leave the units waiting.
template <int R, int P, class Weights>
void float_tile(const SpreadProduct& p, int64_t row, int64_t panel) {
  constexpr int kColumns = 2 * P;
  const int64_t tile_panel_stride = p.apart * kWidth;
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
    __m256 sum[R][kColumns];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; ++c) {
        sum[r][c] = from_tile && !grouped ? _mm256_loadu_ps(tile + r * tile_stride + place(c, tile_panel_stride))
                                          : _mm256_setzero_ps();
      }
    }
    int64_t k = first;
    for (; k + Weights::kStep <= first + size; k += Weights::kStep) {
#pragma GCC unroll 16
      for (int j = 0; j < Weights::kStep; ++j) {
        // Where what is made of weights takes registers, few rows use each at once; else all weights come first.
        if constexpr (R == 1 || (R <= 3 && Weights::kStep > 1)) {
          __m256 a[R];
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) a[r] = _mm256_broadcast_ss(x + r * x_stride + k + j);
#pragma GCC unroll 16
          for (int c = 0; c < kColumns; ++c) {
            const __m256 w = weights.load(c, k, j);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) sum[r][c] = _mm256_fmadd_ps(a[r], w, sum[r][c]);
          }
        } else {
          __m256 w[kColumns];
#pragma GCC unroll 16
          for (int c = 0; c < kColumns; ++c) w[c] = weights.load(c, k, j);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const __m256 a = _mm256_broadcast_ss(x + r * x_stride + k + j);
#pragma GCC unroll 16
            for (int c = 0; c < kColumns; ++c) sum[r][c] = _mm256_fmadd_ps(a, w[c], sum[r][c]);
          }
        }
      }
    }
    if constexpr (Weights::kStep > 1) {
      for (int j = 0; k + j < first + size; ++j) {
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; ++c) {
          const __m256 w = weights.load_one(c, k, j);
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            sum[r][c] = _mm256_fmadd_ps(_mm256_broadcast_ss(x + r * x_stride + k + j), w, sum[r][c]);
          }
        }
      }
    }
    if (!grouped) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; ++c)
          _mm256_storeu_ps(tile + r * tile_stride + place(c, tile_panel_stride), sum[r][c]);
      }
      return;
    }
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) {
      const int64_t at = place(c, p.apart * p.groups.panel_stride) + group * p.groups.stride;
      const __m256 scale = _mm256_loadu_ps(scales + at);
      __m256 minimum = _mm256_setzero_ps();
      if constexpr (Weights::kMinima) minimum = _mm256_loadu_ps(p.groups.minima + panel * p.groups.panel_stride + at);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        float* t = tile + r * tile_stride + place(c, tile_panel_stride);
        const __m256 before = from_tile ? _mm256_loadu_ps(t) : _mm256_setzero_ps();
        __m256 after = _mm256_fmadd_ps(sum[r][c], scale, before);
        if constexpr (Weights::kMinima) {
          const float* row_sum = p.group_sums + (row + r) * p.group_sums_stride + group;
          after = _mm256_fmadd_ps(minimum, _mm256_broadcast_ss(row_sum), after);
        }
        _mm256_storeu_ps(t, after);
      }
    }
    from_tile = true;
  }
}

// P panels at once, and the last ones one by one.
template <int R, int P, template <int> class Weights>
void few_rows(const FloatProduct& p) {
  const SpreadProduct wide{p, p.panel_count / P}, rest{p};
  for (int64_t panel = 0; panel < wide.apart; ++panel) float_tile<R, P, Weights<P>>(wide, 0, panel);
  for (int64_t panel = wide.apart * P; panel < p.panel_count; ++panel) float_tile<R, 1, Weights<1>>(rest, 0, panel);
}

template <template <int> class Weights>
void float_product(const FloatProduct& p) {
  using One = Weights<1>;
  switch (p.rows) {
    case 1:
      return few_rows<1, 4, Weights>(p);
    case 2:
      return few_rows<2, 2, Weights>(p);
    case 3:
      return few_rows < 3, One::kStep == 1 ? 2 : 1, Weights > (p);  // nibbles need registers on their way to floats
    default:
      // Four rows and more make groups of at least three.
      return by_tiles<SpreadProduct>({p}, {nullptr, nullptr, float_tile<3, 1, One>, float_tile<4, 1, One>,
                                           float_tile<5, 1, One>, float_tile<6, 1, One>});
  }
}

template <int>
using Floats = Elements<float>;
template <int>
using Halves = Elements<Half>;
template <int>
using AnyBrainFloats = BrainFloats;
template <int>
using Bytes = Elements<int8_t>;
template <int>
using AnyFloatsWithMinima = FloatsWithMinima;
template <int P>
using SymmetricNibbles = Nibbles<P, Zero::kEight>;
template <int P>
using ShiftedNibbles = Nibbles<P, Zero::kStored>;
template <int P>
using NibblesWithMinima = Nibbles<P, Zero::kNone>;

template <class Element>
void widen(const Widen& w) {
  const auto* elements = static_cast<const Element*>(w.codes);
  for (int64_t i = 0; i < w.depth * kWidth; i += 8) _mm256_storeu_ps(w.out + i, widened(elements + i));
}

}  // namespace

void product_f32(const FloatProduct& p) {
  p.groups.minima == nullptr ? float_product<Floats>(p) : float_product<AnyFloatsWithMinima>(p);
}
void product_f16(const FloatProduct& p) { float_product<Halves>(p); }
void product_bf16(const FloatProduct& p) { float_product<AnyBrainFloats>(p); }
void product_w8a16(const FloatProduct& p) {
  p.groups.zeros == nullptr ? float_product<Bytes>(p) : float_product<ShiftedBytes>(p);
}
void product_w4a16(const FloatProduct& p) {
  if (p.groups.minima != nullptr) {
    float_product<NibblesWithMinima>(p);
  } else if (p.groups.zeros != nullptr) {
    float_product<ShiftedNibbles>(p);
  } else {
    float_product<SymmetricNibbles>(p);
  }
}

void widen_f16(const Widen& w) { widen<Half>(w); }
void widen_bf16(const Widen& w) {
  const auto* lanes = static_cast<const BFloat16*>(w.codes);
  for (int64_t k = 0; k < w.depth; k += 2) {
    for (int half = 0; half < 2; ++half, lanes += 16) {
      float* out = w.out + k * kWidth + 8 * half;
      _mm256_storeu_ps(out, brain_float(lanes, 0));
      if (k + 1 < w.depth) _mm256_storeu_ps(out + kWidth, brain_float(lanes, 1));
    }
  }
}
void widen_w8(const Widen& w) {
  if (w.groups.zeros == nullptr) return widen<int8_t>(w);
  const auto* codes = static_cast<const int8_t*>(w.codes);
  const int64_t size = w.groups.size != 0 ? w.groups.size : w.depth;
  for (int64_t first = 0, group = 0; first < w.depth; first += size, ++group) {
    for (int half = 0; half < 2; ++half) {
      const uint8_t* const stored = w.groups.zeros + group * w.groups.stride + 8 * half;
      const __m256 zero = _mm256_sub_ps(zeros_of(stored), _mm256_set1_ps(128.0f));
      for (int64_t i = first * kWidth + 8 * half; i < (first + size) * kWidth; i += kWidth)
        _mm256_storeu_ps(w.out + i, _mm256_sub_ps(widened(codes + i), zero));
    }
  }
}

void widen_w4(const Widen& w) {
  const int64_t size = w.groups.size != 0 ? w.groups.size : w.depth;
  for (int64_t first = 0, group = 0; first < w.depth; first += size, ++group) {
    for (int half = 0; half < 2; ++half) {
      const __m256 zero = w.groups.zeros != nullptr ? zeros_of(w.groups.zeros + group * w.groups.stride + 8 * half)
                                                    : _mm256_set1_ps(w.groups.minima != nullptr ? 0.0f : 8.0f);
      const __m256 low = _mm256_add_ps(_mm256_set1_ps(kLowUnit), zero);
      const __m256 high = _mm256_add_ps(_mm256_set1_ps(kHighUnit), zero);
      const uint8_t* lanes = static_cast<const uint8_t*>(w.codes) + first * (kWidth / 2) + 32 * half;
      for (int64_t k = first; k < first + size; k += 8, lanes += 64) {
        const int64_t count = first + size - k;
        float* out = w.out + k * kWidth + 8 * half;
#pragma GCC unroll 16
        for (int j = 0; j < 8; ++j) {
          if (j < count) _mm256_storeu_ps(out + j * kWidth, _mm256_sub_ps(nibble(lanes, j), j % 2 == 0 ? low : high));
        }
      }
    }
  }
}

}  // namespace octet::cpu::avx2

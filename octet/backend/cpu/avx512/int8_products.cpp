// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "octet/backend/cpu/avx512/products.h"
#include "octet/backend/cpu/avx512/tiles.h"

namespace octet::cpu::avx512 {
namespace {

inline __m512i four_codes(const char* p) { return _mm512_broadcastd_epi32(_mm_loadu_si32(p)); }

// What is to be taken off the unsigned codes of a panel and a group: stored zero points, or one for all.
struct Zeros {
  const uint8_t* first;
  int64_t panel_stride, stride;

  Zeros(const Int8Product& p, int64_t panel)
      : first(p.groups.zeros != nullptr ? p.groups.zeros + panel * p.groups.panel_stride : nullptr),
        panel_stride(p.groups.panel_stride),
        stride(p.groups.stride) {}
  __m512i of(int c, int64_t group, int else_all) const {
    if (first == nullptr) return _mm512_set1_epi32(else_all);
    const uint8_t* zeros = first + c * panel_stride + group * stride;
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros)));
  }
};

// The codes of P panels as vpdpbusd wants them: add(sum, a, k) adds the products with R rows of a at k, k + 1, …
// k + kStep - 1; the codes are `zero` too large, which the sums start without.
template <int P>
class Bytes {
 public:
  static constexpr bool kMinima = false;
  static constexpr int kStep = 4;  // codes of an activation (s8), which meet four of each output (as u8, code + 128)
  Bytes(const Int8Product& p, int64_t panel)
      : w_(static_cast<const int8_t*>(p.panels) + panel * p.panel_stride), stride_(p.panel_stride), zeros_(p, panel) {}
  __m512i zero(int c, int64_t group) const { return zeros_.of(c, group, 128); }
  template <int R>
  [[gnu::always_inline]] void add(__m512i (&sum)[R][P], const char* codes, int64_t codes_stride, int64_t k) const {
    __m512i w[P];
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) w[c] = _mm512_loadu_si512(w_ + c * stride_ + k * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512i a = four_codes(codes + r * codes_stride + k);
#pragma GCC unroll 16
      for (int c = 0; c < P; ++c) sum[r][c] = _mm512_dpbusd_epi32(sum[r][c], w[c], a);
    }
  }

 private:
  const int8_t* w_;
  int64_t stride_;
  Zeros zeros_;
};

// From the nibbles of groups with minima nothing is taken off.
template <int P, bool minima>
class Nibbles {
 public:
  static constexpr bool kMinima = minima;
  static constexpr int kStep = 8;  // a register has four k in its low nibbles, the next four in the high ones
  Nibbles(const Int8Product& p, int64_t panel)
      : w_(static_cast<const uint8_t*>(p.panels) + panel * p.panel_stride / 2),
        stride_(p.panel_stride / 2),
        zeros_(p, panel) {}
  __m512i zero(int c, int64_t group) const {
    if constexpr (minima) return _mm512_setzero_si512();
    return zeros_.of(c, group, 8);
  }
  template <int R>
  [[gnu::always_inline]] void add(__m512i (&sum)[R][P], const char* codes, int64_t codes_stride, int64_t k) const {
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i low[P], high[P];
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) {
      const __m512i word = _mm512_loadu_si512(w_ + c * stride_ + k * (kWidth / 2));
      low[c] = _mm512_and_si512(word, mask);
      high[c] = _mm512_and_si512(_mm512_srli_epi16(word, 4), mask);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512i a = four_codes(codes + r * codes_stride + k), b = four_codes(codes + r * codes_stride + k + 4);
#pragma GCC unroll 16
      for (int c = 0; c < P; ++c) {
        sum[r][c] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum[r][c], low[c], a), high[c], b);
      }
    }
  }

 private:
  const uint8_t* w_;
  int64_t stride_;
  Zeros zeros_;
};

// R rows by P panels. One vpdpbusd multiplies four unsigned codes of a weight by four signed ones of an activation and
// adds the products in int32 without saturation: Σ (w + zero) a = Σ w a + zero Σ a. Sums start at -zero Σ a. What wraps
// around on the way comes back, because the result fits.
template <int R, int P, class Weights>
void int8_tile(const Int8Product& p, int64_t row, int64_t panel) {
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t codes_stride = p.codes_stride;
  const int64_t size = p.groups.size != 0 ? p.groups.size : p.depth;
  const Weights weights(p, panel);

  for (int64_t first = 0, group = 0; first < p.depth; first += size, ++group) {
    const int64_t last = first + size < p.depth ? first + size : p.depth;
    __m512i sum[R][P];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto code_sum = static_cast<uint32_t>(p.code_sums[(row + r) * p.code_sums_stride + group]);
#pragma GCC unroll 16
      for (int c = 0; c < P; ++c) {
        sum[r][c] = _mm512_mullo_epi32(weights.zero(c, group), _mm512_set1_epi32(static_cast<int32_t>(0u - code_sum)));
      }
    }
    if (p.column_sums.sums != nullptr) {
      const int32_t* columns = p.column_sums.sums + panel * p.column_sums.panel_stride + group * p.column_sums.stride;
#pragma GCC unroll 16
      for (int c = 0; c < P; ++c) {
        const __m512i more = _mm512_mullo_epi32(_mm512_loadu_si512(columns + c * p.column_sums.panel_stride),
                                                _mm512_set1_epi32(p.column_sums.factor));
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sum[r][c] = _mm512_add_epi32(sum[r][c], more);
      }
    }
    for (int64_t k = first; k < last; k += Weights::kStep) weights.add(sum, codes, codes_stride, k);
    const int64_t at = row * p.tile_stride + panel * kWidth;
#pragma GCC unroll 16
    for (int c = 0; c < P; ++c) {
      if (p.groups.size == 0) {
        int32_t* out = static_cast<int32_t*>(p.tile) + at + c * kWidth;
        if (p.start == Start::kFromTile) {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            sum[r][c] = _mm512_add_epi32(sum[r][c], _mm512_loadu_si512(out + r * p.tile_stride));
          }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) _mm512_storeu_si512(out + r * p.tile_stride, sum[r][c]);
      } else {
        const int64_t of_group = (panel + c) * p.groups.panel_stride + group * p.groups.stride;
        const __m512 scale = _mm512_loadu_ps(p.groups.scales + of_group);
        __m512 minimum = _mm512_setzero_ps();
        if constexpr (Weights::kMinima) minimum = _mm512_loadu_ps(p.groups.minima + of_group);
        float* t = static_cast<float*>(p.tile) + at + c * kWidth;
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const __m512 before = group == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(t + r * p.tile_stride);
          __m512 after = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][c]), scale, before);
          if constexpr (Weights::kMinima) {
            const float row_sum = p.group_sums[(row + r) * p.group_sums_stride + group];
            after = _mm512_fmadd_ps(minimum, _mm512_set1_ps(row_sum), after);
          }
          _mm512_storeu_ps(t + r * p.tile_stride, after);
        }
      }
    }
  }
}

// Tiles of one to fourteen rows.
template <int P, class W>
constexpr Tile<Int8Product> kTiles[kRows] = {
    int8_tile<1, P, W>,  int8_tile<2, P, W>,  int8_tile<3, P, W>,  int8_tile<4, P, W>, int8_tile<5, P, W>,
    int8_tile<6, P, W>,  int8_tile<7, P, W>,  int8_tile<8, P, W>,  int8_tile<9, P, W>, int8_tile<10, P, W>,
    int8_tile<11, P, W>, int8_tile<12, P, W>, int8_tile<13, P, W>, int8_tile<14, P, W>};

template <template <int> class Weights>
void int8_product(const Int8Product& p) {
  switch (p.rows) {
    case 1:
      return by_wide_tiles<Int8Product>(p, int8_tile<1, 8, Weights<8>>, 8, int8_tile<1, 1, Weights<1>>);
    case 2:
      return by_wide_tiles<Int8Product>(p, int8_tile<2, 4, Weights<4>>, 4, int8_tile<2, 1, Weights<1>>);
    case 3:
      return by_wide_tiles<Int8Product>(p, int8_tile<3, 4, Weights<4>>, 4, int8_tile<3, 1, Weights<1>>);
    default:
      return by_tiles<Int8Product>(p, kTiles<2, Weights<2>>, kTiles<1, Weights<1>>);
  }
}

template <int P>
using PlainNibbles = Nibbles<P, false>;
template <int P>
using NibblesWithMinima = Nibbles<P, true>;

// What QuantizeRow says of all codes.
struct Codes {
  __m512 inverse, low, high;
  __m512i offset;

  explicit Codes(const QuantizeRow& q)
      : inverse(_mm512_set1_ps(q.inverse)),
        low(_mm512_set1_ps(q.low)),
        high(_mm512_set1_ps(q.high)),
        offset(_mm512_set1_epi32(q.offset)) {}
  // Sixteen as int32, zeros beyond `lanes`: cvtps rounds to nearest, ties to even.
  __m512i of(const float* x, __mmask16 lanes) const {
    const __m512 scaled =
        _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x), inverse), high), low);
    return _mm512_maskz_add_epi32(lanes, _mm512_cvtps_epi32(scaled), offset);
  }
};

// Codes that exist.
struct SameCodes {
  __m512i of(const int8_t* codes, __mmask16 lanes) const {
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, codes));
  }
};

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }

}  // namespace

void product_w8a8(const Int8Product& p) { int8_product<Bytes>(p); }
void product_w4a8(const Int8Product& p) {
  p.groups.minima == nullptr ? int8_product<PlainNibbles>(p) : int8_product<NibblesWithMinima>(p);
}

uint32_t absmax_bits(const float* x, int64_t count) {
  // Floats without their sign are ordered as their bits are; NaN and infinity are above all others.
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    largest = _mm512_max_epi32(largest, _mm512_and_si512(magnitude, _mm512_loadu_si512(x + i)));
  }
  if (i < count) {
    const __m512i rest = _mm512_maskz_loadu_epi32(first_lanes(count - i), x + i);
    largest = _mm512_max_epi32(largest, _mm512_and_si512(magnitude, rest));
  }
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(largest));
}

namespace {

// Codes of `count` values, zeros up to a multiple of kCodePadding; returns their sum.
template <class Value, class Making>
int32_t make_codes(const Value* x, int64_t count, const Making& codes, int8_t* out) {
  __m512i sums = _mm512_setzero_si512();
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m512i values = codes.of(x + i, 0xffff);
    sums = _mm512_add_epi32(sums, values);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi32_epi8(values));
  }
  if (i < count) {
    const __mmask16 lanes = first_lanes(count - i);
    const __m512i values = codes.of(x + i, lanes);
    sums = _mm512_add_epi32(sums, values);
    const int64_t padded = (count - i + kCodePadding - 1) / kCodePadding * kCodePadding;
    _mm512_mask_cvtepi32_storeu_epi8(out + i, first_lanes(padded), values);
  }
  return _mm512_reduce_add_epi32(sums);
}

}  // namespace

void quantize(const QuantizeRow& q) {
  int8_t* out = static_cast<int8_t*>(q.codes);
  const Codes codes(q);
  for (int64_t k = 0, i = 0; k < q.depth; k += q.step, ++i) {
    q.sums[i] = make_codes(q.x + k, q.depth - k < q.step ? q.depth - k : q.step, codes, out + k);
  }
}

void arrange(const ArrangeRow& a) {
  int8_t* out = static_cast<int8_t*>(a.codes);
  for (int64_t k = 0, i = 0; k < a.depth; k += a.step, ++i) {
    a.sums[i] = make_codes(a.given + k, a.depth - k < a.step ? a.depth - k : a.step, SameCodes(), out + k);
  }
}

void absmax_rows(const AbsmaxRows& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.stride;
    // A head's rows lie too far apart for the processor to foresee the next.
    if (r + kRowsAhead < a.rows) {
      for (int64_t i = 0; i < a.cols; i += 16) __builtin_prefetch(x + kRowsAhead * a.stride + i);
    }
    a.bits[r] = absmax_bits(x, a.cols);
  }
}

void quantize_rows(const QuantizeRows& q) {
  const int64_t padded = plain_row_bytes(q.cols);
  const __m128i flip = _mm_set1_epi8(q.flip);
  for (int64_t r = 0; r < q.rows; ++r) {
    int8_t* codes = q.codes + r * q.codes_stride;
    const float inverse = q.inverses[r];
    const Codes by({.inverse = inverse, .low = q.low, .high = q.high});
    int32_t* sum = q.sums == nullptr ? nullptr : q.sums + r * q.sums_stride;
    for (int64_t k = 0; k < q.cols; k += q.step) {
      const int64_t count = q.cols - k < q.step ? q.cols - k : q.step;
      int32_t codes_sum = 0;
      if (inverse == inverse) {
        codes_sum = make_codes(q.x + r * q.x_stride + k, count, by, codes + k);
      } else {
        for (int64_t i = k; i < (k + count < q.cols ? k + count : padded); ++i) codes[i] = 0;
      }
      if (sum != nullptr) *sum++ = codes_sum;
    }
    if (q.flip == 0) continue;
    for (int64_t k = 0; k < padded; k += 16) {
      __m128i* bytes = reinterpret_cast<__m128i*>(codes + k);
      _mm_storeu_si128(bytes, _mm_xor_si128(_mm_loadu_si128(bytes), flip));
    }
  }
}

}  // namespace octet::cpu::avx512

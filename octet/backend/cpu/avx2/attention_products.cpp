// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/avx2/int8_lanes.h"
#include "octet/backend/cpu/avx2/products.h"

// The INT8 products of attention. Both sides are activations, so neither is worth the preparation that weights get in
// byte_products.cpp: codes are int8 as they are, and a quad of a panel is four k of all outputs.
namespace octet::cpu::avx2 {
namespace {

constexpr int64_t kQuad = 4 * kWidth;

// Products of quads with a row's four codes, two in each lane. Where codes are not negative, they are vpmaddubsw's
// unsigned side; else they take the signs of what they meet, whose magnitudes are. Either way a lane holds at most
// 2 · 127 · 127 = 32,258 < 32,768.
template <bool any_sign>
inline Int16Lanes pairs(__m256i weights, __m256i magnitudes, __m256i codes) {
  return reinterpret_cast<Int16Lanes>(any_sign ? _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(codes, weights))
                                               : _mm256_maddubs_epi16(codes, weights));
}

template <int R, bool any_sign>
void tile(const Int8Product& p, int64_t row, int64_t panel) {
  const int64_t stride = p.codes_stride, tile_stride = p.tile_stride;
  const int8_t* codes = static_cast<const int8_t*>(p.codes) + row * stride;
  const int8_t* w = static_cast<const int8_t*>(p.panels) + panel * p.panel_stride;
  int32_t* const out = static_cast<int32_t*>(p.tile) + row * tile_stride + panel * kWidth;
  Int32Lanes sum[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    sum[r][0] = sum[r][1] = Int32Lanes{};
    if (p.start == Start::kFromTile) {
      sum[r][0] = load_lanes(out + r * tile_stride);
      sum[r][1] = load_lanes(out + r * tile_stride + 8);
    }
  }
  for (int64_t quads = (p.depth + 3) / 4; quads > 0; --quads, w += kQuad, codes += 4) {
#pragma GCC unroll 16
    for (int c = 0; c < 2; ++c) {
      const __m256i weights = load(w + 32 * c);
      const __m256i magnitudes = any_sign ? _mm256_abs_epi8(weights) : weights;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        sum[r][c] += widened(pairs<any_sign>(weights, magnitudes, four_bytes(codes + r * stride)));
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    store_lanes(out + r * tile_stride, sum[r][0]);
    store_lanes(out + r * tile_stride + 8, sum[r][1]);
  }
}

template <bool any_sign>
void product(const Int8Product& p) {
  by_tiles<Int8Product>(p, {tile<1, any_sign>, tile<2, any_sign>, tile<3, any_sign>, tile<4, any_sign>,
                            tile<5, any_sign>, tile<6, any_sign>});
}

}  // namespace

void product_scores(const Int8Product& p) { product<true>(p); }
void product_mix(const Int8Product& p) { product<false>(p); }

}  // namespace octet::cpu::avx2

// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/avx2/byte_row.h"
#include "octet/backend/cpu/avx2/int8_lanes.h"
#include "octet/backend/cpu/avx2/products.h"

// W8A8. A quad of a panel is four k of all outputs, 64 bytes; weights are stored unsigned, as code + 128.
namespace octet::cpu::avx2 {
namespace {

constexpr int64_t kQuad = 4 * kWidth;

inline Int16Lanes pairs(__m256i weights, __m256i codes) {
  return reinterpret_cast<Int16Lanes>(_mm256_maddubs_epi16(weights, codes));
}

// Eight stored zero points.
inline Int32Lanes wide_zeros(const uint8_t* zeros) {
  return reinterpret_cast<Int32Lanes>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros))));
}

// Where weights are read, of P panels; column c of eight outputs counts through all of them.
struct Panels {
  const uint8_t* first;
  int64_t stride;

  __m256i at(int c, int64_t offset = 0) const { return load(first + (c / 2) * stride + 32 * (c % 2) + offset); }
};

template <int R, int P>
[[gnu::always_inline]] inline void multiply_pairs(Panels w, const int8_t* codes, int64_t stride, int64_t quads,
                                                  Int32Lanes (&sum)[R][2 * P]) {
  for (; quads > 0; --quads, w.first += kQuad, codes += 4) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i a = four_bytes(codes + r * stride);
#pragma GCC unroll 16
      for (int c = 0; c < 2 * P; ++c) sum[r][c] += widened(pairs(w.at(c), a));
    }
  }
}

// Sums of `quads` quads, the rows' codes being calm enough: ten operations for the 128 products of two quads with eight
// outputs and a row, of which six need the two multiplying ports. The known exact sequences need sixteen.
template <int R, int P>
[[gnu::always_inline]] inline void multiply_fours(Panels w, const int8_t* codes, int64_t stride, int64_t quads,
                                                  Int32Lanes (&sum)[R][2 * P]) {
  for (; quads >= 2; quads -= 2, w.first += 2 * kQuad, codes += 8) {
#pragma GCC unroll 16
    for (int c = 0; c < 2 * P; ++c) {
      const __m256i first = w.at(c), second = w.at(c, kQuad);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        sum[r][c] +=
            widened(pairs(first, four_bytes(codes + r * stride)) + pairs(second, four_bytes(codes + r * stride + 4)));
      }
    }
  }
  multiply_pairs<R, P>(w, codes, stride, quads, sum);
}

// For any codes, -128 too, and weights that are not: the sign of a code goes to the weights that it meets, and |code ·
// weight| ≤ 128 · 127 leaves a pair sum at most 32,512 < 32,768.
template <int R, int P>
[[gnu::always_inline]] inline void multiply_signs(Panels w, const int8_t* codes, int64_t stride, int64_t quads,
                                                  Int32Lanes (&sum)[R][2 * P]) {
  for (; quads > 0; --quads, w.first += kQuad, codes += 4) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i a = four_bytes(codes + r * stride), magnitudes = _mm256_abs_epi8(a);
#pragma GCC unroll 16
      for (int c = 0; c < 2 * P; ++c) {
        const __m256i weights = _mm256_xor_si256(w.at(c), _mm256_set1_epi8(-128));
        sum[r][c] += widened(pairs(magnitudes, _mm256_sign_epi8(weights, a)));
      }
    }
  }
}

// For any codes and weights: the halves of two codes are as calm as can be, ⌈a / 2⌉ and ⌊a / 2⌋ in [-64, 64], so that
// their pair sums are at most 255 · 128 = 32,640.
template <int R, int P>
[[gnu::always_inline]] inline void multiply_halves(Panels w, const int8_t* codes, int64_t stride, int64_t quads,
                                                   Int32Lanes (&sum)[R][2 * P]) {
  for (; quads > 0; --quads, w.first += kQuad, codes += 4) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i a = four_bytes(codes + r * stride);
      // The mean of a + 128 and 0, rounded up, is ⌈a / 2⌉ + 64.
      const __m256i mean = _mm256_avg_epu8(_mm256_xor_si256(a, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
      const __m256i high = _mm256_sub_epi8(mean, _mm256_set1_epi8(64)), low = _mm256_sub_epi8(a, high);
#pragma GCC unroll 16
      for (int c = 0; c < 2 * P; ++c) sum[r][c] += widened(pairs(w.at(c), high)) + widened(pairs(w.at(c), low));
    }
  }
}

enum class Way : uint8_t { kFours, kPairs, kSigns, kHalves };

template <int R, int P>
[[gnu::always_inline]] inline void multiply(Way way, Panels w, const int8_t* codes, int64_t stride, int64_t depth,
                                            Int32Lanes (&sum)[R][2 * P]) {
  const int64_t quads = (depth + 3) / 4;
  switch (way) {
    case Way::kFours:
      multiply_fours<R, P>(w, codes, stride, quads, sum);
      break;
    case Way::kPairs:
      multiply_pairs<R, P>(w, codes, stride, quads, sum);
      break;
    case Way::kSigns:
      multiply_signs<R, P>(w, codes, stride, quads, sum);
      break;
    case Way::kHalves:
      multiply_halves<R, P>(w, codes, stride, quads, sum);
      break;
  }
}

// Outliers of a row that have not been multiplied yet.
struct Outliers {
  const Outlier *next, *end;

  // Adds the products of those before the quad `last`; quads count from `begin` in the panel.
  template <int C>
  [[gnu::always_inline]] void add(Panels w, int64_t begin, int64_t last, Int32Lanes (&sum)[C]) {
    for (; next < end && next->quad < last; ++next) {
      const __m256i code = four_bytes(next->codes);
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[c] += widened(pairs(w.at(c, (next->quad - begin) * kQuad), code));
    }
  }
};

template <int R, int P>
void byte_tile(const DepthBlock& p, int64_t row, int64_t panel) {
  const ByteRow layout(p.whole_depth);
  const char* const rows = static_cast<const char*>(p.codes) + row * p.codes_stride;
  const int64_t stride = p.codes_stride, tile_stride = p.tile_stride;
  Calm calm = Calm::kFours;
  Outliers outliers[R];
  for (int r = 0; r < R; ++r) {
    const char* const of_row = rows + r * stride;
    const Calm own = *reinterpret_cast<const Calm*>(of_row + layout.calm);
    if (own < calm) calm = own;
    const int32_t* starts = reinterpret_cast<const int32_t*>(of_row + layout.starts);
    const Outlier* all = reinterpret_cast<const Outlier*>(of_row + layout.outliers);
    outliers[r] = {all + starts[p.first / kByteBlock], all + starts[(p.first + p.depth + kByteBlock - 1) / kByteBlock]};
  }
  const bool any = calm == Calm::kNot;  // codes as they are, and no outliers
  const Way way = calm == Calm::kFours   ? Way::kFours
                  : calm == Calm::kPairs ? Way::kPairs
                  : p.lowest_codes       ? Way::kHalves
                                         : Way::kSigns;
  const int8_t* codes = reinterpret_cast<const int8_t*>(rows) + (any ? 0 : layout.calm_codes) + p.first;
  const Panels w{static_cast<const uint8_t*>(p.panels) + panel * p.panel_stride, p.apart * p.panel_stride};
  const int64_t begin = p.first / 4, size = p.groups.size;
  constexpr int kColumns = 2 * P;
  Int32Lanes sum[R][kColumns];
  const int64_t tile_panel_stride = p.apart * kWidth;

  // What unsigned weights have beyond (code - zero point): 128, or their stored zero point; that times Σ code is what
  // their products are too large by. Weights with a sign have 128 less. Calm codes are less the code of 0 already.
  const auto sum_of = [&](int r, int64_t group) __attribute__((always_inline)) {
    auto code_sum = static_cast<uint32_t>(p.code_sums[(row + r) * p.code_sums_stride + group]);
    if (any || p.column_sums.sums == nullptr) return code_sum;
    const int64_t left = p.whole_depth - group * size, count = size != 0 && size < left ? size : left;
    return code_sum + static_cast<uint32_t>(p.column_sums.factor) * static_cast<uint32_t>(count);
  };
  const uint8_t* zeros = p.groups.zeros == nullptr ? nullptr : p.groups.zeros + panel * p.groups.panel_stride;
  const auto start = [&](int64_t group) __attribute__((always_inline)) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto too_large = static_cast<int32_t>(-128u * sum_of(r, group));
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; ++c) {
        sum[r][c] = reinterpret_cast<Int32Lanes>(_mm256_set1_epi32(way == Way::kSigns ? 0 : too_large));
      }
    }
    if (zeros != nullptr) {
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; ++c) {
        const Int32Lanes stored = wide_zeros(zeros + place(c, p.apart * p.groups.panel_stride)) - 128u;
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sum[r][c] -= stored * sum_of(r, group);
      }
    }
    if (!any || p.column_sums.sums == nullptr) return;
    const int32_t* columns = p.column_sums.sums + panel * p.column_sums.panel_stride + group * p.column_sums.stride;
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) {
      const int32_t* const of_column = columns + place(c, p.apart * p.column_sums.panel_stride);
      const Int32Lanes taken_off = load_lanes(of_column) * static_cast<uint32_t>(p.column_sums.factor);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r][c] += taken_off;
    }
  };
  if (size == 0) {
    int32_t* const tile = static_cast<int32_t*>(p.tile) + row * tile_stride + panel * kWidth;
    if (p.begins()) {
      start(0);
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; ++c) sum[r][c] = load_lanes(tile + r * tile_stride + place(c, tile_panel_stride));
      }
    }
    multiply<R, P>(way, w, codes, stride, p.depth, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      if (!any) outliers[r].add(w, begin, begin + (p.depth + 3) / 4, sum[r]);
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; ++c) store_lanes(tile + r * tile_stride + place(c, tile_panel_stride), sum[r][c]);
    }
    return;
  }
  float* const tile = static_cast<float*>(p.tile) + row * tile_stride + panel * kWidth;
  const float* scales = p.groups.scales + panel * p.groups.panel_stride;
  bool begins = p.begins();
  for (int64_t first = 0; first < p.depth; first += size, scales += p.groups.stride, begins = false) {
    if (first != 0 && zeros != nullptr) zeros += p.groups.stride;
    const int64_t depth = first + size < p.depth ? size : p.depth - first;
    start((p.first + first) / size);
    multiply<R, P>(way, {w.first + first * kWidth, w.stride}, codes + first, stride, depth, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      if (!any) outliers[r].add(w, begin, begin + (first + depth + 3) / 4, sum[r]);
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; ++c) {
        const float* const of_column = scales + place(c, p.apart * p.groups.panel_stride);
        add_scaled(sum[r][c], of_column, begins, tile + r * tile_stride + place(c, tile_panel_stride));
      }
    }
  }
}

}  // namespace

// kByteBlock k of a panel are 16 KB, of six rows 6 KB.
void product_w8a8(const Int8Product& p) {
  by_depth_blocks(
      p, kByteBlock, 8,
      {byte_tile<1, 1>, byte_tile<2, 1>, byte_tile<3, 1>, byte_tile<4, 1>, byte_tile<5, 1>, byte_tile<6, 1>},
      {byte_tile<1, 4>, byte_tile<2, 2>, byte_tile<3, 2>});
}

}  // namespace octet::cpu::avx2

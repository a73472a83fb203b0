// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/avx2/int8_lanes.h"
#include "octet/backend/cpu/avx2/products.h"

namespace octet::cpu::avx2 {
namespace {

// Nibbles: codes of activations are int8 and come in fours of k, and weights w are unsigned, as vpmaddubsw wants them.
// Its pair sums add up in two int16 lanes for each output, one of which meets the first and second of the fours, the
// other the third and fourth; then both are widened. A lane starts at -z · Σ of the codes that it will meet, so that
// what wraps around on the way comes back: it ends at Σ (w - z) · code. Of 32 k that is at most 16 · 15 · 127 = 30,480
// < 32,768; with the usual zero point, 8, and so |w - z| ≤ 8, even of 64 at most 32 · 8 · 127 = 32,512: exact.
constexpr int64_t kSymmetricBlock = 64, kShiftedBlock = 32;
static_assert(kNibbleSums == 32);

// Zero points of eight outputs, for both lanes of each.
inline Int16Lanes zero_points(const uint8_t* zeros) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros)));
  return reinterpret_cast<Int16Lanes>(_mm256_or_si256(wide, _mm256_slli_epi32(wide, 16)));
}

// The products with P panels at the next `depth` k of a block; `sums` are those of the first row.
template <int R, int P, Zero zero>
[[gnu::always_inline]] inline void multiply_nibbles(const uint8_t* w, int64_t panel_bytes,
                                                    const Int16Lanes (&zeros)[2 * P], const char* codes,
                                                    int64_t codes_stride, const int32_t* sums, int64_t sums_stride,
                                                    int64_t depth, Int16Lanes (&part)[R][2 * P]) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    Int16Lanes lanes{};
    if constexpr (zero != Zero::kNone) {
      lanes = reinterpret_cast<Int16Lanes>(four_bytes(reinterpret_cast<const char*>(sums + r * sums_stride)));
    }
#pragma GCC unroll 16
    for (int c = 0; c < 2 * P; ++c) part[r][c] = zero == Zero::kStored ? lanes * zeros[c] : lanes << 3;
  }
  if (zero == Zero::kEight && depth > kNibbleSums) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m256i lanes = four_bytes(reinterpret_cast<const char*>(sums + r * sums_stride + 1));
      part[r][0] += reinterpret_cast<Int16Lanes>(_mm256_slli_epi16(lanes, 3));
#pragma GCC unroll 16
      for (int c = 1; c < 2 * P; ++c) part[r][c] = part[r][0];
    }
  }
#pragma GCC unroll 1
  for (int64_t k = 0; k < depth; k += 4, w += 2 * kWidth) {
    const __m256i mask = _mm256_set1_epi8(15);
#pragma GCC unroll 16
    for (int panel = 0; panel < P; ++panel) {
      const __m256i word = load(w + panel * panel_bytes);
      const __m256i low = _mm256_and_si256(word, mask), high = _mm256_and_si256(_mm256_srli_epi16(word, 4), mask);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const __m256i a = four_bytes(codes + r * codes_stride + k);
        part[r][2 * panel] += reinterpret_cast<Int16Lanes>(_mm256_maddubs_epi16(low, a));
        part[r][2 * panel + 1] += reinterpret_cast<Int16Lanes>(_mm256_maddubs_epi16(high, a));
      }
    }
  }
}

template <int R, int P, Zero zero>
void nibble_tile(const DepthBlock& p, int64_t row, int64_t panel) {
  constexpr int64_t kBlock = zero == Zero::kEight ? kSymmetricBlock : kShiftedBlock;
  const char* codes = static_cast<const char*>(p.codes) + row * p.codes_stride + p.first;
  const int64_t codes_stride = p.codes_stride, tile_stride = p.tile_stride;
  const int32_t* code_sums = p.code_sums + row * p.code_sums_stride + p.first / kNibbleSums;
  const int64_t code_sums_stride = p.code_sums_stride;
  const int64_t panel_bytes = p.panel_stride / 2;
  const uint8_t* w = static_cast<const uint8_t*>(p.panels) + panel * panel_bytes;
  const int64_t size = p.groups.size != 0 ? p.groups.size : p.depth;
  float* const tile = static_cast<float*>(p.tile) + row * tile_stride + panel * kWidth;  // floats only in groups
  int64_t at = panel * p.groups.panel_stride;  // of the group's scales and zero points
  const float* group_sums = p.group_sums + row * p.group_sums_stride;
  const int64_t group_sums_stride = p.group_sums_stride;
  int64_t group = 0;
  bool begins = p.begins();
  const int64_t groups_stride = p.apart * p.groups.panel_stride, tile_panel_stride = p.apart * kWidth;

  for (int64_t first = 0; first < p.depth; first += size, at += p.groups.stride, ++group, begins = false) {
    const int64_t last = first + size < p.depth ? first + size : p.depth;
    const float* scales = p.groups.scales + at;
    const float* minima = zero == Zero::kNone ? p.groups.minima + at : nullptr;
    Int16Lanes zeros[2 * P] = {};
    if constexpr (zero == Zero::kStored) {
      for (int c = 0; c < 2 * P; ++c) zeros[c] = zero_points(p.groups.zeros + at + place(c, groups_stride));
    }
    // Sums of more than a block lie in memory, for the parts need the registers: in the tile itself if there they are
    // to stay.
    alignas(32) int32_t buffer[R * P * kWidth];
    int32_t* sums = buffer;
    int64_t sums_stride = P * kWidth, sums_panel_stride = kWidth;
    bool add = false;
    if (p.groups.size == 0) {
      sums = reinterpret_cast<int32_t*>(tile);
      sums_stride = tile_stride;
      sums_panel_stride = tile_panel_stride;
      add = !begins;
    }
    for (int64_t k = first; k < last; k += kBlock, add = true) {
      const int32_t* block_sums = code_sums + k / kNibbleSums;
      Int16Lanes part[R][2 * P];
      multiply_nibbles<R, P, zero>(w + k * (kWidth / 2), p.apart * panel_bytes, zeros, codes + k, codes_stride,
                                   block_sums, code_sums_stride, last - k < kBlock ? last - k : kBlock, part);
      // Which of four it is stands outside of the unrolled loops: a branch in them would push registers out.
      const bool ends = k + kBlock >= last && p.groups.size != 0;
      const auto for_sums = [&](auto visit) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
          for (int c = 0; c < 2 * P; ++c) {
            visit(r, c, widened(part[r][c]));
          }
        }
      };
      const auto add_to_tile = [&](int r, int c, Int32Lanes sum) __attribute__((always_inline)) {
        float* const t = tile + r * tile_stride + place(c, tile_panel_stride);
        if constexpr (zero == Zero::kNone) {
          add_scaled(sum, scales + place(c, groups_stride), minima + place(c, groups_stride),
                     group_sums[r * group_sums_stride + group], begins, t);
        } else {
          add_scaled(sum, scales + place(c, groups_stride), begins, t);
        }
      };
      if (ends && !add) {
        for_sums([&](int r, int c, Int32Lanes sum) __attribute__((always_inline)) { add_to_tile(r, c, sum); });
      } else if (ends) {
        for_sums([&](int r, int c, Int32Lanes sum) __attribute__((always_inline)) {
          sum += load_lanes(sums + r * sums_stride + place(c, sums_panel_stride));
          add_to_tile(r, c, sum);
        });
      } else if (add) {
        for_sums([&](int r, int c, Int32Lanes sum) __attribute__((always_inline)) {
          int32_t* const out = sums + r * sums_stride + place(c, sums_panel_stride);
          store_lanes(out, load_lanes(out) + sum);
        });
      } else {
        for_sums([&](int r, int c, Int32Lanes sum) __attribute__((always_inline)) {
          store_lanes(sums + r * sums_stride + place(c, sums_panel_stride), sum);
        });
      }
    }
  }
}

// 1024 k of a panel are 8 KB, of six rows 6 KB.
template <Zero zero>
void nibble_product(const Int8Product& p) {
  by_depth_blocks(p, 1024, 4,
                  {nibble_tile<1, 1, zero>, nibble_tile<2, 1, zero>, nibble_tile<3, 1, zero>, nibble_tile<4, 1, zero>,
                   nibble_tile<5, 1, zero>, nibble_tile<6, 1, zero>},
                  {nibble_tile<1, 4, zero>, nibble_tile<2, 2, zero>, nibble_tile<3, 2, zero>});
}

}  // namespace

void product_w4a8(const Int8Product& p) {
  if (p.groups.minima != nullptr) {
    nibble_product<Zero::kNone>(p);
  } else if (p.groups.zeros != nullptr) {
    nibble_product<Zero::kStored>(p);
  } else {
    nibble_product<Zero::kEight>(p);
  }
}

}  // namespace octet::cpu::avx2

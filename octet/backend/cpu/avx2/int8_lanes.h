// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "octet/backend/cpu/avx2/tiles.h"
#include "octet/backend/cpu/kernels.h"

// What the int8 products of bytes and of nibbles share.
namespace octet::cpu::avx2 {
namespace {

// Integers that wrap around. gcc 12 keeps accumulators in registers only as what they are: as __m256i it copies each in
// every step, and runs out of registers.
using Int16Lanes = uint16_t __attribute__((vector_size(32)));
using Int32Lanes = uint32_t __attribute__((vector_size(32)));

inline __m256i four_bytes(const void* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p)));
}
inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline Int32Lanes load_lanes(const int32_t* p) { return reinterpret_cast<Int32Lanes>(load(p)); }
inline void store_lanes(int32_t* p, Int32Lanes lanes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(lanes));
}

// Both int16 of each 32 bits added up.
inline Int32Lanes widened(Int16Lanes part) {
  return reinterpret_cast<Int32Lanes>(_mm256_madd_epi16(reinterpret_cast<__m256i>(part), _mm256_set1_epi16(1)));
}

// Where the sums of a group go: times its scales they are added to the tile.
inline void add_scaled(Int32Lanes sum, const float* scales, bool begins, float* tile) {
  const __m256 before = begins ? _mm256_setzero_ps() : _mm256_loadu_ps(tile);
  const __m256 sums = _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(sum));
  _mm256_storeu_ps(tile, _mm256_fmadd_ps(sums, _mm256_loadu_ps(scales), before));
}

// The same, and after it minimum · (the row's sum of the group).
inline void add_scaled(Int32Lanes sum, const float* scales, const float* minima, float row_sum, bool begins,
                       float* tile) {
  const __m256 before = begins ? _mm256_setzero_ps() : _mm256_loadu_ps(tile);
  const __m256 t = _mm256_fmadd_ps(_mm256_cvtepi32_ps(reinterpret_cast<__m256i>(sum)), _mm256_loadu_ps(scales), before);
  _mm256_storeu_ps(tile, _mm256_fmadd_ps(_mm256_loadu_ps(minima), _mm256_set1_ps(row_sum), t));
}

// The k of a product from `first` on, whole groups where there are any: as much as the L1 cache holds of a panel and of
// the rows of a tile. Panels, scales, zero points, minima and what they meet are those of the block; rows and all other
// sums of codes stay whole.
struct DepthBlock : Int8Product {
  int64_t first = 0;
  int64_t whole_depth = 0;
  int64_t apart = 1;                          // from a panel of a tile to its next
  bool begins() const { return first == 0; }  // else its sums are added to the tile's
};

// Few rows wait for their weights. They read several panels side by side, for one stream of lines leaves the memory
// idle. Each is read to its end, and what a stream reads next is the panel that follows it in memory, for every leap to
// another place stops the processor's own prefetching: so the panels of a tile lie as far apart as may be.
constexpr int64_t kFewRows = 3;
constexpr int64_t kPanelsAtOnce[kFewRows] = {4, 2, 2};  // by rows: as many as accumulators have registers

// Visits blocks of `depth` k, a multiple of all sizes of groups but those that are longer.
template <class Visit>
void for_depth_blocks(const Int8Product& p, int64_t depth, int bits, int64_t apart, Visit visit) {
  const int64_t size = p.groups.size;
  if (depth < size) depth = size;
  for (int64_t first = 0, group = 0; first < p.depth; first += depth, group += size != 0 ? depth / size : 0) {
    DepthBlock block{p, first, p.depth, apart};
    block.depth = first + depth < p.depth ? depth : p.depth - first;
    block.panels = static_cast<const char*>(p.panels) + first * kWidth * bits / 8;
    if (size != 0) block.groups.scales += group * p.groups.stride;
    if (p.groups.zeros != nullptr) block.groups.zeros += group * p.groups.stride;
    if (p.groups.minima != nullptr) {
      block.groups.minima += group * p.groups.stride;
      block.group_sums += group;
    }
    visit(block);
  }
}

// `tiles` take a panel; `wide` ones as many as kPanelsAtOnce says.
inline void by_depth_blocks(const Int8Product& p, int64_t depth, int bits, const Tile<DepthBlock> (&tiles)[kRows],
                            const Tile<DepthBlock> (&wide)[kFewRows]) {
  if (p.rows > kFewRows) {
    for_depth_blocks(p, depth, bits, 1, [&](const DepthBlock& block) { by_tiles<DepthBlock>(block, tiles); });
    return;
  }
  const int64_t at_once = kPanelsAtOnce[p.rows - 1], apart = p.panel_count / at_once;
  for (int64_t panel = 0; panel < apart; ++panel) {
    for_depth_blocks(p, depth, bits, apart, [&](const DepthBlock& block) { wide[p.rows - 1](block, 0, panel); });
  }
  for (int64_t panel = apart * at_once; panel < p.panel_count; ++panel) {
    for_depth_blocks(p, depth, bits, 1, [&](const DepthBlock& block) { tiles[p.rows - 1](block, 0, panel); });
  }
}

}  // namespace
}  // namespace octet::cpu::avx2

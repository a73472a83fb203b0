// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>

#include "octet/backend/cpu/kernels.h"

namespace octet::cpu {

/// fp32 panels, laid out as KernelTable::pack_columns and pack_rows do; of each the first `depth` of `laid_depth` k.
struct FloatPanels {
  const float* data = nullptr;
  int64_t depth = 0;
  int64_t count = 0;
  int64_t laid_depth = depth;
};

inline int64_t panels_of(const KernelTable& table, int64_t outputs) {
  return (outputs + table.panel_width - 1) / table.panel_width;
}
/// Floats that panels of so many outputs take.
inline int64_t panel_floats(const KernelTable& table, int64_t outputs, int64_t depth) {
  return panels_of(table, outputs) * table.panel_width * depth;
}

/// tile[r][c] = Σ_k x(r, k) · panels(k, c), or on from what the tile holds, k ascending: block by block of k, so that a
/// panel's is in the L1 cache while rows go through it. x_block(k, count, &stride) gives the rows' [rows][count] from k
/// on. At most KernelTable::row_block rows.
template <class XBlock>
void multiply_panels(const KernelTable& table, int64_t rows, const FloatPanels& panels, bool goes_on, XBlock x_block,
                     float* tile, int64_t tile_stride) {
  FloatProduct product;
  product.rows = rows;
  product.panel_stride = panels.laid_depth * table.panel_width;
  product.tile_stride = tile_stride;
  for (int64_t k = 0; k < panels.depth; k += table.k_block) {
    product.depth = std::min<int64_t>(table.k_block, panels.depth - k);
    product.start = k > 0 || goes_on ? Start::kFromTile : Start::kFromZero;
    product.x = x_block(k, product.depth, product.x_stride);
    for (int64_t panel = 0; panel < panels.count; panel += table.tile_panels) {
      product.panels = panels.data + (panel * panels.laid_depth + k) * table.panel_width;
      product.panel_count = std::min<int64_t>(table.tile_panels, panels.count - panel);
      product.tile = tile + panel * table.panel_width;
      table.product_f32(product);
    }
  }
}

/// to[c][r] = from[r][c]: four by four where that fits, in blocks whose lines stay in the cache.
inline void turn(const float* from, int64_t from_stride, int64_t rows, int64_t cols, float* to, int64_t to_stride) {
  using Four [[gnu::vector_size(16)]] = float;
  const auto load = [](const float* p) {
    Four out;
    std::memcpy(&out, p, sizeof(out));
    return out;
  };
  const auto store = [](Four v, float* p) { std::memcpy(p, &v, sizeof(v)); };
  const int64_t whole_rows = rows / 4 * 4, whole_cols = cols / 4 * 4;
  constexpr int64_t kBlock = 16;
  for (int64_t block = 0; block < whole_rows; block += kBlock) {
    for (int64_t c = 0; c < whole_cols; c += 4) {
      for (int64_t r = block; r < std::min(block + kBlock, whole_rows); r += 4) {
        const float* const x = from + r * from_stride + c;
        const Four a = load(x), b = load(x + from_stride), d = load(x + 2 * from_stride), e = load(x + 3 * from_stride);
        const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), de = __builtin_shufflevector(d, e, 0, 4, 1, 5);
        const Four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), de2 = __builtin_shufflevector(d, e, 2, 6, 3, 7);
        float* const y = to + c * to_stride + r;
        store(__builtin_shufflevector(ab, de, 0, 1, 4, 5), y);
        store(__builtin_shufflevector(ab, de, 2, 3, 6, 7), y + to_stride);
        store(__builtin_shufflevector(ab2, de2, 0, 1, 4, 5), y + 2 * to_stride);
        store(__builtin_shufflevector(ab2, de2, 2, 3, 6, 7), y + 3 * to_stride);
      }
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

}  // namespace octet::cpu

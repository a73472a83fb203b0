// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// How both kinds of products of avx512_vnni are cut into tiles. "GCC unroll" as in avx2/tiles.h.
namespace octet::cpu::avx512 {
namespace {

constexpr int64_t kWidth = 16;  // outputs of a panel: one register
constexpr int64_t kRows = 14;   // rows of a tile by two panels: 28 accumulators, two of weights and a broadcast of 32

// Rows in groups of at most fourteen and nearly the same size.
struct RowGroups {
  int64_t count, size, larger;  // the first `larger` groups have one row more

  explicit RowGroups(int64_t rows) : count((rows + kRows - 1) / kRows), size(rows / count), larger(rows % count) {}
  int64_t rows_of(int64_t group) const { return size + (group < larger ? 1 : 0); }
};

template <class Product>
using Tile = void (*)(const Product&, int64_t row, int64_t panel);

// All panels by all rows, the rows within the panels: `pair` takes two panels, `single` the last one; [R - 1] R rows.
template <class Product>
void by_tiles(const Product& p, const Tile<Product> (&pair)[kRows], const Tile<Product> (&single)[kRows]) {
  const RowGroups groups(p.rows);
  for (int64_t panel = 0; panel < p.panel_count; panel += 2) {
    const Tile<Product>* tiles = panel + 1 < p.panel_count ? pair : single;
    for (int64_t group = 0, row = 0; group < groups.count; row += groups.rows_of(group), ++group) {
      tiles[groups.rows_of(group) - 1](p, row, panel);
    }
  }
}

// At most three rows, by several panels at once and the last panels one by one.
template <class Product>
void by_wide_tiles(const Product& p, Tile<Product> wide, int64_t panels, Tile<Product> single) {
  int64_t panel = 0;
  for (; panel + panels <= p.panel_count; panel += panels) wide(p, 0, panel);
  for (; panel < p.panel_count; ++panel) single(p, 0, panel);
}

}  // namespace
}  // namespace octet::cpu::avx512

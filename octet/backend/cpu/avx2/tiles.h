// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// How both kinds of products of avx2 are cut into tiles.
namespace octet::cpu::avx2 {
namespace {

constexpr int64_t kWidth = 16;  // outputs of a panel: two registers
constexpr int64_t kRows = 6;    // rows of a tile: 12 accumulators, leaving four registers for the operands

// Where eight outputs lie, c counting through a tile's panels, which are `panel_stride` apart.
[[gnu::always_inline]] inline int64_t place(int c, int64_t panel_stride) {
  return (c / 2) * panel_stride + 8 * (c % 2);
}

// What is taken off a nibble: 8, a zero point, or nothing where there are minima.
enum class Zero { kEight, kStored, kNone };

// Loops over a tile carry "GCC unroll" (clang knows it too): only when they are unrolled before it splits arrays into
// registers does gcc 12 keep the accumulators there; it stored all twelve in each step otherwise, at 40 % of the speed.

// Rows in groups of at most six and nearly the same size: 7 is 4 + 3, not 6 + 1, because few rows wait for latency.
struct RowGroups {
  int64_t count, size, larger;  // the first `larger` groups have one row more

  explicit RowGroups(int64_t rows) : count((rows + kRows - 1) / kRows), size(rows / count), larger(rows % count) {}
  int64_t rows_of(int64_t group) const { return size + (group < larger ? 1 : 0); }
};

template <class Product>
using Tile = void (*)(const Product&, int64_t row, int64_t panel);

// All panels by all rows, the rows within the panels; tiles[R - 1] takes R rows.
template <class Product>
void by_tiles(const Product& p, const Tile<Product> (&tiles)[kRows]) {
  const RowGroups groups(p.rows);
  for (int64_t panel = 0; panel < p.panel_count; ++panel) {
    for (int64_t group = 0, row = 0; group < groups.count; row += groups.rows_of(group), ++group) {
      tiles[groups.rows_of(group) - 1](p, row, panel);
    }
  }
}

}  // namespace
}  // namespace octet::cpu::avx2

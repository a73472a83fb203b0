// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/backend/cpu/operations.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

// A task takes one head of one sequence (or a part of its query rows), lays K and V out as panels once, and goes
// through the rows in strips whose scores stay in the L2 cache.
namespace octet::cpu {
namespace {

// Scores of a strip: 65,536 fp32 are 256 KB. At least six rows, which is what a tile of the product has.
constexpr int64_t kStripScores = 65'536;
constexpr int64_t kFewestRows = 6, kMostRows = 48;

}  // namespace

int64_t kv_bytes(const KernelTable& table, DType dtype, int64_t heads, int64_t head_width) {
  if (dtype != DType::kF32 && dtype != DType::kF16) fail("a cache of {}; F32 or F16 is needed", name(dtype));
  // Keys in panels of tokens, values in panels of columns, which may need padding.
  const int64_t columns = checked_add(head_width, round_up(head_width, table.panel_width));
  return checked_mul(checked_mul(heads, columns), kKvBlockTokens * byte_size(dtype));
}

void attention(const KernelTable& table, Workspace& workspace, const AttentionOp& op) {
  const int64_t rows = op.q.rows, head_width = op.head_width;
  if (op.heads < 1 || head_width < 1) fail<ShapeError>("attention: {} heads of width {}", op.heads, head_width);
  const int64_t width = checked_mul(op.heads, head_width);
  check_shape(op.q, rows, width, "attention: q");
  check_shape(op.k, rows, width, "attention: k");
  check_shape(op.v, rows, width, "attention: v");
  check_shape(op.y, rows, width, "attention: y");
  const int64_t longest = check_offsets(op.offsets, op.sequences, rows);
  if (longest == 0) return;
  const int32_t* offsets = int32s(op.offsets);

  const int64_t panel = table.panel_width;
  const int64_t key_stride = panel * head_width;
  // Room for whole panels, and for the blocks of sixteen that softmax works in.
  const int64_t score_stride = round_up(longest, std::max<int64_t>(panel, 16));
  const int64_t strip = std::clamp(kStripScores / score_stride, kFewestRows, kMostRows);
  const int64_t value_panels = (head_width + panel - 1) / panel;

  Layout layout;
  const auto key_panels = layout.add<float>(score_stride * head_width);
  const auto value_part = layout.add<float>(value_panels * panel * longest);
  const auto score_part = layout.add<float>(strip * score_stride);
  const auto output_part = layout.add<float>(strip * value_panels * panel);
  const auto inverse_part = layout.add<float>(strip);
  workspace.reserve({}, layout);

  // Whole heads if they keep all threads busy, else parts of whole strips.
  const int threads = threads_for(checked_mul(2 * width, checked_mul(rows, longest)), workspace.threads());
  const int64_t heads = op.sequences * op.heads;
  const int64_t wanted = threads == 1 ? 1 : (4 * threads + heads - 1) / heads;
  const int64_t part_rows = round_up((longest + wanted - 1) / wanted, strip);
  const int64_t parts = (longest + part_rows - 1) / part_rows;

  parallel_for(threads, heads * parts, [&](int64_t task, int worker) {
    const int64_t sequence = task / (op.heads * parts), head = task / parts % op.heads;
    const int64_t first = offsets[sequence], length = offsets[sequence + 1] - first;
    const int64_t begin = task % parts * part_rows, end = std::min(length, begin + part_rows);
    if (begin >= end) return;
    std::byte* const memory = workspace.worker(worker);
    const auto head_of = [&](const Activation& x, int64_t row) {
      return data(x) + (first + row) * x.stride + head * head_width;
    };

    float *const keys = key_panels.in(memory), *const values = value_part.in(memory);
    table.pack_rows({head_of(op.k, 0), op.k.stride, length, head_width, keys});
    table.pack_columns({head_of(op.v, 0), op.v.stride, length, head_width, values});
    float *const scores = score_part.in(memory), *const output = output_part.in(memory);
    float* const inverse_sums = inverse_part.in(memory);

    for (int64_t row = begin; row < end; row += strip) {
      const int64_t count = std::min(strip, end - row);
      FloatProduct product;
      product.x = head_of(op.q, row);
      product.x_stride = op.q.stride;
      product.rows = count;
      product.depth = head_width;
      product.panels = keys;
      product.panel_stride = key_stride;
      product.panel_count = (length + panel - 1) / panel;
      product.tile = scores;
      product.tile_stride = score_stride;
      table.product_f32(product);

      table.softmax({scores, score_stride, count, length, op.scale, inverse_sums});

      product.x = scores;
      product.x_stride = score_stride;
      product.depth = length;
      product.panels = values;
      product.panel_stride = panel * length;
      product.panel_count = value_panels;
      product.tile = output;
      product.tile_stride = value_panels * panel;
      table.product_f32(product);
      for (int64_t i = 0; i < count; ++i) {
        table.scale(output + i * product.tile_stride, head_width, inverse_sums[i], head_of(op.y, row + i));
      }
    }
  });
}

}  // namespace octet::cpu

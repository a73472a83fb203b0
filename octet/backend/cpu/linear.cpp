// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "octet/backend/cpu/code_writer.h"
#include "octet/backend/cpu/group_sums.h"
#include "octet/backend/cpu/packed_weight.h"
#include "octet/backend/cpu/quantized_rows.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

// y = nonlinearity(x · Wᵀ + bias) + residual in tiles: a task takes a block of rows and a block of panels; within it
// each group of panels meets all the rows while it is in the L1 cache, and the finished tile goes out to y.
namespace octet::cpu {
namespace {

// From here on it pays to widen a panel once instead of in each tile.
constexpr int64_t kRowsToWiden = 16;

struct Grid {
  int64_t row_block, row_blocks;      // rows of a task, and how many such blocks
  int64_t panel_block, panel_blocks;  // panels of a task
  int64_t group;                      // panels that a product takes at once
  int threads;

  Grid(const KernelTable& table, const CpuWeight& weight, int64_t rows, int available) {
    threads = threads_for(rows * weight.rows() * weight.cols(), available);
    row_block = std::min<int64_t>(rows, table.row_block);
    row_blocks = (rows + row_block - 1) / row_block;
    const int64_t panels = weight.panel_count();
    group = std::min<int64_t>(panels, rows <= 3 ? panels_for_few_rows(table, panels) : table.tile_panels);
    const int64_t groups = (panels + group - 1) / group;
    // Blocks as large as the cache allows, but at least four tasks a thread, so that the last to finish is not late.
    const int64_t wanted = threads == 1 ? 1 : (4 * threads + row_blocks - 1) / row_blocks;
    const int64_t by_cache = (panels * weight.panel_bytes() + kPanelBytes - 1) / kPanelBytes;
    const int64_t blocks = std::clamp<int64_t>(std::max(wanted, by_cache), 1, groups);
    panel_block = (groups + blocks - 1) / blocks * group;
    panel_blocks = (panels + panel_block - 1) / panel_block;
  }

  int64_t tasks() const { return row_blocks * panel_blocks; }

 private:
  // All panels of a task together, so that a product may read them in long streams; up to where a tile fills some KB.
  int64_t panels_for_few_rows(const KernelTable& table, int64_t panels) const {
    const int64_t of_task = threads == 1 ? panels : panels / (4 * threads);
    return std::clamp<int64_t>(of_task / table.wide_panels, 1, kMostWide / table.wide_panels) * table.wide_panels;
  }
  static constexpr int64_t kMostWide = 32;
};

// A block of rows and a block of panels of the product. Blocks of panels are the outer loop: tasks that follow each
// other share panels.
struct Task {
  int64_t first_row, rows, first_panel, last_panel;

  Task(const Grid& grid, const LinearOp& op, int64_t index)
      : first_row(index % grid.row_blocks * grid.row_block),
        rows(std::min(grid.row_block, op.x.rows - first_row)),
        first_panel(index / grid.row_blocks * grid.panel_block),
        last_panel(first_panel + grid.panel_block) {}
};

Finish finish_of(const LinearOp& op, const CpuWeight& weight, const Task& task, int64_t panel, int64_t panels,
                 const CodeWriter& writer, std::byte* memory) {
  const int64_t width = weight.table().panel_width, first = panel * width;
  Finish f;
  f.tile_stride = panels * width;
  f.rows = task.rows;
  f.cols = std::min(panels * width, weight.rows() - first);
  const Groups groups = weight.groups(panel, 0);  // one an output, if Finish is to apply them
  f.weight_scales = groups.scales;
  f.weight_minima = groups.minima;
  if (!op.bias.empty()) f.bias = floats(op.bias) + first;
  f.nonlinearity = op.nonlinearity;
  if (op.residual) {
    f.residual = data(*op.residual) + task.first_row * op.residual->stride + first;
    f.residual_stride = op.residual->stride;
  }
  const CodeWriter::Floats y = writer.floats(task.first_row, first, memory);
  f.y = y.data;
  f.y_stride = y.stride;
  return f;
}

// Asks for what Finish will touch, each row's part far from the next one's, so that it has come when the product is
// done. Inline, because gcc 12 leaves out calls of a function that only prefetches: to it that has no effect.
[[gnu::always_inline]] inline void prefetch(const Finish& f) {
  constexpr int64_t kLine = 64 / sizeof(float);
  for (int64_t r = 0; r < f.rows; ++r) {
    for (int64_t c = 0; c < f.cols; c += kLine) {
      __builtin_prefetch(f.y + r * f.y_stride + c, 1);
      if (f.residual != nullptr) __builtin_prefetch(f.residual + r * f.residual_stride + c);
    }
  }
}

// Rows [first, first + count) of x normalized.
void normalize(const KernelTable& table, const LinearOp& op, int64_t first, int64_t count, float* y, int64_t y_stride) {
  const NormalizeRows& how = *op.normalize;
  const float* x = data(op.x) + first * op.x.stride;
  if (how.beta.empty()) {
    table.rms_norm({x, op.x.stride, count, op.x.cols, floats(how.gamma), how.eps, y, y_stride});
  } else {
    table.layer_norm({x, op.x.stride, count, op.x.cols, floats(how.gamma), floats(how.beta), how.eps, y, y_stride});
  }
}

// A row in the order of a weight's columns.
template <class T>
void gather(const T* x, std::span<const int32_t> order, T* y) {
  std::ranges::transform(order, y, [x](int32_t column) { return x[column]; });
}

// Some numbers of a row to y, and zeros in their place in `rest`.
void take_out(std::span<const int32_t> columns, float* rest, float* y) {
  for (const int32_t column : columns) *y++ = std::exchange(rest[column], 0.0f);
}

// What 16-bit columns of a weight give a tile: bias, or 0, then fma(x, w, …) over ascending columns. It enters Finish
// as the bias of each row.
class OutlierTile {
 public:
  OutlierTile(const KernelTable& table, const CpuWeight& weight, const Grid& grid, Layout& worker)
      : weight_(weight.outliers()),
        columns_(weight.outlier_columns()),
        tile_(worker.add<float>(weight_ == nullptr ? 0 : grid.row_block * grid.group * table.panel_width)) {}

  bool empty() const noexcept { return columns_.empty(); }
  std::span<const int32_t> columns() const noexcept { return columns_; }
  int64_t count() const noexcept { return std::ssize(columns_); }

  // Of the rows x [finish.rows, count()].
  void add_to(Finish& finish, const float* x, int64_t panel, int64_t panels, std::byte* memory) const {
    float* const tile = tile_.in(memory);
    for (int64_t r = 0; r < finish.rows; ++r) {
      float* const row = tile + r * finish.tile_stride;
      std::fill_n(row, finish.tile_stride, 0.0f);
      if (finish.bias != nullptr) std::copy_n(finish.bias, finish.cols, row);
    }
    FloatProduct product;
    product.x = x;
    product.x_stride = count();
    product.rows = finish.rows;
    product.depth = count();
    product.panels = weight_->panels(panel, 0);
    product.panel_stride = weight_->panel_stride();
    product.panel_count = panels;
    product.tile = tile;
    product.tile_stride = finish.tile_stride;
    product.start = Start::kFromTile;
    weight_->float_kernels()->product(product);
    finish.bias = tile;
    finish.bias_stride = finish.tile_stride;
  }

 private:
  const CpuWeight* weight_;  // of 16-bit floats
  std::span<const int32_t> columns_;
  Layout::Part<float> tile_;
};

// Calls body(first, count, worker) for blocks of rows.
template <class Body>
void for_row_blocks(int threads, int64_t rows, int64_t depth, Body body) {
  const int64_t block = std::min(rows_per_task(depth), rows), blocks = (rows + block - 1) / block;
  parallel_for(threads, blocks,
               [&](int64_t index, int worker) { body(index * block, std::min(block, rows - index * block), worker); });
}

// fp32 activations, by fp32 weights or by narrower ones that are widened: in each tile, or once for many rows.
Faults float_linear(const KernelTable& table, Workspace& workspace, const LinearOp& op, const CpuWeight& weight) {
  const Grid grid(table, weight, op.x.rows, workspace.threads());
  const int64_t width = table.panel_width, depth = weight.cols(), group = weight.scheme().group_size;
  const FloatKernels* narrow = weight.float_kernels();  // null: the weight is fp32
  // Whole groups; group sizes are powers of two, and no larger than this.
  const int64_t k_block = std::min<int64_t>(depth, group == 0 ? table.k_block : table.k_block / group * group);

  Layout shared, layout;
  const bool minima = weight.scheme().mapping == CodeMapping::kMinimum;
  const int64_t sum_count = minima ? weight.scheme().groups(depth) : 0;
  const auto sums = shared.add<float>(op.x.rows * sum_count);
  const auto tile = layout.add<float>(grid.row_block * grid.group * width);
  const bool widens = narrow != nullptr && grid.row_block >= kRowsToWiden;
  const auto widened = layout.add<float>(widens ? grid.group * width * k_block : 0);
  const auto normalized = shared.add<float>(op.normalize && !op.normalize->y ? op.x.rows * depth : 0);
  const std::span<const int32_t> order = weight.column_order();
  const auto ordered = shared.add<float>(order.empty() ? 0 : op.x.rows * depth);
  const OutlierTile outliers(table, weight, grid, layout);
  const auto outlier_rows = shared.add<float>(op.x.rows * outliers.count());
  const auto cleared = shared.add<float>(outliers.empty() ? 0 : op.x.rows * depth);
  CodeWriter writer(table, op.y, grid.row_block, grid.group * width, layout);
  workspace.reserve(shared, layout);

  const float* x = data(op.x);
  int64_t x_stride = op.x.stride;
  if (op.normalize) {
    float* const y = op.normalize->y ? data(*op.normalize->y) : normalized.in(workspace.shared());
    const int64_t y_stride = op.normalize->y ? op.normalize->y->stride : depth;
    for_row_blocks(grid.threads, op.x.rows, depth, [&](int64_t first, int64_t count, int) {
      normalize(table, op, first, count, y + first * y_stride, y_stride);
    });
    x = y;
    x_stride = y_stride;
  }
  float* const taken = outlier_rows.in(workspace.shared());
  if (!outliers.empty()) {
    float* const y = cleared.in(workspace.shared());
    for_row_blocks(grid.threads, op.x.rows, depth, [&](int64_t first, int64_t count, int) {
      for (int64_t r = first; r < first + count; ++r) {
        std::copy_n(x + r * x_stride, depth, y + r * depth);
        take_out(outliers.columns(), y + r * depth, taken + r * outliers.count());
      }
    });
    x = y;
    x_stride = depth;
  }
  if (!order.empty()) {
    float* const y = ordered.in(workspace.shared());
    for_row_blocks(grid.threads, op.x.rows, depth, [&](int64_t first, int64_t count, int) {
      for (int64_t r = first; r < first + count; ++r) gather(x + r * x_stride, order, y + r * depth);
    });
    x = y;
    x_stride = depth;
  }
  float* const group_sums = sums.in(workspace.shared());
  if (minima) {
    for_row_blocks(grid.threads, op.x.rows, depth, [&](int64_t first, int64_t count, int) {
      sum_groups(x + first * x_stride, x_stride, count, depth, depth / sum_count, group_sums + first * sum_count);
    });
  }

  parallel_for(grid.threads, grid.tasks(), [&](int64_t index, int worker) {
    std::byte* memory = workspace.worker(worker);
    const Task task(grid, op, index);
    const int64_t last = std::min(task.last_panel, weight.panel_count());
    const bool widen = narrow != nullptr && task.rows >= kRowsToWiden;
    // A panel that meets few rows passes once whatever its length.
    const int64_t step = widen || task.rows > 3 ? k_block : depth;
    for (int64_t panel = task.first_panel; panel < last; panel += grid.group) {
      const int64_t panels = std::min(grid.group, last - panel);
      Finish finish = finish_of(op, weight, task, panel, panels, writer, memory);
      prefetch(finish);
      FloatProduct product;
      product.x_stride = x_stride;
      product.rows = task.rows;
      product.panel_count = panels;
      product.tile = tile.in(memory);
      product.tile_stride = panels * width;
      product.group_sums_stride = sum_count;
      for (int64_t k = 0; k < depth; k += step) {
        product.x = x + task.first_row * x_stride + k;
        product.depth = std::min(step, depth - k);
        product.start = k == 0 ? Start::kFromZero : Start::kFromTile;
        product.groups = weight.groups(panel, k);
        product.group_sums = group_sums + task.first_row * sum_count + (minima && group != 0 ? k / group : 0);
        product.panels = weight.panels(panel, k);
        product.panel_stride = weight.panel_stride();
        if (widen) {
          const int64_t count = product.depth * width;
          float* const out = widened.in(memory);
          for (int64_t i = 0; i < panels; ++i) {
            narrow->widen({weight.panels(panel + i, k), product.depth, weight.groups(panel + i, k), out + i * count});
          }
          product.panels = out;
          product.panel_stride = count;
        }
        if (widen || narrow == nullptr) {
          table.product_f32(product);
        } else {
          narrow->product(product);
        }
      }
      finish.tile = product.tile;
      finish.rescale = weight.is_float() || group != 0 ? Rescale::kNone
                       : minima                        ? Rescale::kWeightMinimum
                                                       : Rescale::kWeight;
      finish.sums = group_sums + task.first_row * sum_count;
      if (!outliers.empty()) outliers.add_to(finish, taken + task.first_row * outliers.count(), panel, panels, memory);
      table.finish(finish);
      writer.write(task.first_row, task.rows, panel * width, finish.cols, memory);
    }
  });
  return {.output = writer.fault()};
}

class Int8Linear {
 public:
  Int8Linear(const KernelTable& table, Workspace& workspace, const LinearOp& op, const CpuWeight& weight)
      : table_(table),
        workspace_(workspace),
        op_(op),
        weight_(weight),
        kernels_(weight.scheme().bits == 4 ? table.w4a8 : table.w8a8),
        depth_(weight.cols()),
        group_(weight.sum_depth()),
        grid_(table, weight, op.x.rows, workspace.threads()),
        // Where tasks share rows, each row is quantized once, before them; else by the task that multiplies it.
        ahead_(grid_.panel_blocks > 1),
        rows_(kernels_, ahead_ ? op.x.rows : grid_.row_block, depth_, group_,
              weight.scheme().mapping == CodeMapping::kMinimum, ahead_ ? shared_ : worker_),
        normalized_(worker_.add<float>(op.normalize && !op.normalize->y ? depth_ : 0)),
        outliers_(table, weight, grid_, worker_),
        outlier_rows_(
            (ahead_ ? shared_ : worker_).add<float>((ahead_ ? op.x.rows : grid_.row_block) * outliers_.count())),
        cleared_(worker_.add<float>(outliers_.empty() ? 0 : depth_)),
        ordered_(worker_.add<float>(std::ssize(weight.column_order()))),
        tile_(worker_.add<int32_t>(grid_.row_block * grid_.group * table_.panel_width)),
        writer_(table, op.y, grid_.row_block, grid_.group * table_.panel_width, worker_) {}

  Faults run() {
    workspace_.reserve(shared_, worker_);
    if (ahead_) {
      for_row_blocks(grid_.threads, op_.x.rows, depth_, [&](int64_t first, int64_t count, int worker) {
        quantize(first, count, worker, workspace_.shared(), first);
      });
    }
    parallel_for(grid_.threads, grid_.tasks(), [&](int64_t index, int worker) { multiply(index, worker); });
    return {.input = lowest_.get(), .output = writer_.fault()};
  }

 private:
  // Rows [first, first + count) of x into places [place, place + count) of the codes at `memory`.
  void quantize(int64_t first, int64_t count, int worker, std::byte* memory, int64_t place) {
    const ActivationMode mode = weight_.activations();
    const std::span<const int32_t> order = weight_.column_order();
    float* const ordered = ordered_.in(workspace_.worker(worker));
    for (int64_t i = 0; i < count; ++i) {
      std::byte* codes = rows_.codes.in(memory) + (place + i) * rows_.stride;
      int32_t* sums = rows_.sums.in(memory) + (place + i) * rows_.sum_count;
      float* group_sums = rows_.group_sums.in(memory) + (place + i) * rows_.group_count;
      if (op_.x.codes) {
        rows_.scales.in(memory)[place + i] = op_.input.scale;
        const auto* given = reinterpret_cast<const int8_t*>(op_.x.memory.address() + (first + i) * op_.x.stride);
        if (!order.empty()) {
          auto* const to = reinterpret_cast<int8_t*>(ordered);
          gather(given, order, to);
          given = to;
        }
        kernels_.arrange({given, depth_, codes, rows_.step, sums, static_row(op_.x.codes->mode, op_.input).offset});
        sum_groups_of(codes, group_sums);
        continue;
      }
      const float* x = data(op_.x) + (first + i) * op_.x.stride;
      if (op_.normalize) {
        float* const y = op_.normalize->y ? data(*op_.normalize->y) + (first + i) * op_.normalize->y->stride
                                          : normalized_.in(workspace_.worker(worker));
        normalize(table_, op_, first + i, 1, y, depth_);
        x = y;
      }
      if (!outliers_.empty()) x = take_outliers(x, outlier_rows_.in(memory) + (place + i) * outliers_.count(), worker);
      if (!order.empty()) {
        gather(x, order, ordered);
        x = ordered;
      }
      if (!rows_.quantize(table_, mode, op_.input, x, memory, place + i)) {
        lowest_.add(first + i);
        std::fill_n(group_sums, rows_.group_count, 0.0f);
        continue;
      }
      sum_groups_of(codes, group_sums);
    }
  }

  // What is left of a row for codes. A row whose outliers are not finite stays whole, so that it has none.
  const float* take_outliers(const float* x, float* taken, int worker) const {
    float* const rest = cleared_.in(workspace_.worker(worker));
    std::copy_n(x, depth_, rest);
    take_out(outliers_.columns(), rest, taken);
    return std::isfinite(std::bit_cast<float>(table_.absmax_bits(taken, outliers_.count()))) ? rest : x;
  }

  // What minima meet of a row, if the weight has any.
  void sum_groups_of(const std::byte* codes, float* group_sums) const {
    if (rows_.group_count == 0) return;
    sum_codes(reinterpret_cast<const int8_t*>(codes), depth_, group_ == 0 ? depth_ : group_, group_sums);
  }

  void multiply(int64_t index, int worker) {
    std::byte* const memory = workspace_.worker(worker);
    const Task task(grid_, op_, index);
    const int64_t last = std::min(task.last_panel, weight_.panel_count());
    if (!ahead_) quantize(task.first_row, task.rows, worker, memory, 0);
    std::byte* const quantized = ahead_ ? workspace_.shared() : memory;
    const int64_t place = ahead_ ? task.first_row : 0;

    for (int64_t panel = task.first_panel; panel < last; panel += grid_.group) {
      const int64_t panels = std::min(grid_.group, last - panel);
      Finish finish = finish_of(op_, weight_, task, panel, panels, writer_, memory);
      prefetch(finish);
      Int8Product product;
      product.codes = rows_.codes.in(quantized) + place * rows_.stride;
      product.codes_stride = rows_.stride;
      product.code_sums = rows_.sums.in(quantized) + place * rows_.sum_count;
      product.code_sums_stride = rows_.sum_count;
      product.rows = task.rows;
      product.depth = depth_;
      product.panels = weight_.panels(panel, 0);
      product.panel_stride = weight_.panel_stride();
      product.panel_count = panels;
      product.tile = tile_.in(memory);
      product.tile_stride = finish.tile_stride;
      product.groups = weight_.groups(panel, 0);
      product.groups.size = group_;
      product.group_sums = rows_.group_sums.in(quantized) + place * rows_.group_count;
      product.group_sums_stride = rows_.group_count;
      product.column_sums = weight_.column_sums(panel, kUint8Offset - op_.input.zero_point);
      product.lowest_codes = weight_.holds_lowest_codes();
      kernels_.product(product);
      finish.tile = product.tile;
      finish.activation_scales = rows_.scales.in(quantized) + place;
      finish.sums = product.group_sums;
      finish.rescale = group_ != 0              ? Rescale::kActivation
                       : rows_.group_count != 0 ? Rescale::kBothMinimum
                                                : Rescale::kBoth;
      if (!outliers_.empty()) {
        outliers_.add_to(finish, outlier_rows_.in(quantized) + place * outliers_.count(), panel, panels, memory);
      }
      table_.finish(finish);
      writer_.write(task.first_row, task.rows, panel * table_.panel_width, finish.cols, memory);
    }
  }

  const KernelTable& table_;
  Workspace& workspace_;
  const LinearOp& op_;
  const CpuWeight& weight_;
  const Int8Kernels& kernels_;
  int64_t depth_;
  int64_t group_;  // k of a sum that is rescaled by itself; 0: all
  Grid grid_;
  bool ahead_;
  Layout shared_, worker_;
  QuantizedRows rows_;
  Layout::Part<float> normalized_;  // one row
  OutlierTile outliers_;
  Layout::Part<float> outlier_rows_;  // as many as rows_
  Layout::Part<float> cleared_;       // one row
  Layout::Part<float> ordered_;       // one row, of floats or of codes
  Layout::Part<int32_t> tile_;        // or floats, if sums are rescaled by the product
  CodeWriter writer_;
  LowestRow lowest_;
};

}  // namespace

int64_t plain_row_bytes(int64_t depth) { return round_up(depth, kCodePadding); }

Faults linear(const KernelTable& table, Workspace& workspace, const LinearOp& op) {
  const auto* weight = dynamic_cast<const CpuWeight*>(op.weight);
  if (weight == nullptr || &weight->table() != &table) fail("linear: the weight was not packed by this backend");
  check_floats_or_codes(op.x, op.x.rows, weight->cols(), "linear: x");
  check_floats_or_codes(op.y, op.x.rows, weight->rows(), "linear: y");
  if (op.x.codes && (op.normalize || !op.x.codes->matches(weight->activations(), op.input))) {
    fail("linear: x holds codes, but not those that the weight was packed for");
  }
  if (op.x.codes && weight->outliers() != nullptr)
    fail("linear: x holds codes; the weight's outlier columns read fp32");
  if (!op.bias.empty()) check_vector(op.bias, weight->rows(), "linear: bias");
  if (op.residual) check_shape(*op.residual, op.x.rows, weight->rows(), "linear: residual");
  if (op.normalize) {
    check_vector(op.normalize->gamma, weight->cols(), "linear: gamma");
    if (!op.normalize->beta.empty()) check_vector(op.normalize->beta, weight->cols(), "linear: beta");
    if (op.normalize->y) check_shape(*op.normalize->y, op.x.rows, weight->cols(), "linear: normalized x");
  }
  if (is_static(weight->activations())) octet::check(op.input, weight->activations(), "linear");
  if (op.x.rows == 0) return {};
  if (weight->meets_int8()) return Int8Linear(table, workspace, op, *weight).run();
  return float_linear(table, workspace, op, *weight);
}

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/backend/cpu/float_panels.h"
#include "octet/backend/cpu/operations.h"
#include "octet/backend/cpu/packed_weight.h"
#include "octet/backend/cpu/quantized_rows.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

// y = a · b of matrices as they lie: a task lays a block of panels of b out in its own memory, then takes blocks of
// rows of a through them.
namespace octet::cpu {
namespace {

// k that panels of floats hold at once: sixteen outputs of so many are those bytes. Sums go on from y.
constexpr int64_t kLongestSlice = kPanelBytes / int64_t{16 * sizeof(float)};

// Where a is turned, which costs about as much as multiplying by a panel, each k is turned once for all panels that the
// cache holds: of few k they are many.
int64_t longest_slice(const KernelTable& table, const MatmulOp& op) {
  if (op.turned != Turned::kA) return kLongestSlice;
  const int64_t fitting = kPanelBytes / (panel_floats(table, op.b.cols, 1) * int64_t{sizeof(float)});
  return std::clamp<int64_t>(fitting / table.k_block, 1, kLongestSlice / table.k_block) * table.k_block;
}

// Laying a panel out costs about as much as multiplying a few rows by it: tasks that share panels, and lay them out
// each for itself, take at least so many blocks of rows.
constexpr int64_t kFewestRowBlocks = 4;

struct Sizes {
  int64_t m, n, k;

  explicit Sizes(const MatmulOp& op) {
    const bool turned = op.turned == Turned::kA;
    m = turned ? op.a.cols : op.a.rows;
    k = turned ? op.a.rows : op.a.cols;
    n = op.turned == Turned::kB ? op.b.rows : op.b.cols;
  }
};

struct Grid {
  int64_t row_block;                  // rows that meet a panel while it is in the L1 cache
  int64_t row_chunk, row_chunks;      // rows of a task: whole blocks
  int64_t panel_block, panel_blocks;  // panels of a task
  int threads;

  Grid(const KernelTable& table, const Sizes& sizes, int64_t panel_bytes, int available) {
    threads = threads_for(sizes.m * sizes.n * sizes.k, available);
    row_block = std::min<int64_t>(sizes.m, table.row_block);
    const int64_t row_blocks = (sizes.m + row_block - 1) / row_block;
    const int64_t group = table.tile_panels;
    const int64_t groups = ((sizes.n + table.panel_width - 1) / table.panel_width + group - 1) / group;
    // As many panels as the cache has room for; then at least four tasks a thread, so that the last to finish is not
    // late: by fewer rows, as long as they are many, or else by fewer panels.
    const int64_t wanted = threads == 1 ? 1 : 4 * threads;
    int64_t block = std::clamp<int64_t>(kPanelBytes / (group * panel_bytes), 1, groups);
    const int64_t blocks = (groups + block - 1) / block;
    const int64_t chunks = std::clamp<int64_t>((wanted + blocks - 1) / blocks, 1, 1 + row_blocks / kFewestRowBlocks);
    if (blocks * chunks < wanted) block = std::max<int64_t>(1, groups * chunks / wanted);
    panel_block = block * group;
    panel_blocks = (groups + block - 1) / block;
    row_chunk = (row_blocks + chunks - 1) / chunks * row_block;
    row_chunks = (sizes.m + row_chunk - 1) / row_chunk;
  }

  int64_t tasks() const { return panel_blocks * row_chunks; }
};

// Rows and columns of y.
struct Task {
  int64_t first_row, last_row, first_col, cols;

  Task(const KernelTable& table, const Grid& grid, const Sizes& sizes, int64_t index)
      : first_row(index % grid.row_chunks * grid.row_chunk),
        last_row(std::min(first_row + grid.row_chunk, sizes.m)),
        first_col(index / grid.row_chunks * grid.panel_block * table.panel_width),
        cols(std::min(grid.panel_block * table.panel_width, sizes.n - first_col)) {}

  int64_t panels(const KernelTable& table) const { return (cols + table.panel_width - 1) / table.panel_width; }
};

class FloatMatmul {
 public:
  // Of a and b the k in [first, first + depth).
  FloatMatmul(const KernelTable& table, Workspace& workspace, const MatmulOp& op, int64_t first, int64_t depth)
      : table_(table),
        workspace_(workspace),
        op_(op),
        sizes_(op),
        first_(first),
        depth_(depth),
        grid_(table, sizes_, depth * table.panel_width * int64_t{sizeof(float)}, workspace.threads()),
        panels_(worker_.add<float>(grid_.panel_block * table.panel_width * depth)),
        turned_(worker_.add<float>(op.turned == Turned::kA ? grid_.row_block * table.k_block : 0)),
        tile_(worker_.add<float>(grid_.row_block * tile_stride())) {}

  void run() {
    workspace_.reserve({}, worker_);
    parallel_for(grid_.threads, grid_.tasks(), [&](int64_t index, int worker) {
      const Task task(table_, grid_, sizes_, index);
      std::byte* const memory = workspace_.worker(worker);
      lay_out(task, panels_.in(memory));
      for (int64_t row = task.first_row; row < task.last_row; row += grid_.row_block) {
        multiply(task, row, std::min(grid_.row_block, task.last_row - row), memory);
      }
    });
  }

 private:
  int64_t tile_stride() const { return grid_.panel_block * table_.panel_width; }

  void lay_out(const Task& task, float* panels) const {
    const float* const b = floats(op_.b.memory);
    const int64_t stride = op_.b.stride;
    if (op_.turned == Turned::kB) {
      table_.pack_rows({b + task.first_col * stride + first_, stride, task.cols, depth_, panels});
    } else {
      table_.pack_columns({b + first_ * stride + task.first_col, stride, depth_, task.cols, panels});
    }
  }

  void multiply(const Task& task, int64_t row, int64_t rows, std::byte* memory) const {
    const int64_t width = table_.panel_width, panels = task.panels(table_);
    float* const tile = tile_.in(memory);
    float* const y = data(op_.y) + row * op_.y.stride + task.first_col;
    const auto x_block = [&](int64_t k, int64_t count, int64_t& stride) -> const float* {
      if (op_.turned != Turned::kA) {
        stride = op_.a.stride;
        return data(op_.a) + row * op_.a.stride + first_ + k;
      }
      stride = table_.k_block;
      float* const turned = turned_.in(memory);
      turn(data(op_.a) + (first_ + k) * op_.a.stride + row, op_.a.stride, count, rows, turned, stride);
      return turned;
    };
    const bool goes_on = op_.adds || first_ > 0;
    if (task.cols == panels * width) {  // no panel is half empty
      multiply_panels(table_, rows, {panels_.in(memory), depth_, panels}, goes_on, x_block, y, op_.y.stride);
      return;
    }
    if (goes_on) {
      for (int64_t r = 0; r < rows; ++r) {
        float* const end = std::copy_n(y + r * op_.y.stride, task.cols, tile + r * tile_stride());
        std::fill(end, tile + r * tile_stride() + panels * width, 0.0f);
      }
    }
    multiply_panels(table_, rows, {panels_.in(memory), depth_, panels}, goes_on, x_block, tile, tile_stride());
    for (int64_t r = 0; r < rows; ++r) std::copy_n(tile + r * tile_stride(), task.cols, y + r * op_.y.stride);
  }

  const KernelTable& table_;
  Workspace& workspace_;
  const MatmulOp& op_;
  Sizes sizes_;
  int64_t first_, depth_;
  Grid grid_;
  Layout worker_;
  Layout::Part<float> panels_;
  Layout::Part<float> turned_;  // rows of aᵀ, of a block of k
  Layout::Part<float> tile_;
};

class CodesMatmul {
 public:
  CodesMatmul(const KernelTable& table, Workspace& workspace, const MatmulOp& op)
      : table_(table),
        workspace_(workspace),
        op_(op),
        kernels_(table.w8a8),
        sizes_(op),
        panel_bytes_(round_up(sizes_.k, PanelLayout(kernels_.format, table.panel_width).depth()) * table.panel_width),
        grid_(table, sizes_, panel_bytes_, workspace.threads()),
        rows_(kernels_, sizes_.m, sizes_.k, 0, false, shared_),
        scaled_(worker_.add<float>(op.turned == Turned::kNone ? sizes_.k : 0)),
        staged_stride_(round_up(op.turned == Turned::kB ? sizes_.k : grid_.panel_block * table.panel_width, 16)),
        staged_(worker_.add<int8_t>(kStaged * staged_stride_)),
        panels_(worker_.add<int8_t>(grid_.panel_block * panel_bytes_)),
        scales_(worker_.add<float>(tile_stride())),
        tile_(worker_.add<int32_t>(grid_.row_block * tile_stride())) {}

  Faults run() {
    workspace_.reserve(shared_, worker_);
    const int64_t block = rows_per_task(sizes_.k), blocks = (sizes_.m + block - 1) / block;
    parallel_for(grid_.threads, blocks, [&](int64_t index, int worker) {
      for (int64_t row = index * block; row < std::min((index + 1) * block, sizes_.m); ++row) quantize(row, worker);
    });
    parallel_for(grid_.threads, grid_.tasks(), [&](int64_t index, int worker) {
      const Task task(table_, grid_, sizes_, index);
      std::byte* const memory = workspace_.worker(worker);
      lay_out(task, memory);
      for (int64_t row = task.first_row; row < task.last_row; row += grid_.row_block) {
        multiply(task, row, std::min(grid_.row_block, task.last_row - row), memory);
      }
    });
    return {.input = lowest_.get()};
  }

 private:
  // Rows of b that are staged at once: a panel's outputs of all tables, whole quads of k.
  static constexpr int64_t kStaged = 16;

  int64_t tile_stride() const { return grid_.panel_block * table_.panel_width; }

  void quantize(int64_t row, int worker) {
    const float* x = data(op_.a) + row * op_.a.stride;
    if (op_.turned == Turned::kNone) {
      const float* const scales = floats(op_.b.scales);
      float* const scaled = scaled_.in(workspace_.worker(worker));
      std::transform(x, x + sizes_.k, scales, scaled, [](float a, float scale) { return a * scale; });
      x = scaled;
    }
    if (!rows_.quantize(table_, ActivationMode::kDynamicPerToken, {}, x, workspace_.shared(), row)) lowest_.add(row);
  }

  void lay_out(const Task& task, std::byte* memory) const {
    int8_t* const staged = staged_.in(memory);
    float* const scales = scales_.in(memory);
    const auto* const b = reinterpret_cast<const int8_t*>(op_.b.memory.address());
    const bool turned = op_.turned == Turned::kB;
    // Rows of b that are outputs, or k; and what each has.
    const int64_t rows = turned ? task.cols : sizes_.k, cols = turned ? sizes_.k : task.cols;
    const int8_t* const first = b + (turned ? task.first_col * op_.b.stride : task.first_col);
    const auto flipped = [flip = kernels_.format.flip](int8_t code) { return static_cast<int8_t>(code ^ flip); };
    for (int64_t r = 0; r < rows; r += kStaged) {
      // Past the end follow zeros: outputs that nobody reads, or k that meet the zeros at the end of codes of a.
      std::fill_n(staged, kStaged * staged_stride_, kernels_.format.flip);
      const int64_t count = std::min(kStaged, rows - r);
      for (int64_t i = 0; i < count; ++i) {
        const int8_t* const from = first + (r + i) * op_.b.stride;
        std::transform(from, from + cols, staged + i * staged_stride_, flipped);
      }
      const int64_t whole = turned ? round_up(count, std::min<int64_t>(kStaged, table_.panel_width))
                                   : std::min(kStaged, panel_bytes_ / table_.panel_width - r);
      (turned ? table_.int8_attention.pack_keys : table_.int8_attention.pack_values)(
          {staged, staged_stride_, whole, cols, r, panels_.in(memory), panel_bytes_});
    }
    std::fill_n(scales, tile_stride(), 1.0f);
    if (turned) std::copy_n(floats(op_.b.scales) + task.first_col, task.cols, scales);
  }

  void multiply(const Task& task, int64_t row, int64_t rows, std::byte* memory) const {
    const int64_t width = table_.panel_width, panels = task.panels(table_), group = table_.tile_panels;
    std::byte* const shared = workspace_.shared();
    Int8Product product;
    product.codes = rows_.codes.in(shared) + row * rows_.stride;
    product.codes_stride = rows_.stride;
    product.code_sums = rows_.sums.in(shared) + row * rows_.sum_count;
    product.code_sums_stride = rows_.sum_count;
    product.rows = rows;
    product.depth = sizes_.k;
    product.panel_stride = panel_bytes_;
    product.tile_stride = tile_stride();
    for (int64_t panel = 0; panel < panels; panel += group) {
      product.panels = panels_.in(memory) + panel * panel_bytes_;
      product.panel_count = std::min(group, panels - panel);
      product.tile = tile_.in(memory) + panel * width;
      kernels_.product(product);
    }
    Finish finish;
    finish.tile = tile_.in(memory);
    finish.tile_stride = tile_stride();
    finish.rows = rows;
    finish.cols = task.cols;
    finish.rescale = Rescale::kBoth;
    finish.weight_scales = scales_.in(memory);
    finish.activation_scales = rows_.scales.in(shared) + row;
    finish.y = data(op_.y) + row * op_.y.stride + task.first_col;
    finish.y_stride = op_.y.stride;
    if (op_.adds) {
      finish.residual = finish.y;
      finish.residual_stride = finish.y_stride;
    }
    table_.finish(finish);
  }

  const KernelTable& table_;
  Workspace& workspace_;
  const MatmulOp& op_;
  const Int8Kernels& kernels_;
  Sizes sizes_;
  int64_t panel_bytes_;
  Grid grid_;
  Layout shared_, worker_;
  QuantizedRows rows_;
  Layout::Part<float> scaled_;  // a row of a, times the scales that it meets
  int64_t staged_stride_;
  Layout::Part<int8_t> staged_;
  Layout::Part<int8_t> panels_;
  Layout::Part<float> scales_;
  Layout::Part<int32_t> tile_;
  LowestRow lowest_;
};

void check_view(const MatrixView& b) {
  const int64_t element = b.holds_codes() ? 1 : int64_t{sizeof(float)};
  if (b.rows < 0 || b.cols < 0 || b.stride < b.cols) {
    fail<ShapeError>("matmul: b is [{}, {}] with {} from row to row", b.rows, b.cols, b.stride);
  }
  if (b.rows > 0 && checked_mul(checked_add(checked_mul(b.rows - 1, b.stride), b.cols), element) > b.memory.bytes()) {
    fail<ShapeError>("matmul: b, [{}, {}] with {} from row to row, does not fit its {} bytes", b.rows, b.cols, b.stride,
                     b.memory.bytes());
  }
  if (b.holds_codes()) check_vector(b.scales, b.rows, "matmul: scales");
}

}  // namespace

Faults matmul(const KernelTable& table, Workspace& workspace, const MatmulOp& op) {
  const Sizes sizes(op);
  check_shape(op.a, op.a.rows, op.a.cols, "matmul: a");
  check_shape(op.y, sizes.m, sizes.n, "matmul: y");
  check_view(op.b);
  const int64_t depth_of_b = op.turned == Turned::kB ? op.b.cols : op.b.rows;
  if (depth_of_b != sizes.k) fail<ShapeError>("matmul: sums over {} in a and {} in b", sizes.k, depth_of_b);
  if (op.b.holds_codes() && op.turned == Turned::kA) fail<ShapeError>("matmul: b holds codes where a is turned");
  if (op.b.holds_codes() && sizes.k > kLongestExact) {
    fail<ShapeError>("matmul: sums of codes over {}; {} at most are exact", sizes.k, kLongestExact);
  }
  if (sizes.m == 0 || sizes.n == 0) return {};
  if (sizes.k == 0) {
    for (int64_t row = 0; row < sizes.m && !op.adds; ++row) {
      std::fill_n(data(op.y) + row * op.y.stride, sizes.n, 0.0f);
    }
    return {};
  }
  if (op.b.holds_codes()) return CodesMatmul(table, workspace, op).run();
  const int64_t slice = longest_slice(table, op);
  for (int64_t first = 0; first < sizes.k; first += slice) {
    FloatMatmul(table, workspace, op, first, std::min(slice, sizes.k - first)).run();
  }
  return {};
}

}  // namespace octet::cpu

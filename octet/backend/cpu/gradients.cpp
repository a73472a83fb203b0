// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "octet/backend/cpu/dropout_mask.h"
#include "octet/backend/cpu/operations.h"
#include "octet/base/error.h"
#include "octet/base/log.h"

namespace octet::cpu {
namespace {

NonlinearityGradientRows gradient_rows(const Activation& x, const Activation& dy, const Activation& dx,
                                       Nonlinearity nonlinearity, int64_t first, int64_t count) {
  return {data(x) + first * x.stride,   x.stride, data(dy) + first * dy.stride, dy.stride, count, dy.cols, nonlinearity,
          data(dx) + first * dx.stride, dx.stride};
}

// Sums over rows, added to each of `totals` [cols]: blocks of rows first, each from zero, then the blocks one after
// another. sum(first, rows, partial) adds those of a block to partial [totals, cols].
template <class Sum>
void sum_rows(const KernelTable& table, Workspace& workspace, int64_t rows, int64_t cols,
              std::span<float* const> totals, Sum sum) {
  const int64_t block = rows_per_task(cols), blocks = (rows + block - 1) / block;
  const auto parts = static_cast<int64_t>(totals.size());
  Layout shared, worker;
  const Layout::Part<float> partial = shared.add<float>(blocks * parts * cols);
  workspace.reserve(shared, worker);
  float* const partials = partial.in(workspace.shared());
  for_row_blocks(workspace.threads(), rows, cols, [&](int64_t first, int64_t count) {
    float* const own = partials + first / block * parts * cols;
    std::fill_n(own, parts * cols, 0.0f);
    sum(first, count, own);
  });
  for (int64_t part = 0; part < parts; ++part) {
    table.gradients.add_rows(partials + part * cols, parts * cols, blocks, cols, totals[static_cast<size_t>(part)]);
  }
}

}  // namespace

void nonlinearity(const KernelTable& table, int threads, const NonlinearityOp& op) {
  check_shape(op.x, op.x.rows, op.x.cols, "nonlinearity: x");
  check_shape(op.y, op.x.rows, op.x.cols, "nonlinearity: y");
  for_row_blocks(threads, op.x.rows, op.x.cols, [&](int64_t first, int64_t count) {
    table.gradients.nonlinearity({data(op.x) + first * op.x.stride, op.x.stride, count, op.x.cols, op.nonlinearity,
                                  data(op.y) + first * op.y.stride, op.y.stride});
  });
}

void nonlinearity_gradient(const KernelTable& table, int threads, const NonlinearityGradientOp& op) {
  check_shape(op.x, op.dy.rows, op.dy.cols, "nonlinearity_gradient: x");
  check_shape(op.dy, op.dy.rows, op.dy.cols, "nonlinearity_gradient: dy");
  check_shape(op.dx, op.dy.rows, op.dy.cols, "nonlinearity_gradient: dx");
  for_row_blocks(threads, op.dy.rows, op.dy.cols, [&](int64_t first, int64_t count) {
    table.gradients.nonlinearity_gradient(gradient_rows(op.x, op.dy, op.dx, op.nonlinearity, first, count));
  });
}

void gated_gradient(const KernelTable& table, int threads, const GatedGradientOp& op) {
  const int64_t both = checked_mul(2, op.dy.cols);
  check_shape(op.x, op.dy.rows, both, "gated_gradient: x");
  check_shape(op.dy, op.dy.rows, op.dy.cols, "gated_gradient: dy");
  check_shape(op.dx, op.dy.rows, both, "gated_gradient: dx");
  for_row_blocks(threads, op.dy.rows, both, [&](int64_t first, int64_t count) {
    table.gradients.gated_gradient(gradient_rows(op.x, op.dy, op.dx, op.nonlinearity, first, count));
  });
}

void norm_gradient(const KernelTable& table, Workspace& workspace, const NormGradientOp& op) {
  const int64_t rows = op.x.rows, cols = op.x.cols;
  check_shape(op.x, rows, cols, "norm_gradient: x");
  check_shape(op.dy, rows, cols, "norm_gradient: dy");
  check_shape(op.dx, rows, cols, "norm_gradient: dx");
  check_vector(op.gamma, cols, "norm_gradient: gamma");
  check_vector(op.dgamma, cols, "norm_gradient: dgamma");
  if (!op.dbeta.empty()) check_vector(op.dbeta, cols, "norm_gradient: dbeta");
  const bool centred = !op.dbeta.empty();
  float* const totals[] = {writable_floats(op.dgamma), writable_floats(op.dbeta)};
  sum_rows(table, workspace, rows, cols, std::span(totals).first(centred ? 2 : 1),
           [&](int64_t first, int64_t count, float* partial) {
             table.gradients.norm_gradient({data(op.x) + first * op.x.stride, op.x.stride,
                                            data(op.dy) + first * op.dy.stride, op.dy.stride, count, cols,
                                            floats(op.gamma), op.eps, data(op.dx) + first * op.dx.stride, op.dx.stride,
                                            op.adds, partial, centred ? partial + cols : nullptr});
           });
}

void column_sums(const KernelTable& table, Workspace& workspace, const ColumnSumsOp& op) {
  check_shape(op.x, op.x.rows, op.x.cols, "column_sums: x");
  check_vector(op.sums, op.x.cols, "column_sums: sums");
  float* const totals[] = {writable_floats(op.sums)};
  sum_rows(table, workspace, op.x.rows, op.x.cols, totals, [&](int64_t first, int64_t count, float* partial) {
    table.gradients.add_rows(data(op.x) + first * op.x.stride, op.x.stride, count, op.x.cols, partial);
  });
}

void pool_gradient(int threads, const PoolGradientOp& op) {
  const int64_t rows = op.dx.rows, cols = op.dx.cols, sequences = op.dy.rows;
  check_shape(op.dx, rows, cols, "pool_gradient: dx");
  check_shape(op.dy, sequences, cols, "pool_gradient: dy");
  check_offsets(op.offsets, sequences, rows);
  if (op.pooling == Pooling::kMax) fail("pool_gradient: that of the maximum is not there");
  const int32_t* const offsets = int32s(op.offsets);
  parallel_for(threads_for(rows * cols, threads), sequences, [&](int64_t sequence, int) {
    const int64_t first = offsets[sequence], length = offsets[sequence + 1] - first;
    const float* const dy = data(op.dy) + sequence * op.dy.stride;
    float divisor = 1;
    if (op.pooling == Pooling::kMean) divisor = static_cast<float>(length);
    if (op.pooling == Pooling::kMeanSqrtLength) divisor = std::sqrt(static_cast<float>(length));
    for (int64_t r = 0; r < length; ++r) {
      float* const dx = data(op.dx) + (first + r) * op.dx.stride;
      if (op.pooling == Pooling::kFirst && r > 0) {
        std::fill_n(dx, cols, 0.0f);
      } else {
        std::transform(dy, dy + cols, dx, [divisor](float value) { return value / divisor; });
      }
    }
  });
}

void embed_gradient(int threads, const EmbedGradientOp& op) {
  const int64_t rows = op.dy.rows, cols = op.dy.cols;
  check_shape(op.dy, rows, cols, "embed_gradient: dy");
  check_shape(op.dtable, op.dtable.rows, cols, "embed_gradient: dtable");
  check_vector(op.indices, rows, "embed_gradient: indices");
  // Rows may meet in an entry, columns do not.
  constexpr int64_t kColumns = 64;
  const int64_t tasks = (cols + kColumns - 1) / kColumns;
  parallel_for(threads_for(rows * cols, threads), tasks, [&](int64_t task, int) {
    const int64_t first = task * kColumns, count = std::min(kColumns, cols - first);
    for (int64_t row = 0; row < rows; ++row) {
      const float* const from = data(op.dy) + row * op.dy.stride + first;
      float* const to = data(op.dtable) + int32s(op.indices)[row] * op.dtable.stride + first;
      for (int64_t c = 0; c < count; ++c) to[c] += from[c];
    }
  });
}

void add(int threads, const AddOp& op) {
  check_shape(op.x, op.x.rows, op.x.cols, "add: x");
  check_shape(op.y, op.x.rows, op.x.cols, "add: y");
  for_row_blocks(threads, op.x.rows, op.x.cols, [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) {
      const float* const x = data(op.x) + row * op.x.stride;
      float* const y = data(op.y) + row * op.y.stride;
      for (int64_t c = 0; c < op.x.cols; ++c) y[c] += x[c];
    }
  });
}

void dropout(const KernelTable& table, int threads, const DropoutOp& op) {
  check_shape(op.x, op.x.rows, op.x.cols, "dropout: x");
  check_shape(op.y, op.x.rows, op.x.cols, "dropout: y");
  const DropoutMask mask(table, op.dropout, "dropout");
  const int64_t cols = op.x.cols;
  for_row_blocks(threads, op.x.rows, cols, [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) {
      mask.apply(static_cast<uint64_t>(row * cols), cols, data(op.x) + row * op.x.stride, mask.factor(),
                 data(op.y) + row * op.y.stride);
    }
  });
}

namespace {

// exp(x - max x) in place of x, whose block of sixteen at the end may be written to; returns 1 / their sum.
float exponentials(const KernelTable& table, float* x, int64_t cols) {
  float inverse = 0;
  Softmax softmax;
  softmax.scores = x;
  softmax.rows = 1;
  softmax.cols = cols;
  softmax.inverse_sums = &inverse;
  table.softmax(softmax);
  return inverse;
}

float largest_of(const float* x, int64_t count) {
  // Sixteen maxima side by side are vectors to any compiler, one is a chain.
  constexpr int64_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(x[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) lanes[k] = x[i + k] > lanes[k] ? x[i + k] : lanes[k];
  }
  for (; i < count; ++i) lanes[0] = std::max(lanes[0], x[i]);
  return *std::ranges::max_element(lanes);
}

}  // namespace

void cross_entropy(const KernelTable& table, Workspace& workspace, const CrossEntropyOp& op) {
  const int64_t rows = op.x.rows, cols = op.x.cols;
  check_shape(op.x, rows, cols, "cross_entropy: x");
  check_shape(op.dx, rows, cols, "cross_entropy: dx");
  check_vector(op.labels, rows, "cross_entropy: labels");
  check_vector(op.losses, rows, "cross_entropy: losses");
  Layout shared, worker;
  // Softmax works in blocks of sixteen.
  const Layout::Part<float> scratch = worker.add<float>(round_up(cols, 16));
  workspace.reserve(shared, worker);
  parallel_for(threads_for(rows * cols, workspace.threads()), rows, [&](int64_t row, int by) {
    const int32_t label = int32s(op.labels)[row];
    const float* const x = data(op.x) + row * op.x.stride;
    float* const dx = data(op.dx) + row * op.dx.stride;
    float& loss = writable_floats(op.losses)[row];
    if (label < 0) {
      loss = 0;
      std::fill_n(dx, cols, 0.0f);
      return;
    }
    const float below = largest_of(x, cols) - x[label];
    float* const p = scratch.in(workspace.worker(by));
    std::copy_n(x, cols, p);
    const float inverse = exponentials(table, p, cols);
    // 1 / inverse is Σ exp(x - max x), from 1 on; NaN where an x is.
    loss = inverse > 0 ? static_cast<float>(log_of_positive(1 / double{inverse}) + double{below})
                       : std::numeric_limits<float>::quiet_NaN();
    table.scale(p, cols, inverse * op.factor, dx);
    dx[label] -= op.factor;
  });
}

void distill(const KernelTable& table, Workspace& workspace, const DistillOp& op) {
  const int64_t rows = op.x.rows, cols = op.x.cols;
  check_shape(op.x, rows, cols, "distill: x");
  check_shape(op.teacher, rows, cols, "distill: teacher");
  check_shape(op.dx, rows, cols, "distill: dx");
  check_vector(op.labels, rows, "distill: labels");
  check_vector(op.losses, rows, "distill: losses");
  if (!(op.temperature > 0)) fail("distill: the temperature {} is not above 0", op.temperature);
  const float inverse_temperature = 1 / op.temperature;
  Layout shared, worker;
  const Layout::Part<float> scratch = worker.add<float>(2 * round_up(cols, 16));
  workspace.reserve(shared, worker);
  parallel_for(threads_for(2 * rows * cols, workspace.threads()), rows, [&](int64_t row, int by) {
    const float* const x = data(op.x) + row * op.x.stride;
    const float* const teacher = data(op.teacher) + row * op.teacher.stride;
    float* const dx = data(op.dx) + row * op.dx.stride;
    float& loss = writable_floats(op.losses)[row];
    if (int32s(op.labels)[row] < 0) {
      loss = 0;
      std::fill_n(dx, cols, 0.0f);
      return;
    }
    float* const p = scratch.in(workspace.worker(by));
    float* const q = p + round_up(cols, 16);
    table.scale(x, cols, inverse_temperature, p);
    table.scale(teacher, cols, inverse_temperature, q);
    const double top_p = largest_of(p, cols), top_q = largest_of(q, cols);
    // log q - log p is the difference of the logits less that of the logarithms of their sums.
    double sum = 0;
    const float inverse_p = exponentials(table, p, cols), inverse_q = exponentials(table, q, cols);
    if (!(inverse_p > 0 && inverse_q > 0)) {
      loss = std::numeric_limits<float>::quiet_NaN();
      std::fill_n(dx, cols, loss);
      return;
    }
    for (int64_t c = 0; c < cols; ++c)
      sum += double{q[c]} * ((double{teacher[c]} - double{x[c]}) * double{inverse_temperature});
    const double log_sums =
        log_of_positive(1 / double{inverse_q}) + top_q - log_of_positive(1 / double{inverse_p}) - top_p;
    const double temperature = op.temperature;
    loss = static_cast<float>(temperature * temperature * (sum * double{inverse_q} - log_sums));
    const float factor = op.temperature * op.factor;
    table.scale(p, cols, inverse_p * factor, p);
    table.scale(q, cols, inverse_q * factor, q);
    for (int64_t c = 0; c < cols; ++c) dx[c] = p[c] - q[c];
  });
}

void squared_error(int threads, const SquaredErrorOp& op) {
  const int64_t rows = op.x.rows, cols = op.x.cols;
  check_shape(op.x, rows, cols, "squared_error: x");
  check_shape(op.target, rows, cols, "squared_error: target");
  check_shape(op.dx, rows, cols, "squared_error: dx");
  check_vector(op.losses, rows, "squared_error: losses");
  const float factor = 2 * op.factor;
  for_row_blocks(threads, rows, cols, [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) {
      const float* const x = data(op.x) + row * op.x.stride;
      const float* const target = data(op.target) + row * op.target.stride;
      float* const dx = data(op.dx) + row * op.dx.stride;
      double sum = 0;
      for (int64_t c = 0; c < cols; ++c) {
        const float difference = x[c] - target[c];
        sum += double{difference} * double{difference};
        dx[c] = factor * difference;
      }
      writable_floats(op.losses)[row] = static_cast<float>(sum);
    }
  });
}

double squared_norm(Workspace& workspace, DeviceSpan x, int64_t count) {
  check_vector(x, count, "squared_norm: x");
  const int64_t block = rows_per_task(1), blocks = (count + block - 1) / block;
  Layout shared, worker;
  const Layout::Part<double> partial = shared.add<double>(blocks);
  workspace.reserve(shared, worker);
  double* const partials = partial.in(workspace.shared());
  for_row_blocks(workspace.threads(), count, 1, [&](int64_t first, int64_t elements) {
    double sum = 0;
    for (int64_t i = first; i < first + elements; ++i) sum += double{floats(x)[i]} * double{floats(x)[i]};
    partials[first / block] = sum;
  });
  double sum = 0;
  for (int64_t i = 0; i < blocks; ++i) sum += partials[i];
  return sum;
}

}  // namespace octet::cpu

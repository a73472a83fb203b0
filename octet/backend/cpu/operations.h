// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/workspace.h"
#include "octet/base/parallel.h"

namespace octet::cpu {

/// Throws ShapeError, naming the operation and the operand, unless `x` is [rows, cols] of fp32 and lies in its memory.
void check_shape(const Activation& x, int64_t rows, int64_t cols, const char* operand);
/// The same of fp32 or codes.
void check_floats_or_codes(const Activation& x, int64_t rows, int64_t cols, const char* operand);
/// The same for a vector of `count` elements of four bytes.
void check_vector(DeviceSpan memory, int64_t count, const char* operand);

inline float* data(const Activation& x) { return reinterpret_cast<float*>(x.memory.address()); }
inline float* writable_floats(DeviceSpan memory) { return reinterpret_cast<float*>(memory.address()); }
inline const float* floats(DeviceSpan memory) { return reinterpret_cast<const float*>(memory.address()); }
inline const int32_t* int32s(DeviceSpan memory) { return reinterpret_cast<const int32_t*>(memory.address()); }

/// Checks offsets [sequences + 1]: ascending from 0 to `rows`. Returns the length of the longest sequence.
int64_t check_offsets(DeviceSpan offsets, int64_t sequences, int64_t rows);

/// Threads worth starting for `work` multiplications; starting one costs as much as about 2^17 of them.
int threads_for(int64_t work, int threads);

/// Rows that a task of a row operation takes: about 16,384 elements (64 KB), some microseconds.
inline int64_t rows_per_task(int64_t cols) { return std::max<int64_t>(1, 16'384 / std::max<int64_t>(1, cols)); }

/// Calls body(first, count) for blocks of rows, whose sizes depend on the matrix alone.
template <class Body>
void for_row_blocks(int threads, int64_t rows, int64_t cols, Body body) {
  const int64_t block = rows_per_task(cols), blocks = (rows + block - 1) / block;
  parallel_for(static_cast<int>(std::min<int64_t>(blocks, threads)), blocks,
               [&](int64_t index, int) { body(index * block, std::min(block, rows - index * block)); });
}

/// Panels of a product's task: half of a 2 MB L2 cache, the rest is for what they meet and give.
inline constexpr int64_t kPanelBytes = int64_t{1} << 20;

/// |Σ code · code| ≤ 127² K fits int32 up to here: 16,129 · 133,144 = 2,147,479,576 < 2^31.
inline constexpr int64_t kLongestExact = 133'144;

/// The lowest row that holds NaN or infinity, whichever thread meets it.
class LowestRow {
 public:
  void add(int64_t row) {
    int64_t lowest = row_;
    while (row < lowest && !row_.compare_exchange_weak(lowest, row)) {
    }
  }
  std::optional<int64_t> get() const { return row_ == kNone ? std::nullopt : std::optional<int64_t>(row_); }

 private:
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> row_{kNone};
};

/// The lowest row that could not be quantized of what an operation reads, and of a y of codes, if any.
struct Faults {
  std::optional<int64_t> input = {}, output = {};
};
Faults linear(const KernelTable& table, Workspace& workspace, const LinearOp& op);
Faults matmul(const KernelTable& table, Workspace& workspace, const MatmulOp& op);
/// In INT8 `input` is of q, k or v, or else of p.
Faults attention(const KernelTable& table, Workspace& workspace, const AttentionOp& op);
Faults gated(const KernelTable& table, Workspace& workspace, const GatedOp& op);

void nonlinearity(const KernelTable& table, int threads, const NonlinearityOp& op);
void nonlinearity_gradient(const KernelTable& table, int threads, const NonlinearityGradientOp& op);
void gated_gradient(const KernelTable& table, int threads, const GatedGradientOp& op);
void norm_gradient(const KernelTable& table, Workspace& workspace, const NormGradientOp& op);
void attention_gradient(const KernelTable& table, Workspace& workspace, const AttentionGradientOp& op);
void pool_gradient(int threads, const PoolGradientOp& op);
void embed_gradient(int threads, const EmbedGradientOp& op);
void column_sums(const KernelTable& table, Workspace& workspace, const ColumnSumsOp& op);
void add(int threads, const AddOp& op);
void dropout(const KernelTable& table, int threads, const DropoutOp& op);
void round_trip(int threads, const RoundTripOp& op);
void clip_gradient(Workspace& workspace, const ClipGradientOp& op);
void cross_entropy(const KernelTable& table, Workspace& workspace, const CrossEntropyOp& op);
void distill(const KernelTable& table, Workspace& workspace, const DistillOp& op);
void squared_error(int threads, const SquaredErrorOp& op);
void adamw(const KernelTable& table, int threads, const AdamwOp& op);
void sgd(const KernelTable& table, int threads, const SgdOp& op);
double squared_norm(Workspace& workspace, DeviceSpan x, int64_t count);

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "octet/backend/cpu/dropout_mask.h"
#include "octet/backend/cpu/float_panels.h"
#include "octet/backend/cpu/operations.h"
#include "octet/base/error.h"
#include "octet/base/parallel.h"

// A task takes one head of keys and values of one sequence and all queries that read it, strip by strip of rows, so
// that nobody else adds to its gradients:
//
//   S = Q Kᵀ · scale, P = softmax(S), dP = dY Vᵀ ∘ M, dS = P ∘ (dP - Σ P dP) · scale
//   dQ = dS K,  dK += dSᵀ Q,  dV += (P ∘ M)ᵀ dY
//
// where M is dropout's mask.
namespace octet::cpu {
namespace {

// Floats of P in a strip, and as many of dP: 32,768 are 128 KB, both fit the L2 cache beside the keys' panels.
constexpr int64_t kStripFloats = 32'768;

class AttentionGradient {
 public:
  AttentionGradient(const KernelTable& table, Workspace& workspace, const AttentionGradientOp& op, int64_t longest)
      : table_(table),
        workspace_(workspace),
        op_(op),
        dropout_(table, op.dropout, "attention_gradient"),
        longest_(longest),
        width_(op.head_width),
        head_stride_(panels_of(table, width_) * table.panel_width),
        // Softmax works in blocks of sixteen from a row's first key on.
        strip_stride_(round_up(std::max<int64_t>(longest, 1), std::max<int64_t>(16, table.panel_width)) + 16),
        strip_rows_(std::clamp<int64_t>(kStripFloats / strip_stride_, 1, std::min<int64_t>(table.row_block, longest))),
        key_rows_(worker_.add<float>(panel_floats(table, longest, width_))),
        value_rows_(worker_.add<float>(panel_floats(table, longest, width_))),
        key_columns_(worker_.add<float>(panel_floats(table, width_, longest))),
        strip_columns_(worker_.add<float>(panel_floats(table, width_, strip_rows_))),
        p_(worker_.add<float>(strip_rows_ * strip_stride_)),
        dp_(worker_.add<float>(strip_rows_ * strip_stride_)),
        turned_(worker_.add<float>(table.row_block * table.k_block)),
        dq_(worker_.add<float>(strip_rows_ * head_stride_)),
        dk_(worker_.add<float>(longest * head_stride_)),
        dv_(worker_.add<float>(longest * head_stride_)) {}

  void run() {
    workspace_.reserve({}, worker_);
    const int64_t work = 5 * op_.heads * op_.q.rows * longest_ * width_;
    parallel_for(threads_for(work, workspace_.threads()), op_.sequences * op_.kv_heads, [&](int64_t index, int by) {
      run(index / op_.kv_heads, index % op_.kv_heads, workspace_.worker(by));
    });
  }

 private:
  static const float* at(const Activation& x, int64_t row, int64_t col) { return data(x) + row * x.stride + col; }

  void run(int64_t sequence, int64_t kv_head, std::byte* memory) const {
    const int32_t* const offsets = int32s(op_.offsets);
    const int64_t first = offsets[sequence], length = offsets[sequence + 1] - first;
    if (length == 0) return;
    const int64_t column = kv_head * op_.head_stride;
    table_.pack_rows({at(op_.k, first, column), op_.k.stride, length, width_, key_rows_.in(memory)});
    table_.pack_rows({at(op_.v, first, column), op_.v.stride, length, width_, value_rows_.in(memory)});
    table_.pack_columns({at(op_.k, first, column), op_.k.stride, length, width_, key_columns_.in(memory)});
    std::fill_n(dk_.in(memory), length * head_stride_, 0.0f);
    std::fill_n(dv_.in(memory), length * head_stride_, 0.0f);
    const int64_t group = op_.heads / op_.kv_heads;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t row = 0; row < length; row += strip_rows_) {
        run_strip({first, length, head, row, std::min(strip_rows_, length - row)}, memory);
      }
    }
    for (int64_t r = 0; r < length; ++r) {
      std::copy_n(dk_.in(memory) + r * head_stride_, width_, data(op_.dk) + (first + r) * op_.dk.stride + column);
      std::copy_n(dv_.in(memory) + r * head_stride_, width_, data(op_.dv) + (first + r) * op_.dv.stride + column);
    }
  }

  // Queries [row, row + rows) of a head of the sequence whose rows begin at `first`.
  struct Strip {
    int64_t first, length, head, row, rows;
  };

  void run_strip(const Strip& strip, std::byte* memory) const {
    float *const p = p_.in(memory), *const dp = dp_.in(memory);
    const float* const q = at(op_.q, strip.first + strip.row, strip.head * op_.head_stride);
    const float* const dy = at(op_.dy, strip.first + strip.row, strip.head * width_);
    const int64_t keys = op_.causal ? strip.row + strip.rows : strip.length;
    const int64_t key_panels = panels_of(table_, keys);
    const auto rows_of = [](const float* x, int64_t x_stride) {
      return [x, x_stride](int64_t k, int64_t, int64_t& stride) {
        stride = x_stride;
        return x + k;
      };
    };
    multiply_panels(table_, strip.rows, {key_rows_.in(memory), width_, key_panels}, false, rows_of(q, op_.q.stride), p,
                    strip_stride_);
    multiply_panels(table_, strip.rows, {value_rows_.in(memory), width_, key_panels}, false, rows_of(dy, op_.dy.stride),
                    dp, strip_stride_);
    for (int64_t r = 0; r < strip.rows; ++r) {
      differentiate_row(strip, strip.row + r, keys, p + r * strip_stride_, dp + r * strip_stride_);
    }
    // These panels are as deep as the sequence is long, of which the strip sees the beginning.
    float* const dq = dq_.in(memory);
    multiply_panels(table_, strip.rows, {key_columns_.in(memory), keys, panels_of(table_, width_), strip.length}, false,
                    rows_of(dp, strip_stride_), dq, head_stride_);
    for (int64_t r = 0; r < strip.rows; ++r) {
      std::copy_n(dq + r * head_stride_, width_,
                  data(op_.dq) + (strip.first + strip.row + r) * op_.dq.stride + strip.head * op_.head_stride);
    }
    add_turned(strip, q, op_.q.stride, keys, dp, dk_.in(memory), memory);
    add_turned(strip, dy, op_.dy.stride, keys, p, dv_.in(memory), memory);
  }

  // Scores and dY Vᵀ of a row become P ∘ M and dS; 0 where it does not look.
  void differentiate_row(const Strip& strip, int64_t row, int64_t keys, float* p, float* dp) const {
    const int64_t end = op_.causal ? row + 1 : keys;
    const int64_t begin = op_.causal && op_.window > 0 ? std::max<int64_t>(0, end - op_.window) : 0;
    float inverse = 0;
    Softmax softmax;
    softmax.scores = p + begin;
    softmax.stride = strip_stride_;
    softmax.rows = 1;
    softmax.cols = end - begin;
    softmax.scale = op_.scale;
    softmax.inverse_sums = &inverse;
    table_.softmax(softmax);
    const auto drop = [&](float* values) {
      if (!dropout_.drops()) return;
      dropout_.apply_to_weights({strip.first + row, strip.head, op_.heads}, begin, end - begin, dropout_.factor(),
                                values);
    };
    drop(dp + begin);
    table_.gradients.softmax_gradient(p + begin, dp + begin, end - begin, inverse, op_.scale);
    drop(p + begin);
    for (float* const values : {p, dp}) {
      std::fill_n(values, begin, 0.0f);
      std::fill(values + end, values + keys, 0.0f);
    }
  }

  // gradient[key] += Σ over the strip's rows of weights[row][key] · x[row]
  void add_turned(const Strip& strip, const float* x, int64_t x_stride, int64_t keys, const float* weights,
                  float* gradient, std::byte* memory) const {
    float *const columns = strip_columns_.in(memory), *const turned = turned_.in(memory);
    table_.pack_columns({x, x_stride, strip.rows, width_, columns});
    for (int64_t key = 0; key < keys; key += table_.row_block) {
      const int64_t count = std::min<int64_t>(table_.row_block, keys - key);
      const auto block = [&](int64_t k, int64_t depth, int64_t& stride) -> const float* {
        stride = table_.k_block;
        turn(weights + k * strip_stride_ + key, strip_stride_, depth, count, turned, stride);
        return turned;
      };
      multiply_panels(table_, count, {columns, strip.rows, panels_of(table_, width_)}, true, block,
                      gradient + key * head_stride_, head_stride_);
    }
  }

  const KernelTable& table_;
  Workspace& workspace_;
  const AttentionGradientOp& op_;
  DropoutMask dropout_;
  int64_t longest_, width_;
  int64_t head_stride_;   // of rows of dq, dk and dv: a head, whole panels
  int64_t strip_stride_;  // of rows of P and dP
  int64_t strip_rows_;
  Layout worker_;
  Layout::Part<float> key_rows_, value_rows_;  // panels whose outputs are keys
  Layout::Part<float> key_columns_;            // panels whose outputs are columns of the head
  Layout::Part<float> strip_columns_;          // the same of a strip's queries, or of dY
  Layout::Part<float> p_, dp_, turned_, dq_, dk_, dv_;
};

}  // namespace

void attention_gradient(const KernelTable& table, Workspace& workspace, const AttentionGradientOp& op) {
  const auto refuse = [](const char* what) { fail<ShapeError>("attention_gradient: {}", what); };
  if (op.heads < 1 || op.kv_heads < 1 || op.heads % op.kv_heads != 0) refuse("heads are no multiple of those of keys");
  if (op.head_width < 1 || op.head_stride < op.head_width) refuse("heads overlap");
  if (op.window < 0) refuse("the window is negative");
  const int64_t rows = op.q.rows;
  const auto columns = [&](int64_t heads) {
    return checked_add(checked_mul(heads - 1, op.head_stride), op.head_width);
  };
  check_shape(op.q, rows, columns(op.heads), "attention_gradient: q");
  check_shape(op.dq, rows, columns(op.heads), "attention_gradient: dq");
  check_shape(op.k, rows, columns(op.kv_heads), "attention_gradient: k");
  check_shape(op.dk, rows, columns(op.kv_heads), "attention_gradient: dk");
  check_shape(op.v, rows, columns(op.kv_heads), "attention_gradient: v");
  check_shape(op.dv, rows, columns(op.kv_heads), "attention_gradient: dv");
  check_shape(op.dy, rows, checked_mul(op.heads, op.head_width), "attention_gradient: dy");
  const int64_t longest = check_offsets(op.offsets, op.sequences, rows);
  if (longest == 0) return;
  AttentionGradient(table, workspace, op, longest).run();
}

}  // namespace octet::cpu

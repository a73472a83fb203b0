// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "octet/backend/cpu/operations.h"
#include "octet/base/error.h"
#include "octet/quant/quantize.h"

// What quantization-aware training asks for beside the products themselves.
namespace octet::cpu {
namespace {

// Codes from `low` to `high` after x · inverse, zero_point taken off, as octet/quant/quantize.h has them; loops over
// them are made of vectors by any compiler.
struct Codes {
  float scale, inverse, low, high;

  Codes(ActivationMode mode, const ActivationScale& given) : scale(given.scale), inverse(1.0f / given.scale) {
    const CodeRange codes = code_range(mode, given);
    low = static_cast<float>(codes.lowest);
    high = static_cast<float>(codes.highest);
  }

  float round_trip(float x) const noexcept {
    const float scaled = x * inverse;
    const float above = scaled > low ? scaled : low;
    const float clamped = above < high ? above : high;
    constexpr float kRounder = 0x1.8p23f;  // its ulp is 1
    return (clamped + kRounder - kRounder) * scale;
  }
  bool holds(float x) const noexcept {
    const float scaled = x * inverse;
    return scaled >= low && scaled <= high;
  }
};

float absmax(const float* x, int64_t count) noexcept {
  float out = 0;
  for (int64_t i = 0; i < count; ++i) out = std::max(out, std::fabs(x[i]));
  return out;
}

}  // namespace

void round_trip(int threads, const RoundTripOp& op) {
  check_shape(op.x, op.x.rows, op.x.cols, "round_trip: x");
  check_shape(op.y, op.x.rows, op.x.cols, "round_trip: y");
  if (op.mode == ActivationMode::kFloat) fail("round_trip: floats are not quantized");
  for_row_blocks(threads, op.x.rows, op.x.cols, [&](int64_t first, int64_t count) {
    Codes codes(op.mode, op.scale);
    for (int64_t row = first; row < first + count; ++row) {
      const float* const x = data(op.x) + row * op.x.stride;
      float* const y = data(op.y) + row * op.y.stride;
      if (op.mode == ActivationMode::kDynamicPerToken)
        codes = Codes(op.mode, {.scale = int8_scale(absmax(x, op.x.cols))});
      for (int64_t c = 0; c < op.x.cols; ++c) y[c] = codes.round_trip(x[c]);
    }
  });
}

void clip_gradient(Workspace& workspace, const ClipGradientOp& op) {
  const int64_t rows = op.x.rows, cols = op.x.cols;
  check_shape(op.x, rows, cols, "clip_gradient: x");
  check_shape(op.dy, rows, cols, "clip_gradient: dy");
  check_shape(op.dx, rows, cols, "clip_gradient: dx");
  if (!is_static(op.mode)) fail("clip_gradient: the mode is not static");
  const bool wanted = !op.dclip.empty();
  const bool two_ends = op.mode == ActivationMode::kStaticPerTensorZeroPoint;
  if (wanted) check_vector(op.dclip, two_ends ? 2 : 1, "clip_gradient: dclip");
  const Codes codes(op.mode, op.scale);
  const int64_t block = rows_per_task(cols), blocks = (rows + block - 1) / block;
  Layout shared, worker;
  struct Sums {
    double below, above, inside;
  };
  const Layout::Part<Sums> partial = shared.add<Sums>(blocks);
  workspace.reserve(shared, worker);
  Sums* const partials = partial.in(workspace.shared());
  for_row_blocks(workspace.threads(), rows, cols, [&](int64_t first, int64_t count) {
    Sums sums = {};
    for (int64_t row = first; row < first + count; ++row) {
      const float* const x = data(op.x) + row * op.x.stride;
      const float* const dy = data(op.dy) + row * op.dy.stride;
      float* const dx = data(op.dx) + row * op.dx.stride;
      for (int64_t c = 0; c < cols && wanted; ++c) {
        const double d = dy[c];
        if (codes.holds(x[c])) {
          sums.inside += d * (double{codes.round_trip(x[c])} - double{x[c]});
        } else {
          (x[c] > 0 ? sums.above : sums.below) += d;
        }
      }
      for (int64_t c = 0; c < cols; ++c) {
        const float passed = codes.holds(x[c]) ? dy[c] : 0.0f;
        dx[c] = op.adds ? dx[c] + passed : passed;
      }
    }
    partials[first / block] = sums;
  });
  if (!wanted) return;
  Sums sums = {};
  for (int64_t i = 0; i < blocks; ++i) {
    sums.below += partials[i].below;
    sums.above += partials[i].above;
    sums.inside += partials[i].inside;
  }
  const double range = (two_ends ? double{codes.high} - codes.low : double{codes.high}) * double{op.scale.scale};
  const double steps = double{op.inside} * sums.inside / range, factor = op.factor;
  float* const dclip = writable_floats(op.dclip);
  if (two_ends) {
    dclip[0] += static_cast<float>((sums.below - steps) * factor);
    dclip[1] += static_cast<float>((sums.above + steps) * factor);
  } else {
    dclip[0] += static_cast<float>((sums.above - sums.below + steps) * factor);
  }
}

}  // namespace octet::cpu

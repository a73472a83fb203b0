// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/ref/plain_sixteen.h"
#include "octet/backend/cpu/ref/products.h"
#include "octet/backend/cpu/ref/reference.h"
#include "octet/backend/cpu/vector_gradients.h"
#include "octet/backend/cpu/vector_math.h"
#include "octet/base/philox.h"
#include "octet/tensor/half.h"

namespace octet::cpu {
namespace {

struct OneLane {
  float v;

  static OneLane all(float x) { return {x}; }
  friend OneLane operator+(OneLane a, OneLane b) { return {a.v + b.v}; }
  friend OneLane operator-(OneLane a, OneLane b) { return {a.v - b.v}; }
  friend OneLane operator*(OneLane a, OneLane b) { return {a.v * b.v}; }
  friend OneLane operator/(OneLane a, OneLane b) { return {a.v / b.v}; }
};

OneLane fma(OneLane a, OneLane b, OneLane c) { return {std::fma(a.v, b.v, c.v)}; }
OneLane fms(OneLane a, OneLane b, OneLane c) { return {std::fma(a.v, b.v, -c.v)}; }
OneLane min(OneLane a, OneLane b) { return a.v < b.v ? a : b; }
OneLane max(OneLane a, OneLane b) { return a.v > b.v ? a : b; }
OneLane abs(OneLane a) { return {std::fabs(a.v)}; }
OneLane copy_sign(OneLane magnitude, OneLane sign) { return {std::copysign(magnitude.v, sign.v)}; }
OneLane if_less(OneLane a, OneLane b, OneLane yes, OneLane no) { return a.v < b.v ? yes : no; }

// 2^n for t = 1.5 · 2^23 + n, n ≤ 127; 0 for n < -126.
OneLane power_of_two(OneLane t) {
  const int32_t n = std::bit_cast<int32_t>(t.v) - std::bit_cast<int32_t>(0x1.8p23f);
  return {std::bit_cast<float>(static_cast<uint32_t>(std::max(n + 127, 0)) << 23)};
}

// even for an even integer in the low bits of t, else odd; negated for 2 and 3 modulo 4.
OneLane by_quadrant(OneLane t, OneLane even, OneLane odd) {
  const uint32_t n = std::bit_cast<uint32_t>(t.v);
  const float magnitude = (n & 1) == 0 ? even.v : odd.v;
  return {(n & 2) == 0 ? magnitude : -magnitude};
}

float apply_to(float x, Nonlinearity kind) {
  switch (kind) {
    case Nonlinearity::kNone:
      return x;
    case Nonlinearity::kGelu:
      return apply<Nonlinearity::kGelu>(OneLane{x}).v;
    case Nonlinearity::kGeluTanh:
      return apply<Nonlinearity::kGeluTanh>(OneLane{x}).v;
    case Nonlinearity::kRelu:
      return apply<Nonlinearity::kRelu>(OneLane{x}).v;
    case Nonlinearity::kTanh:
      return apply<Nonlinearity::kTanh>(OneLane{x}).v;
    case Nonlinearity::kSilu:
      return apply<Nonlinearity::kSilu>(OneLane{x}).v;
  }
  return x;
}

float rescaled(const Finish& f, int64_t r, int64_t c) {
  const int64_t at = r * f.tile_stride + c;
  const float bias = f.bias != nullptr ? f.bias[r * f.bias_stride + c] : 0.0f;
  const auto with_minimum = [&f, r, c](float t) {
    return std::fma(f.weight_minima[c], f.sums[r], std::fma(t, f.weight_scales[c], 0.0f));
  };
  switch (f.rescale) {
    case Rescale::kNone: {
      const float t = static_cast<const float*>(f.tile)[at];
      return f.bias != nullptr ? t + bias : t;
    }
    case Rescale::kWeight:
      return std::fma(static_cast<const float*>(f.tile)[at], f.weight_scales[c], bias);
    case Rescale::kActivation:
      return std::fma(static_cast<const float*>(f.tile)[at], f.activation_scales[r], bias);
    case Rescale::kBoth:
      return std::fma(static_cast<float>(static_cast<const int32_t*>(f.tile)[at]),
                      f.activation_scales[r] * f.weight_scales[c], bias);
    case Rescale::kWeightMinimum: {
      const float t = with_minimum(static_cast<const float*>(f.tile)[at]);
      return f.bias != nullptr ? t + bias : t;
    }
    case Rescale::kBothMinimum:
      return std::fma(with_minimum(static_cast<float>(static_cast<const int32_t*>(f.tile)[at])), f.activation_scales[r],
                      bias);
  }
  return 0.0f;
}

void finish(const Finish& f) {
  for (int64_t r = 0; r < f.rows; ++r) {
    for (int64_t c = 0; c < f.cols; ++c) {
      float y = apply_to(rescaled(f, r, c), f.nonlinearity);
      if (f.residual != nullptr) y += f.residual[r * f.residual_stride + c];
      f.y[r * f.y_stride + c] = y;
    }
  }
}

void pack_columns(const PackPanels& p) {
  for (int64_t c = 0; c < p.cols; ++c) {
    for (int64_t r = 0; r < p.rows; ++r) p.panels[c * p.rows + r] = p.source[r * p.stride + c];
  }
}

void pack_rows(const PackPanels& p) {
  for (int64_t r = 0; r < p.rows; ++r) std::copy_n(p.source + r * p.stride, p.cols, p.panels + r * p.cols);
}

void softmax(const Softmax& s) {
  const auto exponential = [](float x) { return exp_of_negative(OneLane{x}).v; };
  for (int64_t r = 0; r < s.rows; ++r) {
    float* scores = s.scores + r * s.stride;
    if (s.key_scales != nullptr) {
      for (int64_t j = 0; j < s.cols; ++j) {
        int32_t sum = 0;
        std::memcpy(&sum, scores + j, sizeof(sum));
        scores[j] = static_cast<float>(sum) * (s.query_scales[r] * s.key_scales[j]);
      }
    }
    s.inverse_sums[r] = reference::softmax_row(scores, s.cols, s.scale, exponential);
    if (s.key_scales != nullptr) {
      for (int64_t j = 0; j < s.cols; ++j) scores[j] *= s.value_scales[j];
      s.absmax_bits[r] = ref::absmax_bits(scores, s.cols);
    }
  }
}

void scale(const float* x, int64_t count, float factor, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] * factor;
}

void layer_norm(const LayerNorm& l) {
  for (int64_t r = 0; r < l.rows; ++r) {
    reference::layer_norm_row(l.x + r * l.x_stride, l.cols, l.gamma, l.beta, l.eps, l.y + r * l.y_stride);
  }
}

void rms_norm(const RmsNorm& n) {
  for (int64_t r = 0; r < n.rows; ++r) {
    reference::rms_norm_row(n.x + r * n.x_stride, n.cols, n.gamma, n.eps, n.y + r * n.y_stride);
  }
}

void rope(const Rope& p) {
  const bool halves = p.layout == RotaryLayout::kHalves;
  for (int64_t r = 0; r < p.rows; ++r) {
    const float position = static_cast<float>(p.positions[r]);
    for (int64_t i = 0; i < p.pairs; ++i) {
      const SineCosine<OneLane> turn = sine_cosine(OneLane{position * p.frequencies[i]});
      const float sine = p.backward ? 0.0f - turn.sine.v : turn.sine.v;
      for (int64_t head = 0; head < p.heads; ++head) {
        float* x = p.x + r * p.x_stride + head * p.head_stride;
        reference::rotate(halves ? x[i] : x[2 * i], halves ? x[i + p.pairs] : x[2 * i + 1], sine * p.factor,
                          turn.cosine.v * p.factor);
      }
    }
  }
}

void gated(const Gated& g) {
  const auto nonlinearity = [&g](float x) { return apply_to(x, g.nonlinearity); };
  for (int64_t r = 0; r < g.rows; ++r) {
    reference::gated_row(g.x + r * g.x_stride, g.cols, nonlinearity, g.y + r * g.y_stride);
  }
}

void pool(const PoolColumns& p) {
  for (int64_t c = 0; c < p.cols; ++c) {
    float y = p.x[c];
    for (int64_t r = 1; r < p.rows; ++r) {
      const float x = p.x[r * p.x_stride + c];
      if (p.kind == PoolColumns::Kind::kSum) {
        y += x;
      } else if (!(y >= x) && !std::isnan(y)) {
        y = x;  // the larger; NaN, once met, stays
      }
    }
    p.y[c] = p.kind == PoolColumns::Kind::kSum ? y / p.divisor : y;
  }
}

float widened(const void* row, TableElement element, int64_t i) {
  switch (element) {
    case TableElement::kF64:
      return static_cast<float>(static_cast<const double*>(row)[i]);
    case TableElement::kF32:
      return static_cast<const float*>(row)[i];
    case TableElement::kF16:
      return to_float(static_cast<const Half*>(row)[i]);
    case TableElement::kBF16:
      return to_float(static_cast<const BFloat16*>(row)[i]);
  }
  return 0.0f;
}

void embed(const void* row, TableElement element, int64_t count, Start start, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = widened(row, element, i);
    y[i] = start == Start::kFromTile ? y[i] + x : x;
  }
}

void random_words(const RandomWords& r) {
  for (int64_t i = 0; i < r.count; ++i) {
    const uint64_t counter = r.counter + static_cast<uint64_t>(i);
    const std::array<uint32_t, 4> words =
        philox({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), r.stream, r.step}, r.seed);
    std::ranges::copy(words, r.words + 4 * i);
  }
}

constexpr KernelTable kTable = {
    .name = "ref",
    .panel_width = 1,
    .tile_panels = 16,
    .wide_panels = 16,
    .row_block = 16,
    .k_block = 384,
    .product_f32 = ref::product_f32,
    .f16 = {.format = {.bits = 16}, .product = ref::product_f16, .widen = ref::widen_f16},
    .bf16 = {.format = {.bits = 16}, .product = ref::product_bf16, .widen = ref::widen_bf16},
    .w8a16 = {.format = {.bits = 8}, .product = ref::product_w8a16, .widen = ref::widen_w8},
    .w4a16 = {.format = {.bits = 4, .nibble_block = 2}, .product = ref::product_w4a16, .widen = ref::widen_w4},
    .w8a8 = {.format = {.bits = 8},
             .row_bytes = plain_row_bytes,
             .quantize = ref::quantize,
             .arrange = ref::arrange,
             .product = ref::product_w8a8},
    .w4a8 = {.format = {.bits = 4, .nibble_block = 2},
             .row_bytes = plain_row_bytes,
             .quantize = ref::quantize,
             .arrange = ref::arrange,
             .product = ref::product_w4a8},
    .int8_attention = {.absmax = ref::absmax_rows,
                       .quantize = ref::quantize_rows,
                       .pack_keys = ref::pack_keys,
                       .pack_values = ref::pack_values,
                       .scores = ref::product_w8a8,
                       .mix = ref::product_w8a8,
                       .scale = ref::scale_sums},
    .finish = finish,
    .absmax_bits = ref::absmax_bits,
    .pack_columns = pack_columns,
    .pack_rows = pack_rows,
    .softmax = softmax,
    .scale = scale,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .rope = rope,
    .gated = gated,
    .l2_normalize = reference::l2_normalize_row<float>,
    .pool = pool,
    .embed = embed,
    .random_words = random_words,
    .gradients = gradient_kernels<PlainSixteen>(),
};

}  // namespace

const KernelTable* ref_kernels() { return &kTable; }

}  // namespace octet::cpu

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/cpu_backend.h"
#include "octet/quant/quantize.h"
#include "octet/tensor/half.h"
#include "tests/backend/cases.h"

/// What tests and benchmarks of the backends share: matrices in a backend's memory, random tensors, linear layers.
namespace octet::backend_cases {

/// Memory of a backend, freed at the end.
class Memory {
 public:
  Memory(Backend& backend, int64_t bytes) : backend_(&backend), span_(backend.allocate(bytes)) {}
  template <class T>
  Memory(Backend& backend, const std::vector<T>& values)
      : Memory(backend, static_cast<int64_t>(values.size() * sizeof(T))) {
    backend.upload(std::as_bytes(std::span(values)), span_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&& other) noexcept : backend_(other.backend_), span_(std::exchange(other.span_, {})) {}
  ~Memory() { backend_->free(span_); }

  DeviceSpan span() const { return span_; }

 private:
  Backend* backend_;
  DeviceSpan span_;
};

/// Normally distributed numbers; the same for a seed everywhere.
inline std::vector<float> random_floats(int64_t count, uint64_t seed, float deviation = 1.0f) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

/// The values rounded to an fp32, fp16 or bf16 tensor.
inline Tensor tensor_of(std::span<const float> values, Shape shape, DType dtype = DType::kF32) {
  Tensor tensor(dtype, shape);
  const auto fill = [&]<class Element>(auto round) {
    std::transform(values.begin(), values.end(), tensor.mutable_as<Element>().begin(), round);
  };
  if (dtype == DType::kF16) {
    fill.template operator()<Half>(to_half);
  } else if (dtype == DType::kBF16) {
    fill.template operator()<BFloat16>(to_bfloat16);
  } else {
    fill.template operator()<float>([](float x) { return x; });
  }
  return tensor;
}

/// A matrix in a backend's memory whose rows are further apart than they are long; the gaps hold a mark, so that a test
/// sees who writes there. The memory ends with the last row: whoever goes beyond meets the address sanitizer.
class Matrix {
 public:
  static constexpr float kMark = -12345.5f;

  Matrix(Backend& backend, int64_t rows, int64_t cols, int64_t gap, std::span<const float> values = {})
      : backend_(&backend),
        host_(rows == 0 ? 0 : static_cast<size_t>((rows - 1) * (cols + gap) + cols), kMark),
        memory_(backend, static_cast<int64_t>(host_.size()) * 4),
        activation_{memory_.span(), rows, cols, cols + gap} {
    if (!values.empty()) {
      for (int64_t r = 0; r < rows; ++r) {
        std::copy_n(values.begin() + r * cols, cols, host_.begin() + r * (cols + gap));
      }
    }
    backend.upload(std::as_bytes(std::span(host_)), memory_.span());
  }

  const Activation& activation() const { return activation_; }
  std::vector<float> values() const {
    std::vector<float> out(static_cast<size_t>(activation_.rows * activation_.cols));
    backend_->download(activation_, out);
    return out;
  }
  /// Whether all gaps still hold the mark.
  bool gaps_untouched() const {
    std::vector<float> all(host_.size());
    backend_->download(memory_.span(), std::as_writable_bytes(std::span(all)));
    for (size_t i = 0; i < all.size(); ++i) {
      if (static_cast<int64_t>(i) % activation_.stride >= activation_.cols && all[i] != kMark) return false;
    }
    return true;
  }

 private:
  Backend* backend_;
  std::vector<float> host_;
  Memory memory_;
  Activation activation_;
};

/// The ends of a scheme's codes.
inline int lowest_code(const WeightScheme& scheme) {
  if (scheme.bits == 8) return -128;
  return scheme.mapping == CodeMapping::kSymmetric ? -8 : 0;
}
inline int highest_code(const WeightScheme& scheme) {
  if (scheme.bits == 8) return 127;
  return scheme.mapping == CodeMapping::kSymmetric ? 7 : 15;
}

/// A quantized weight of any codes, and zero points or minima, that its scheme allows; the same for a seed everywhere.
inline QTensor random_weight(int64_t rows, int64_t cols, const WeightScheme& scheme, uint64_t seed) {
  const Shape per_group{rows, scheme.groups(cols)};
  QTensor weight{scheme, Tensor(DType::kI8, {rows, cols}), Tensor(DType::kF32, per_group)};
  std::mt19937_64 engine(seed);
  const int lowest = lowest_code(scheme), count = highest_code(scheme) - lowest + 1;
  const auto code = [&] { return static_cast<int8_t>(lowest + static_cast<int>(engine() % count)); };
  for (int8_t& value : weight.codes.mutable_as<int8_t>()) value = code();
  // Weights of about 1 / √K.
  const float size = 2.0f / (static_cast<float>(count) * std::sqrt(static_cast<float>(cols)));
  for (float& value : weight.scales.mutable_as<float>()) {
    value = (0.5f + static_cast<float>(engine() % 1024) / 1024) * (engine() % 8 == 0 ? -size : size);
  }
  if (scheme.mapping == CodeMapping::kZeroPoint) {
    weight.zero_points = Tensor(DType::kI8, per_group);
    for (int8_t& value : weight.zero_points.mutable_as<int8_t>()) value = code();
  }
  if (scheme.mapping == CodeMapping::kMinimum) {
    weight.minima = Tensor(DType::kF32, per_group);
    for (float& value : weight.minima.mutable_as<float>()) {
      value = size * (static_cast<float>(engine() % 2048) / 64 - 16);
    }
  }
  if (scheme.reordered) {
    weight.group_index = Tensor(DType::kI32, {cols});
    const std::span<int32_t> groups = weight.group_index.mutable_as<int32_t>();
    for (int64_t k = 0; k < cols; ++k) groups[k] = static_cast<int32_t>(k / scheme.group_size);
    std::mt19937_64 order(static_cast<uint64_t>(cols));  // parts of one width can be stacked
    std::shuffle(groups.begin(), groups.end(), order);
  }
  return weight;
}

/// Columns group by group, ascending within one: the order in which products add up.
inline std::vector<int64_t> columns_in_order(const QTensor& weight) {
  std::vector<int64_t> order(static_cast<size_t>(weight.cols()));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (weight.scheme.reordered) {
    const std::span<const int32_t> groups = weight.group_index.as<int32_t>();
    std::ranges::stable_sort(order, {}, [groups](int64_t k) { return groups[k]; });
  }
  return order;
}

/// code - zero point of output n at input k, and the scale and the minimum (0 where there are none) of the two.
inline int64_t group_of(const QTensor& weight, int64_t n, int64_t k) {
  const int64_t group =
      weight.scheme.reordered ? weight.group_index.as<int32_t>()[k] : k / (weight.cols() / weight.groups());
  return n * weight.groups() + group;
}
inline int centred_code(const QTensor& weight, int64_t n, int64_t k) {
  const int code = weight.codes.as<int8_t>()[n * weight.cols() + k];
  if (weight.scheme.mapping != CodeMapping::kZeroPoint) return code;
  return code - weight.zero_points.as<int8_t>()[group_of(weight, n, k)];
}
inline float scale_of(const QTensor& weight, int64_t n, int64_t k) {
  return weight.scales.as<float>()[group_of(weight, n, k)];
}
inline float minimum_of(const QTensor& weight, int64_t n, int64_t k) {
  return weight.scheme.mapping == CodeMapping::kMinimum ? weight.minima.as<float>()[group_of(weight, n, k)] : 0.0f;
}

/// The numbers of a linear layer, before any backend has them. K must hold whole groups.
struct LinearData {
  LinearCase shape;
  Weights weights;
  std::vector<float> x, bias, residual;
  Tensor weight;
  QTensor quantized;
  ActivationScale input = {};  ///< of static activations: some of x, which has the deviation 1, lies beyond its range

  LinearData(const LinearCase& c, const Weights& kind, uint64_t seed)
      : shape(c),
        weights(kind),
        x(random_floats(c.m * c.k, seed)),
        bias(c.bias ? random_floats(c.n, seed + 1) : std::vector<float>()),
        residual(c.residual ? random_floats(c.m * c.n, seed + 2) : std::vector<float>()) {
    if (kind.activations() == ActivationMode::kStaticPerTensor) input = {.scale = 2.5f / 127, .zero_point = 0};
    if (kind.activations() == ActivationMode::kStaticPerTensorZeroPoint)
      input = {.scale = 4.5f / 255, .zero_point = 97};
    if (kind.scheme) {
      quantized = random_weight(c.n, c.k, kind.scheme->weight, seed + 3);
    } else {
      const std::vector<float> values = random_floats(c.n * c.k, seed + 3, 1 / std::sqrt(static_cast<float>(c.k)));
      weight = tensor_of(values, {c.n, c.k}, kind.dtype);
    }
  }
};

/// Row m of x as the product sees it: codes less their zero point, and their scale.
struct CodesOfRow {
  std::vector<int> codes;
  float scale = 0;

  CodesOfRow(const LinearData& data, int64_t m) {
    const int64_t depth = data.shape.k;
    const std::span<const float> x = std::span(data.x).subspan(m * depth, depth);
    const ActivationMode mode = data.weights.activations();
    if (mode == ActivationMode::kDynamicPerToken) {
      std::vector<int8_t> made(x.size());
      scale = quantize_row(x, made);
      codes.assign(made.begin(), made.end());
      return;
    }
    scale = data.input.scale;
    for (const float value : x) {
      codes.push_back(mode == ActivationMode::kStaticPerTensor
                          ? int8_code(value, 1 / scale)
                          : uint8_code(value, 1 / scale, data.input.zero_point) - data.input.zero_point);
    }
  }
};

/// The layer in a backend's memory. y starts as a copy of the residual where `residual_is_y`.
struct LinearOnBackend {
  Matrix x, y;
  std::unique_ptr<Matrix> residual;
  std::unique_ptr<Memory> bias;
  std::unique_ptr<PackedWeight> weight;
  LinearOp op;

  LinearOnBackend(Backend& backend, const LinearData& data, int64_t gap, bool residual_is_y)
      : x(backend, data.shape.m, data.shape.k, gap, data.x),
        y(backend, data.shape.m, data.shape.n, 2 * gap,
          residual_is_y ? std::span<const float>(data.residual) : std::span<const float>()) {
    if (data.shape.residual && !residual_is_y) {
      residual = std::make_unique<Matrix>(backend, data.shape.m, data.shape.n, 3 * gap, data.residual);
    }
    if (data.shape.bias) bias = std::make_unique<Memory>(backend, data.bias);
    if (data.weights.scheme) {
      const QTensor* quantized = &data.quantized;
      weight = backend.pack({&quantized, 1}, data.weights.scheme->activations);
    } else {
      const ConstTensorView view = data.weight.view();
      weight = backend.pack({&view, 1});
    }
    op.x = x.activation();
    op.weight = weight.get();
    if (bias) op.bias = bias->span();
    op.nonlinearity = data.shape.nonlinearity;
    op.input = data.input;
    if (data.shape.residual) op.residual = residual_is_y ? y.activation() : residual->activation();
    op.y = y.activation();
  }
};

inline constexpr float kAttentionScale = 0.25f;

/// Columns of q, k and v side by side, as one product writes them.
inline int64_t columns_of(const AttentionCase& c) { return (c.heads + 2 * c.key_heads()) * c.head_width; }

inline std::vector<float> random_qkv(const AttentionCase& c, uint64_t seed) {
  const int64_t rows = std::accumulate(c.lengths.begin(), c.lengths.end(), int64_t{0});
  return random_floats(rows * columns_of(c), seed);
}

inline AttentionOp op_of(const AttentionCase& c, const Activation& qkv, const Activation& y, DeviceSpan offsets) {
  const int64_t width = c.head_width, stride = c.head_by_head ? 3 * width : width;
  const int64_t first_k = c.head_by_head ? width : c.heads * width;
  const int64_t first_v = first_k + (c.head_by_head ? 1 : c.key_heads()) * width;
  const HeadColumns q{c.heads, width, stride}, kv{c.key_heads(), width, stride};
  return {.q = qkv.columns(0, q.columns()),
          .k = qkv.columns(first_k, kv.columns()),
          .v = qkv.columns(first_v, kv.columns()),
          .y = y,
          .heads = c.heads,
          .kv_heads = c.key_heads(),
          .head_width = width,
          .head_stride = stride,
          .scale = kAttentionScale,
          .offsets = offsets,
          .sequences = static_cast<int64_t>(c.lengths.size()),
          .longest = *std::ranges::max_element(c.lengths),
          .causal = c.causal,
          .window = c.window,
          .cache = {},
          .activations = c.activations,
          .scales = kStaticAttentionScales,
          .site = 7};
}

inline std::vector<int32_t> offsets_of(std::span<const int32_t> lengths) {
  std::vector<int32_t> offsets = {0};
  for (const int32_t length : lengths) offsets.push_back(offsets.back() + length);
  return offsets;
}

}  // namespace octet::backend_cases

// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/quant/quantize.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

// INT8 between operations: what one leaves is what the next would have made of its fp32.
namespace octet::backend_cases {
namespace {

constexpr int kSite = 5;

// Both kinds, of few bits too; of numbers of deviation 1 some lie beyond their ranges.
const std::vector<StaticCodes> kKinds = {
    {ActivationMode::kStaticPerTensor, {.scale = 2.5f / 127, .zero_point = 0}, kSite},
    {ActivationMode::kStaticPerTensor, {.scale = 1.5f / 7, .zero_point = 0, .bits = 4}, kSite},
    {ActivationMode::kStaticPerTensor, {.scale = 1.25f, .zero_point = 0, .bits = 2}, kSite},
    {ActivationMode::kStaticPerTensorZeroPoint, {.scale = 3.0f / 255, .zero_point = 77}, kSite},
    {ActivationMode::kStaticPerTensorZeroPoint, {.scale = 3.0f / 7, .zero_point = 2, .bits = 3}, kSite}};

std::vector<int8_t> codes_of(std::span<const float> values, const StaticCodes& kind) {
  const float inverse = 1 / kind.scale.scale;
  std::vector<int8_t> codes;
  for (const float value : values) {
    codes.push_back(
        kind.mode == ActivationMode::kStaticPerTensor
            ? int8_code(value, inverse, kind.scale.bits)
            : static_cast<int8_t>(uint8_code(value, inverse, kind.scale.zero_point, kind.scale.bits) - 128));
  }
  return codes;
}

// A matrix of codes with gaps between its rows.
class CodeMatrix {
 public:
  static constexpr int8_t kMark = 99;

  CodeMatrix(Backend& backend, int64_t rows, int64_t cols, int64_t gap, const StaticCodes& kind,
             std::span<const int8_t> codes = {})
      : backend_(backend),
        all_(rows == 0 ? 0 : static_cast<size_t>((rows - 1) * (cols + gap) + cols), kMark),
        memory_(backend, static_cast<int64_t>(all_.size())),
        activation_{memory_.span(), rows, cols, cols + gap, kind} {
    for (int64_t r = 0; r < rows && !codes.empty(); ++r) {
      std::copy_n(codes.begin() + r * cols, cols, all_.begin() + r * (cols + gap));
    }
    backend.upload(std::as_bytes(std::span(all_)), memory_.span());
  }

  const Activation& activation() const { return activation_; }
  // Without the gaps, in which nothing may have been written.
  std::vector<int8_t> codes() {
    backend_.download(memory_.span(), std::as_writable_bytes(std::span(all_)));
    std::vector<int8_t> out;
    for (size_t i = 0; i < all_.size(); ++i) {
      if (static_cast<int64_t>(i) % activation_.stride < activation_.cols) {
        out.push_back(all_[i]);
      } else {
        EXPECT_EQ(all_[i], kMark) << "written between rows, at " << i;
      }
    }
    return out;
  }

 private:
  Backend& backend_;
  std::vector<int8_t> all_;
  Memory memory_;
  Activation activation_;
};

TEST(Codes, AProductLeavesThoseOfItsFloats) {
  for (const Weights& weights : kMainWeights) {
    for (const LinearCase& c : {LinearCase{1, 41, 300, Nonlinearity::kNone, true, false, "one row"},
                                LinearCase{21, 200, 96, Nonlinearity::kGelu, true, true, "odd"},
                                LinearCase{50, 7, 33, Nonlinearity::kRelu, false, false, "narrow"}}) {
      const LinearData data(fitted(c, weights), weights, 31);
      for (const std::string& isa : cpu_isas()) {
        const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
        LinearOnBackend layer(*backend, data, 3, false);
        backend->linear(layer.op);
        const std::vector<float> floats = layer.y.values();
        for (const StaticCodes& kind : kKinds) {
          CodeMatrix y(*backend, c.m, c.n, 5, kind);
          layer.op.y = y.activation();
          backend->linear(layer.op);
          EXPECT_EQ(y.codes(), codes_of(floats, kind)) << isa << " " << name(weights) << " " << c.what;
          EXPECT_FALSE(backend->take_fault());
        }
      }
    }
  }
}

TEST(Codes, AProductTakesThoseThatItWouldMake) {
  for (const Weights& weights : all_weights()) {
    if (!is_static(weights.activations())) continue;
    for (const int64_t rows : {1, 5, 70}) {
      for (const int64_t depth : {33, 1100}) {
        const LinearCase c{rows, 150, depth, Nonlinearity::kNone, true, false, "codes"};
        const LinearData data(fitted(c, weights), weights, 32);
        for (const std::string& isa : cpu_isas()) {
          const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
          LinearOnBackend layer(*backend, data, 1, false);
          backend->linear(layer.op);
          const std::vector<float> expected = layer.y.values();
          const StaticCodes kind{weights.activations(), data.input};
          const CodeMatrix x(*backend, rows, data.shape.k, 9, kind, codes_of(data.x, kind));
          layer.op.x = x.activation();
          backend->linear(layer.op);
          EXPECT_TRUE(same_bits(layer.y.values(), expected)) << isa << " " << name(weights) << " " << rows;
        }
      }
    }
  }
}

// That is all that fewer bits are: what they clamp is clamped, and the product is that of 8.
TEST(Codes, FewerBitsAreThoseOfAClampedInput) {
  for (const Weights& weights : all_weights()) {
    if (!is_static(weights.activations())) continue;
    for (const int64_t rows : {1, 5, 70}) {
      for (int bits = 2; bits < 8; ++bits) {
        const LinearCase c{rows, 41, 65, Nonlinearity::kNone, true, false, "bits"};
        LinearData data(fitted(c, weights), weights, 33), clamped(fitted(c, weights), weights, 33);
        const bool zero_point = weights.activations() == ActivationMode::kStaticPerTensorZeroPoint;
        const int steps = zero_point ? (1 << bits) - 1 : (1 << (bits - 1)) - 1;
        data.input = {
            .scale = 2.0f / static_cast<float>(steps), .zero_point = zero_point ? steps / 3 : 0, .bits = bits};
        clamped.input = data.input;
        clamped.input.bits = 8;
        const float low = static_cast<float>(zero_point ? -data.input.zero_point : -steps) * data.input.scale;
        const float high = static_cast<float>(steps - data.input.zero_point) * data.input.scale;
        for (float& x : clamped.x) x = std::clamp(x, low, high);
        for (const std::string& isa : cpu_isas()) {
          const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
          const LinearOnBackend few(*backend, data, 1, false), eight(*backend, clamped, 1, false);
          backend->linear(few.op);
          backend->linear(eight.op);
          EXPECT_TRUE(same_bits(few.y.values(), eight.y.values())) << isa << " " << name(weights) << " " << bits;
          const Matrix x(*backend, rows, data.shape.k, 2, data.x), y(*backend, rows, data.shape.k, 1);
          backend->round_trip(
              {.x = x.activation(), .mode = weights.activations(), .scale = data.input, .y = y.activation()});
          for (const float value : y.values()) {
            ASSERT_GE(value, low);
            ASSERT_LE(value, high);
          }
        }
      }
    }
  }
}

TEST(Codes, AGatedUnitLeavesThoseOfItsFloats) {
  for (const int64_t cols : {1, 8, 100, 1536}) {
    constexpr int64_t kRows = 37;
    const std::vector<float> values = random_floats(kRows * 2 * cols, 33, 2.0f);
    for (const std::string& isa : cpu_isas()) {
      const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
      const Matrix x(*backend, kRows, 2 * cols, 4, values), floats(*backend, kRows, cols, 0);
      backend->gated({x.activation(), Nonlinearity::kSilu, floats.activation()});
      for (const StaticCodes& kind : kKinds) {
        CodeMatrix y(*backend, kRows, cols, 3, kind);
        backend->gated({x.activation(), Nonlinearity::kSilu, y.activation()});
        EXPECT_EQ(y.codes(), codes_of(floats.values(), kind)) << isa << " " << cols;
      }
    }
  }
}

TEST(Codes, AttentionLeavesThoseOfItsFloats) {
  for (const ActivationMode products : {ActivationMode::kFloat, ActivationMode::kDynamicPerToken}) {
    for (const int64_t head_width : {7, 32}) {
      const AttentionCase c{.lengths = {5, 0, 70, 1},
                            .heads = 6,
                            .head_width = head_width,
                            .what = "codes",
                            .kv_heads = 2,
                            .causal = true,
                            .activations = products};
      const std::vector<int32_t> offsets = offsets_of(c.lengths);
      const int64_t rows = offsets.back(), cols = c.heads * head_width;
      const std::vector<float> values = random_qkv(c, 34);
      for (const std::string& isa : cpu_isas()) {
        const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
        const Matrix qkv(*backend, rows, columns_of(c), 2, values), floats(*backend, rows, cols, 0);
        const Memory offset_memory(*backend, offsets);
        backend->attention(op_of(c, qkv.activation(), floats.activation(), offset_memory.span()));
        for (const StaticCodes& kind : kKinds) {
          CodeMatrix y(*backend, rows, cols, 3, kind);
          backend->attention(op_of(c, qkv.activation(), y.activation(), offset_memory.span()));
          EXPECT_EQ(y.codes(), codes_of(floats.values(), kind)) << isa << " " << head_width;
        }
      }
    }
  }
}

TEST(Codes, WhatHasNoneIsAFaultOfTheReader) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    LinearData data({9, 40, 64, Nonlinearity::kNone, false, false, "faults"}, kF32, 35);
    data.x[6 * 64 + 3] = bad;
    for (const std::string& isa : cpu_isas()) {
      const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
      LinearOnBackend layer(*backend, data, 0, false);
      CodeMatrix y(*backend, 9, 40, 0, kKinds[0]);
      layer.op.y = y.activation();
      layer.op.site = kSite + 1;
      backend->linear(layer.op);
      const std::optional<NumericFault> fault = backend->take_fault();
      ASSERT_TRUE(fault);
      EXPECT_EQ(fault->site, kSite);
      EXPECT_EQ(fault->row, 6);
      const std::vector<int8_t> codes = y.codes();
      EXPECT_EQ(std::vector<int8_t>(codes.begin() + 6 * 40, codes.begin() + 7 * 40), std::vector<int8_t>(40, 0));
    }
  }
}

TEST(Codes, OthersThanTheWeightWasPackedForAreRefused) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = "ref"});
  const Weights weights = quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensor);
  const LinearData data({3, 8, 16, Nonlinearity::kNone, false, false, "refused"}, weights, 36);
  LinearOnBackend layer(*backend, data, 0, false);
  const std::vector<int8_t> codes(3 * 16, 1);
  StaticCodes other{ActivationMode::kStaticPerTensor, data.input};
  other.scale.scale *= 2;
  const CodeMatrix of_other_scale(*backend, 3, 16, 0, other, codes);
  layer.op.x = of_other_scale.activation();
  EXPECT_THROW(backend->linear(layer.op), Error);
  const CodeMatrix of_other_kind(*backend, 3, 16, 0, kKinds[1], codes);
  layer.op.x = of_other_kind.activation();
  EXPECT_THROW(backend->linear(layer.op), Error);
  EXPECT_THROW(backend->l2_normalize(of_other_kind.activation()), ShapeError);

  const LinearData floats({3, 8, 16, Nonlinearity::kNone, false, false, "refused"}, kF32, 37);
  LinearOnBackend float_layer(*backend, floats, 0, false);
  float_layer.op.x = of_other_kind.activation();
  EXPECT_THROW(backend->linear(float_layer.op), Error);
}

}  // namespace
}  // namespace octet::backend_cases

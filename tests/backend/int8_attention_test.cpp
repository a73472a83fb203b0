// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/quant/quantize.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

// What attention in INT8 is beyond what attention_test.cpp holds of both modes.
namespace octet::backend_cases {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

AttentionCase int8_case(AttentionCase c) { return in_mode(std::move(c), ActivationMode::kDynamicPerToken); }

struct Result {
  std::vector<float> y;
  std::optional<NumericFault> fault;
};

Result run(const AttentionCase& c, std::span<const float> qkv, const std::string& isa, int threads = 1) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const std::vector<int32_t> offsets = offsets_of(c.lengths);
  const Matrix all(*backend, offsets.back(), columns_of(c), 0, qkv);
  const Matrix y(*backend, offsets.back(), c.heads * c.head_width, 0);
  const Memory offset_memory(*backend, offsets);
  backend->attention(op_of(c, all.activation(), y.activation(), offset_memory.span()));
  return {y.values(), backend->take_fault()};
}

struct Row {
  std::vector<int8_t> codes;
  float scale;

  explicit Row(std::span<const float> x) : codes(x.size()), scale(quantize_row(x, codes)) {}
  Row(std::span<const float> x, float fixed) : scale(fixed) {
    for (const float value : x) codes.push_back(int8_code(value, 1.0f / fixed));
  }
};

Row row_of(const AttentionCase& c, std::span<const float> x, float fixed) {
  return c.activations == ActivationMode::kStaticPerTensor ? Row(x, fixed) : Row(x);
}

int64_t dot(const Row& a, const Row& b) {
  int64_t sum = 0;
  for (size_t i = 0; i < a.codes.size(); ++i) sum += int64_t{a.codes[i]} * b.codes[i];
  return sum;
}

// The contract, row by row, with the exponential and what follows it in double, but for what decides codes.
std::vector<double> expected_of(const AttentionCase& c, std::span<const float> qkv) {
  const int64_t columns = columns_of(c), width = c.head_width, rows = c.lengths.front();
  const auto part = [&](int64_t row, int64_t head) { return qkv.subspan(row * columns + head * width, width); };
  std::vector<double> y(static_cast<size_t>(rows * c.heads * width));
  for (int64_t head = 0; head < c.heads; ++head) {
    const int64_t kv = head / (c.heads / c.key_heads());
    std::vector<Row> keys, values;
    for (int64_t j = 0; j < rows; ++j) {
      keys.push_back(row_of(c, part(j, c.heads + kv), kStaticAttentionScales.k));
      values.push_back(row_of(c, part(j, c.heads + c.key_heads() + kv), kStaticAttentionScales.v));
    }
    for (int64_t i = 0; i < rows; ++i) {
      const Row query = row_of(c, part(i, head), kStaticAttentionScales.q);
      const int64_t last = c.causal ? i + 1 : rows, first = c.window == 0 ? 0 : std::max<int64_t>(0, last - c.window);
      std::vector<float> scores, weights;
      for (int64_t j = first; j < last; ++j) {
        scores.push_back(static_cast<float>(dot(query, keys[j])) * (query.scale * keys[j].scale) * kAttentionScale);
      }
      double sum = 0;
      for (int64_t j = first; j < last; ++j) {
        const double p = std::exp(double{scores[j - first]} - *std::ranges::max_element(scores));
        sum += p;
        weights.push_back(static_cast<float>(p) * values[j].scale);
      }
      const Row p(weights);
      for (int64_t d = 0; d < width; ++d) {
        int64_t mixed = 0;
        for (int64_t j = first; j < last; ++j) mixed += int64_t{p.codes[j - first]} * values[j].codes[d];
        y[(i * c.heads + head) * width + d] = static_cast<double>(mixed) * p.scale / sum;
      }
    }
  }
  return y;
}

TEST(Int8Attention, IsWhatTheContractSaysInInt64AndDouble) {
  const std::vector<AttentionCase> cases = {{{70}, 2, 24, "full"},
                                            {{41}, 2, 7, "odd width"},
                                            {{75}, 4, 12, "causal, groups", 2, true},
                                            {{90}, 4, 16, "window", 1, true, 13}};
  for (const AttentionCase& each : cases) {
    for (const ActivationMode mode : kInt8AttentionModes) {
      const AttentionCase c = in_mode(each, mode);
      const std::vector<float> qkv = random_qkv(c, 21);
      const std::vector<double> expected = expected_of(c, qkv);
      for (const std::string& isa : cpu_isas()) {
        EXPECT_TRUE(near(run(c, qkv, isa).y, expected, [](size_t) { return 2e-6; }))
            << c.what << ", " << name(mode) << " on " << isa;
      }
    }
  }
}

TEST(Int8Attention, IsCloseToFloatAttention) {
  const AttentionCase c{{200}, 4, 32, "close", 2, true};
  const std::vector<float> qkv = random_qkv(c, 22);
  const std::vector<float> exact = run(c, qkv, "ref").y;
  for (const ActivationMode mode : kInt8AttentionModes) {
    const std::vector<float> coded = run(in_mode(c, mode), qkv, "ref").y;
    double error = 0, size = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      error += std::pow(double{exact[i]} - coded[i], 2);
      size += std::pow(double{exact[i]}, 2);
    }
    // A scale for all rows is too long a step for most of them.
    EXPECT_LT(std::sqrt(error / size), mode == ActivationMode::kStaticPerTensor ? 0.03 : 0.02) << name(mode);
    EXPECT_GT(error, 0);
  }
}

TEST(Int8Attention, AStaticScaleDecidesTheCodesOfAllRows) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const AttentionCase c = in_mode({{40}, 2, 8, "scales", 0, true}, ActivationMode::kStaticPerTensor);
  const std::vector<float> qkv = random_qkv(c, 26);
  const Matrix all(*backend, 40, columns_of(c), 0, qkv), y(*backend, 40, 16, 0);
  const Memory offsets(*backend, offsets_of(c.lengths));
  AttentionOp op = op_of(c, all.activation(), y.activation(), offsets.span());
  const auto run_with = [&](const AttentionScales& scales) {
    op.scales = scales;
    backend->attention(op);
    return y.values();
  };
  const std::vector<float> before = run_with(kStaticAttentionScales);
  for (float AttentionScales::*operand : {&AttentionScales::q, &AttentionScales::k, &AttentionScales::v}) {
    AttentionScales other = kStaticAttentionScales;
    other.*operand *= 0.5f;
    EXPECT_NE(run_with(other), before);
  }
  op.activations = ActivationMode::kStaticPerTensorZeroPoint;
  EXPECT_THROW(backend->attention(op), Error);
}

TEST(Int8Attention, FewerBitsAreThoseOfClampedOperands) {
  const AttentionCase c = in_mode({{33, 7}, 4, 20, "bits", 2, true}, ActivationMode::kStaticPerTensor);
  const int64_t columns = columns_of(c), values_from = (c.heads + c.key_heads()) * c.head_width;
  const std::vector<float> qkv = random_qkv(c, 27);
  for (const AttentionBits bits : {AttentionBits{4, 4}, {2, 8}, {8, 3}, {7, 5}}) {
    AttentionScales scales{.q = 2.0f, .k = 2.5f, .v = 1.5f, .bits = bits};
    const auto last_of = [](int of) { return static_cast<float>((1 << (of - 1)) - 1); };
    scales.q /= last_of(bits.qk), scales.k /= last_of(bits.qk), scales.v /= last_of(bits.v);
    std::vector<float> clamped = qkv;
    for (size_t i = 0; i < clamped.size(); ++i) {
      const auto column = static_cast<int64_t>(i) % columns;
      const float end = column < c.heads * c.head_width ? scales.q * last_of(bits.qk)
                        : column < values_from          ? scales.k * last_of(bits.qk)
                                                        : scales.v * last_of(bits.v);
      clamped[i] = std::clamp(clamped[i], -end, end);
    }
    for (const std::string& isa : cpu_isas()) {
      const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = isa});
      const Memory offsets(*backend, offsets_of(c.lengths));
      const auto run_with = [&](const AttentionScales& by, const std::vector<float>& on) {
        const Matrix all(*backend, 40, columns, 0, on), y(*backend, 40, c.heads * c.head_width, 0);
        AttentionOp op = op_of(c, all.activation(), y.activation(), offsets.span());
        op.scales = by;
        backend->attention(op);
        return y.values();
      };
      AttentionScales eight = scales;
      eight.bits = {};
      const std::vector<float> few = run_with(scales, qkv);
      EXPECT_TRUE(same_bits(few, run_with(eight, clamped))) << isa << " " << bits.qk << " " << bits.v;
      EXPECT_NE(few, run_with(eight, qkv)) << isa;
    }
  }
}

// The largest codes everywhere, of either sign: sums that int16 or saturation would spoil, on every kernel.
TEST(Int8Attention, ExtremeValuesAreExactOnEveryInstructionSet) {
  const AttentionCase extreme{{130}, 2, 64, "extreme", 1, true};
  const int64_t columns = columns_of(extreme);
  const auto filled = [&](auto value) {
    std::vector<float> qkv(static_cast<size_t>(130 * columns));
    for (int64_t i = 0; i < 130 * columns; ++i) qkv[i] = value(i / columns, i % columns);
    return qkv;
  };
  const std::vector<std::pair<const char*, std::vector<float>>> inputs = {
      {"all equal", filled([](int64_t, int64_t) { return 1.0f; })},
      {"all negative", filled([](int64_t, int64_t) { return -3.0f; })},
      {"zeros", filled([](int64_t, int64_t) { return 0.0f; })},
      {"signs in turn", filled([](int64_t r, int64_t col) { return (r + col) % 2 == 0 ? 2.0f : -2.0f; })},
      {"one huge among tiny", filled([](int64_t r, int64_t col) { return r == 5 && col % 64 == 3 ? 1e4f : 1e-30f; })},
      {"subnormal", filled([](int64_t r, int64_t col) { return 1e-40f * static_cast<float>((r * 7 + col) % 5 - 2); })},
      {"large", filled([](int64_t r, int64_t col) { return 1e15f * static_cast<float>((r * 7 + col) % 5 - 2); })}};
  for (const auto& [what, qkv] : inputs) {
    for (const ActivationMode mode : kInt8AttentionModes) {
      const AttentionCase c = in_mode(extreme, mode);
      const std::vector<float> expected = run(c, qkv, "ref").y;
      for (const float y : expected) ASSERT_TRUE(std::isfinite(y)) << what;
      EXPECT_TRUE(near(expected, expected_of(c, qkv), [&](size_t i) { return 2e-6 * std::abs(expected[i]) + 1e-37; }))
          << what << ", " << name(mode);
      for (const std::string& isa : vector_isas()) EXPECT_TRUE(same_bits(run(c, qkv, isa).y, expected)) << what << isa;
    }
  }
}

TEST(Int8Attention, WhatIsNotFiniteReachesItsReadersAndIsReported) {
  const AttentionCase dynamic = int8_case({{5, 70}, 4, 20, "NaN", 2, true});
  const int64_t columns = columns_of(dynamic), width = dynamic.heads * dynamic.head_width;
  struct Case {
    int64_t row, column;  // of q, k and v side by side
    int64_t first_head, last_head;
    bool readers;  // the rows after it too, else its own
  };
  const Case cases[] = {{8, 25, 1, 2, false}, {7, width + 3, 0, 2, true}, {60, width + 40 + 25, 2, 4, true}};
  const std::vector<float> clean = random_qkv(dynamic, 23);
  for (const ActivationMode mode : kInt8AttentionModes) {
    const AttentionCase c = in_mode(dynamic, mode);
    const std::vector<float> before = run(c, clean, "ref").y;
    for (const Case& each : cases) {
      for (const float bad : {kNaN, -kInfinity}) {
        std::vector<float> qkv = clean;
        qkv[each.row * columns + each.column] = bad;
        for (const std::string& isa : cpu_isas()) {
          for (const int threads : {1, 3}) {
            const Result result = run(c, qkv, isa, threads);
            ASSERT_TRUE(result.fault) << isa;
            EXPECT_EQ(result.fault->site, 7);
            EXPECT_EQ(result.fault->row, each.row) << isa;
            for (int64_t i = 0; i < 75 * width; ++i) {
              const int64_t row = i / width, head = i % width / c.head_width;
              const bool reached = (each.readers ? row >= each.row : row == each.row) && head >= each.first_head &&
                                   head < each.last_head;
              ASSERT_TRUE(reached ? std::isnan(result.y[i]) : result.y[i] == before[i]) << isa << " " << i;
            }
          }
        }
      }
    }
  }
}

// Finite rows whose scores are not: the row of p that has no codes is what is reported.
TEST(Int8Attention, ScoresThatOverflowAreAFaultOfTheirRow) {
  const AttentionCase c = int8_case({{20}, 1, 8, "overflow", 1, true});
  std::vector<float> qkv = random_qkv(c, 24);
  for (int64_t i = 12; i < 20; ++i) std::fill_n(qkv.begin() + i * 24, 16, 1e38f);
  const std::vector<float> expected = run(c, qkv, "ref").y;
  for (const std::string& isa : cpu_isas()) {
    const Result result = run(c, qkv, isa);
    ASSERT_TRUE(result.fault);
    EXPECT_EQ(result.fault->row, 12);
    EXPECT_TRUE(same_bits(result.y, expected)) << isa;
  }
}

TEST(Int8Attention, FloatAttentionReportsNoFault) {
  const AttentionCase c{{5}, 1, 8, "NaN"};
  std::vector<float> qkv = random_qkv(c, 25);
  qkv[3] = kNaN;
  EXPECT_FALSE(run(c, qkv, "ref").fault);
}

TEST(Int8Attention, ACacheHasTheDtypeOfTheMode) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  for (const ActivationMode mode : kAttentionModes) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
      const AttentionCase c = in_mode({{2}, 1, 8, "dtype", 1, true}, mode);
      const Matrix all(*backend, 2, 24, 0, random_qkv(c, 1)), y(*backend, 2, 8, 0);
      const Memory block(*backend, backend->kv_bytes(dtype, 1, 8));
      const Memory offsets(*backend, std::vector<int32_t>{0, 2}), past(*backend, std::vector<int32_t>{0}),
          first(*backend, std::vector<int32_t>{0, 1}),
          addresses(*backend, std::vector<std::byte*>{block.span().address()});
      AttentionOp op = op_of(c, all.activation(), y.activation(), offsets.span());
      op.cache = KvBlocks{addresses.span(), first.span(), past.span(), 0, dtype};
      if ((mode == ActivationMode::kFloat) == (dtype != DType::kI8)) {
        EXPECT_NO_THROW(backend->attention(op));
      } else {
        EXPECT_THROW(backend->attention(op), Error);
      }
    }
  }
  // A byte an element and a scale a vector: for SmolLM2's heads of 64 columns 136 of 512 bytes.
  EXPECT_EQ(backend->kv_bytes(DType::kI8, 3, 64), 64 * 3 * (2 * 64 + 2 * 4));
}

}  // namespace
}  // namespace octet::backend_cases

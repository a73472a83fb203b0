// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/quant/quantize.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

namespace octet::backend_cases {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Run {
  std::string isa;
  int threads = 1;
  int64_t gap = 0;
  bool residual_is_y = false;
};

std::vector<float> run(const LinearData& data, const Run& how) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = how.threads, .isa = how.isa});
  const LinearOnBackend layer(*backend, data, how.gap, how.residual_is_y);
  backend->linear(layer.op);
  EXPECT_TRUE(layer.y.gaps_untouched()) << how.isa << " wrote between the rows of y";
  return layer.y.values();
}

std::string describe(const LinearData& data, const Run& how) {
  const LinearCase& c = data.shape;
  return fmt::format("{} {}x{}x{} nonlinearity {} bias {} residual {} ({}) on {}, {} threads, gap {}, residual is y {}",
                     name(data.weights), c.m, c.n, c.k, static_cast<int>(c.nonlinearity), c.bias, c.residual, c.what,
                     how.isa, how.threads, how.gap, how.residual_is_y);
}

void expect_bits_of_ref(const LinearData& data, int threads, int64_t gap, bool residual_is_y) {
  const std::vector<float> expected = run(data, {.isa = "ref"});
  for (const std::string& isa : vector_isas()) {
    const Run how{isa, threads, gap, residual_is_y && data.shape.residual};
    EXPECT_TRUE(same_bits(run(data, how), expected)) << describe(data, how);
  }
}

// y in double, from the codes where they are quantized.
std::vector<double> in_double(const LinearData& data, std::vector<double>* magnitudes) {
  const LinearCase& c = data.shape;
  const bool quantizes_rows = data.weights.quantizes_rows();
  const Tensor floats = data.weights.scheme ? Tensor() : to_f32(data.weight.view());
  std::vector<double> w;
  for (int64_t n = 0; n < c.n; ++n) {
    for (int64_t k = 0; k < c.k; ++k) {
      w.push_back(data.weights.scheme ? double{scale_of(data.quantized, n, k)} * centred_code(data.quantized, n, k) +
                                            double{minimum_of(data.quantized, n, k)}
                                      : double{floats.as<float>()[n * c.k + k]});
    }
  }
  std::vector<double> y(static_cast<size_t>(c.m * c.n));
  magnitudes->assign(y.size(), 0.0);
  for (int64_t m = 0; m < c.m; ++m) {
    const std::span<const float> x = std::span(data.x).subspan(m * c.k, c.k);
    std::vector<double> values(x.begin(), x.end());
    if (quantizes_rows) {
      const CodesOfRow row(data, m);
      for (int64_t k = 0; k < c.k; ++k) values[k] = row.codes[k] * double{row.scale};
    }
    for (int64_t n = 0; n < c.n; ++n) {
      double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        const double term = values[k] * w[n * c.k + k];
        sum += term;
        magnitude += std::abs(term);
      }
      if (c.bias) sum += data.bias[n];
      magnitude += std::abs(sum) + 1;
      switch (c.nonlinearity) {
        case Nonlinearity::kNone:
          break;
        case Nonlinearity::kGelu:
          sum = sum / 2 * (1 + std::erf(sum / std::sqrt(2.0)));
          break;
        case Nonlinearity::kGeluTanh:
          sum = sum / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (sum + 0.044715 * sum * sum * sum)));
          break;
        case Nonlinearity::kRelu:
          sum = std::max(sum, 0.0);
          break;
        case Nonlinearity::kTanh:
          sum = std::tanh(sum);
          break;
        case Nonlinearity::kSilu:
          sum = sum / (1 + std::exp(-sum));
          break;
      }
      if (c.residual) sum += data.residual[m * c.n + n], magnitude += std::abs(data.residual[m * c.n + n]);
      y[m * c.n + n] = sum;
      (*magnitudes)[m * c.n + n] = magnitude;
    }
  }
  return y;
}

// The case with at most `rows` rows: ref is slow, and further rows go the same way.
LinearCase with_rows(LinearCase c, int64_t rows) {
  c.m = std::min(c.m, rows);
  return c;
}

LinearCase random_case(std::mt19937_64& engine) {
  const auto below = [&engine](int64_t limit) { return static_cast<int64_t>(engine() % limit); };
  return {1 + below(40), 1 + below(70), 1 + below(70), static_cast<Nonlinearity>(below(6)),
          below(2) == 0, below(2) == 0, "random"};
}

TEST(Linear, EveryInstructionSetGivesTheBitsOfRefOnSmallShapes) {
  std::mt19937_64 engine(1);
  for (int i = 0; i < (kSanitized ? 4 : 50); ++i) {
    const LinearCase c = random_case(engine);
    for (const Weights& weights : all_weights()) {
      // Groups: up to three, whatever K was drawn.
      LinearCase shape = c;
      if (const int64_t group = weights.group_size(); group != 0) shape.k = group * (1 + c.k % 3);
      expect_bits_of_ref(LinearData(shape, weights, engine()), 1 + static_cast<int>(engine() % 3),
                         static_cast<int64_t>(engine() % 5), engine() % 2 == 0);
    }
  }
}

TEST(Linear, EveryInstructionSetGivesTheBitsOfRefForAnyFewRows) {
  for (const Weights& weights : all_weights()) {
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 13, 15, 16, 17}) {
      const LinearCase c{rows, 150, 515, Nonlinearity::kNone, rows % 2 == 0, rows % 3 == 0, "few rows"};
      expect_bits_of_ref(LinearData(fitted(c, weights), weights, 15), 1, 1, false);
    }
  }
}

TEST(Linear, EveryInstructionSetGivesTheBitsOfRefOnTheSharedCases) {
  for (const LinearCase& c : kLinearCases) {
    for (const Weights& weights : kMainWeights) {
      expect_bits_of_ref(LinearData(with_rows(fitted(c, weights), kSanitized ? 2 : 21), weights, 2), 2, 3, true);
    }
  }
}

TEST(Linear, BitsDependNeitherOnThreadsNorOnTheOtherRows) {
  for (const std::string& isa : vector_isas()) {
    for (const LinearCase& c : kLinearCases) {
      for (const Weights& weights : kMainWeights) {
        const LinearData data(with_rows(fitted(c, weights), kSanitized ? 20 : 200), weights, 3);
        const std::vector<float> together = run(data, {.isa = isa, .threads = 1});
        for (const int threads : {2, 3}) {
          EXPECT_TRUE(same_bits(run(data, {.isa = isa, .threads = threads}), together))
              << describe(data, {.isa = isa, .threads = threads});
        }
        // The last row alone, by the same weight: it comes from the same seed.
        const int64_t row = data.shape.m - 1;
        LinearData alone(with_rows(data.shape, 1), weights, 3);
        alone.x.assign(data.x.end() - data.shape.k, data.x.end());
        if (c.residual) alone.residual.assign(data.residual.end() - c.n, data.residual.end());
        EXPECT_TRUE(same_bits(run(alone, {.isa = isa}), std::span(together).subspan(row * c.n)))
            << describe(data, {.isa = isa});
      }
    }
  }
}

TEST(Linear, SixteenBitWeightsGiveTheBitsOfTheirFp32Values) {
  for (const std::string& isa : cpu_isas()) {
    for (const LinearCase& c : kLinearCases) {
      for (const Weights& weights : {kF16, kBF16}) {
        for (const int64_t rows : {1, 2, 3, 4, 15, 21}) {
          if (rows > c.m || (rows > 1 && (isa == "ref" || kSanitized))) continue;
          LinearData data(with_rows(c, rows), weights, 20);
          const std::vector<float> actual = run(data, {.isa = isa});
          data.weight = to_f32(data.weight.view());
          EXPECT_TRUE(same_bits(actual, run(data, {.isa = isa}))) << describe(data, {.isa = isa});
        }
      }
    }
  }
}

TEST(Linear, EverySixteenBitPatternIsWidenedExactly) {
  // y = 1 · w + 1 · 0, one output a pattern, w at the first input or at the second. From 16 rows on, panels are widened
  // before they are multiplied.
  constexpr int64_t kPatterns = 65'536;
  for (const Weights& weights : {kF16, kBF16}) {
    for (const int64_t rows : {1, 2, 3, 4, 6, 16, 17}) {
      LinearData data({rows, kPatterns, 2, Nonlinearity::kNone, false, false, "patterns"}, weights, 21);
      std::ranges::fill(data.x, 1.0f);
      data.weight = Tensor(weights.dtype, {kPatterns, 2});
      std::vector<float> expected(static_cast<size_t>(rows * kPatterns));
      for (int64_t i = 0; i < kPatterns; ++i) {
        const auto bits = static_cast<uint16_t>(i);
        const int64_t place = 2 * i + (i + rows) % 2;
        if (weights.dtype == DType::kF16) data.weight.mutable_as<Half>()[place] = {bits};
        if (weights.dtype == DType::kBF16) data.weight.mutable_as<BFloat16>()[place] = {bits};
        const float value = weights.dtype == DType::kF16 ? to_float(Half{bits}) : to_float(BFloat16{bits});
        for (int64_t r = 0; r < rows; ++r) expected[r * kPatterns + i] = std::fma(1.0f, value, 0.0f);
      }
      for (const std::string& isa : cpu_isas()) {
        const std::vector<float> actual = run(data, {.isa = isa});
        EXPECT_TRUE(same_bits(actual, expected)) << describe(data, {.isa = isa});
        // The payload of a NaN as well.
        EXPECT_EQ(std::memcmp(actual.data(), expected.data(), actual.size() * sizeof(float)), 0) << isa;
      }
    }
  }
}

TEST(Linear, RefIsTheProductInDoubleWithinRounding) {
  const auto expect_near = [](const LinearData& data) {
    std::vector<double> magnitudes;
    const std::vector<double> expected = in_double(data, &magnitudes);
    const std::vector<float> actual = run(data, {.isa = "ref"});
    // Each of K steps rounds a partial sum by at most 2^-24 of Σ|x w|; the errors add up like a random walk.
    const double unit = std::ldexp(4 + 2 * std::sqrt(static_cast<double>(data.shape.k)), -24);
    EXPECT_TRUE(near(actual, expected, [&](size_t i) { return unit * magnitudes[i]; }))
        << describe(data, {.isa = "ref"});
  };
  for (const LinearCase& c : kLinearCases) {
    if (kSanitized && c.n * c.k > 200'000) continue;
    for (const Weights& weights : kMainWeights) {
      expect_near(LinearData(with_rows(fitted(c, weights), kSanitized ? 2 : 7), weights, 4));
    }
  }
  for (const Weights& weights : all_weights()) {
    const LinearCase c{5, 35, 300, Nonlinearity::kNone, true, true, "every kind"};
    expect_near(LinearData(fitted(c, weights), weights, 16));
  }
}

// The contract, read output by output: minima and fp32 activations.
TEST(Linear, MinimaMeetTheSumOfTheirGroupsActivations) {
  for (const int64_t group : {0, 32, 64, 128, 256}) {
    for (const int64_t rows : {1, 2, 3, 6, 21}) {
      const Weights weights = quantized(4, group, CodeMapping::kMinimum, ActivationMode::kFloat);
      // Long enough for several blocks of K; the whole row has no multiple of anything.
      const LinearCase c{rows, 35, group == 0 ? 1003 : 1024, Nonlinearity::kNone, true, false, "minima"};
      const LinearData data(c, weights, 25);
      const int64_t size = group == 0 ? c.k : group;
      std::vector<float> expected;
      for (int64_t m = 0; m < c.m; ++m) {
        for (int64_t n = 0; n < c.n; ++n) {
          float t = 0;
          for (int64_t first = 0; first < c.k; first += size) {
            float acc = 0, sum = 0;
            for (int64_t k = first; k < first + size; ++k) {
              const float x = data.x[m * c.k + k];
              acc = std::fma(x, static_cast<float>(data.quantized.codes.as<int8_t>()[n * c.k + k]), acc);
              sum += x;
            }
            t = std::fma(acc, scale_of(data.quantized, n, first), t);
            t = std::fma(minimum_of(data.quantized, n, first), sum, t);
          }
          expected.push_back(t + data.bias[n]);
        }
      }
      for (const std::string& isa : cpu_isas()) {
        EXPECT_TRUE(same_bits(run(data, {.isa = isa, .threads = 2}), expected)) << describe(data, {.isa = isa});
      }
    }
  }
}

// The contract, read output by output: groups of any columns add up like those of neighbours.
TEST(Linear, ReorderedColumnsGiveTheBitsOfTheirGroupsSideBySide) {
  for (const Weights& weights : all_weights()) {
    if (!weights.scheme || !weights.scheme->weight.reordered) continue;
    for (const int64_t rows : {1, 2, 3, 7, 40}) {
      const LinearCase c{rows, 35, 1024, Nonlinearity::kNone, true, true, "reordered"};
      const LinearData data(c, weights, 27);
      LinearData sorted(c, weights, 27);
      sorted.weights.scheme->weight.reordered = sorted.quantized.scheme.reordered = false;
      sorted.quantized.group_index = {};
      const std::vector<int64_t> order = columns_in_order(data.quantized);
      for (int64_t k = 0; k < c.k; ++k) {
        for (int64_t m = 0; m < rows; ++m) sorted.x[m * c.k + k] = data.x[m * c.k + order[k]];
        for (int64_t n = 0; n < c.n; ++n) {
          sorted.quantized.codes.mutable_as<int8_t>()[n * c.k + k] =
              data.quantized.codes.as<int8_t>()[n * c.k + order[k]];
        }
      }
      for (const std::string& isa : cpu_isas()) {
        EXPECT_TRUE(same_bits(run(data, {.isa = isa, .threads = 2, .gap = 3}), run(sorted, {.isa = isa})))
            << describe(data, {.isa = isa});
      }
    }
  }
}

// A layer whose codes are given, without bias.
LinearData with_codes(int64_t m, int64_t n, int64_t k, const std::vector<float>& x, const std::vector<int8_t>& codes,
                      const std::vector<float>& scales) {
  LinearData data({m, n, k, Nonlinearity::kNone, false, false, "given codes"}, kW8A8, 5);
  data.x = x;
  std::copy(codes.begin(), codes.end(), data.quantized.codes.mutable_as<int8_t>().begin());
  std::copy(scales.begin(), scales.end(), data.quantized.scales.mutable_as<float>().begin());
  return data;
}

// What the contract says of output n of exact accumulators, group by group or, for a long K, chunk by chunk.
float rescaled(const CodesOfRow& row, const QTensor& weight, int64_t n, ActivationMode mode) {
  const std::vector<int>& a = row.codes;
  const float activation_scale = row.scale;
  const auto depth = static_cast<int64_t>(a.size());
  const bool uint8 = mode == ActivationMode::kStaticPerTensorZeroPoint;
  const bool shifted = weight.scheme.bits == 8 && weight.scheme.mapping == CodeMapping::kZeroPoint;
  const int64_t longest = shifted ? (uint8 ? 33'025 : 66'310) : uint8 ? 65'793 : 132'104;
  const int64_t chunk = shifted && uint8 ? 32'768 : 65'536;
  const bool whole = weight.groups() == 1 && weight.scheme.group_size == 0 && depth <= longest;
  const int64_t group = whole ? depth : weight.scheme.group_size != 0 ? weight.scheme.group_size : chunk;
  const bool minima = weight.scheme.mapping == CodeMapping::kMinimum;
  float t = 0;
  int64_t sum = 0, code_sum = 0, added = 0;
  for (const int64_t k : columns_in_order(weight)) {
    sum += int64_t{a[k]} * centred_code(weight, n, k);
    code_sum += a[k];
    if (++added == depth || added % group == 0) {
      EXPECT_LE(std::abs(sum), std::numeric_limits<int32_t>::max());
      if (whole && !minima) return std::fma(static_cast<float>(sum), activation_scale * scale_of(weight, n, k), 0.0f);
      t = std::fma(static_cast<float>(sum), scale_of(weight, n, k), t);
      if (minima) t = std::fma(minimum_of(weight, n, k), static_cast<float>(code_sum), t);
      sum = code_sum = 0;
    }
  }
  return std::fma(t, activation_scale, 0.0f);
}

void expect_exact(const LinearData& data) {
  const LinearCase& c = data.shape;
  std::vector<float> expected;
  for (int64_t m = 0; m < c.m; ++m) {
    const CodesOfRow row(data, m);
    for (int64_t n = 0; n < c.n; ++n) expected.push_back(rescaled(row, data.quantized, n, data.weights.activations()));
  }
  for (const std::string& isa : cpu_isas()) {
    EXPECT_TRUE(same_bits(run(data, {.isa = isa}), expected)) << describe(data, {.isa = isa});
  }
}

// Signs of activations and weights: equal, opposite, alternating, in pairs (two products of 127 · 127 of one sign are
// what u8·s8 instructions saturate on), and at random.
int sign_of(std::mt19937_64& engine, int64_t pattern, int64_t k) {
  switch (pattern) {
    case 0:
      return 1;
    case 1:
      return -1;
    case 2:
      return k % 2 == 0 ? 1 : -1;
    case 3:
      return k / 2 % 2 == 0 ? 1 : -1;
    default:
      return engine() % 2 == 0 ? 1 : -1;
  }
}

TEST(Linear, ExtremeCodesDoNotSaturate) {
  std::mt19937_64 engine(6);
  for (const int64_t depth : {1, 2, 3, 4, 31, 64, 255, 1024}) {
    const int64_t m = 7, n = 19;  // six rows make a full tile
    std::vector<float> x;
    std::vector<int8_t> codes;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t k = 0; k < depth; ++k) x.push_back(2.5f * static_cast<float>(sign_of(engine, r, k)));
    }
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t k = 0; k < depth; ++k) codes.push_back(sign_of(engine, r, k) > 0 ? 127 : -128);
    }
    expect_exact(with_codes(m, n, depth, x, codes, std::vector<float>(n, 0.5f)));
  }
}

TEST(Linear, ExtremeCodesOfEveryKindDoNotSaturate) {
  std::mt19937_64 engine(17);
  for (const Weights& weights : all_weights()) {
    if (!weights.quantizes_rows()) continue;
    const WeightScheme& scheme = weights.scheme->weight;
    const int lowest = lowest_code(scheme), highest = highest_code(scheme);
    for (const int64_t depth : {1, 30, 32, 33, 255, 1024}) {
      LinearData data(fitted({7, 35, depth, Nonlinearity::kNone, false, false, "extreme codes"}, weights), weights, 18);
      const int64_t k_count = data.shape.k;
      for (int64_t i = 0; i < 7 * k_count; ++i) {
        data.x[i] = 2.5f * static_cast<float>(sign_of(engine, i / k_count, i % k_count));
      }
      for (int64_t i = 0; i < 35 * k_count; ++i) {
        data.quantized.codes.mutable_as<int8_t>()[i] =
            static_cast<int8_t>(sign_of(engine, i / k_count, i % k_count) > 0 ? highest : lowest);
      }
      if (scheme.mapping == CodeMapping::kZeroPoint) {
        for (int8_t& zero : data.quantized.zero_points.mutable_as<int8_t>()) {
          zero = static_cast<int8_t>(engine() % 2 == 0 ? lowest : highest);
        }
      }
      expect_exact(data);
    }
  }
}

// Kernels may treat large codes apart, and go other ways where they are many: rows of small codes with some large ones,
// all of one row's, none of the next; extreme weights; rows long enough for several blocks.
TEST(Linear, AFewLargeActivationsAmongSmallOnesMultiplyExactly) {
  std::mt19937_64 engine(23);
  for (const Weights& weights : all_weights()) {
    if (!weights.quantizes_rows()) continue;
    for (const int64_t depth : {5, 64, 387, 1024, 1060, 2600}) {
      LinearData data(fitted({13, 18, depth, Nonlinearity::kNone, false, false, "a few large"}, weights), weights, 24);
      for (const double share : {0.001, 0.01, 0.08, 0.3, 1.0}) {
        if (kSanitized && share != 0.08) continue;
        const int64_t k_count = data.shape.k;
        for (int64_t i = 0; i < 13 * k_count; ++i) {
          const double draw = static_cast<double>(engine() >> 11) * 0x1p-53;
          // Row 5 has no small codes, row 6 no large ones but the first.
          const bool large = i / k_count == 5 || (i / k_count != 6 && draw < share);
          const int code = large ? 50 + static_cast<int>(engine() % 78) : static_cast<int>(engine() % 33);
          data.x[i] = static_cast<float>(engine() % 2 == 0 ? code : -code);
          if (i % k_count == 0) data.x[i] = 127.0f;  // the scale is 1
        }
        expect_exact(data);
      }
    }
  }
}

// Both ends, of which the first goes farther from most zero points; around the zero point, with as many codes from
// anywhere as are multiplied one by one or more; only the zero point and such codes; all codes and a little beyond.
int code_of_row(std::mt19937_64& engine, int64_t row, int zero_point) {
  const int any = static_cast<int>(engine() % 260) - 2, around = zero_point + static_cast<int>(engine() % 61) - 30;
  const uint64_t one_of = engine();
  switch (row) {
    case 0:
      return 255;
    case 1:
      return 0;
    case 2:
      return one_of % 40 == 0 ? any : around;
    case 3:
      return one_of % 9 == 0 ? any : around;
    case 4:
      return one_of % 40 == 0 ? any : zero_point;
    default:
      return any;
  }
}

// Zero points at both ends and between, inputs from below the range to above it, extreme weights, with zero points at
// the other end where they have them; long rows in chunks.
TEST(Linear, StaticActivationsWithAZeroPointMultiplyExactly) {
  std::mt19937_64 engine(25);
  constexpr ActivationMode kMode = ActivationMode::kStaticPerTensorZeroPoint;
  for (const Weights& weights :
       {quantized(8, 0, CodeMapping::kSymmetric, kMode), quantized(8, 32, CodeMapping::kSymmetric, kMode),
        quantized(8, 128, CodeMapping::kSymmetric, kMode), quantized(8, 0, CodeMapping::kZeroPoint, kMode),
        quantized(8, 32, CodeMapping::kZeroPoint, kMode)}) {
    const int64_t group = weights.group_size();
    for (const int64_t depth : {3, 70, 1060, kSanitized ? 257 : 33'025, kSanitized ? 257 : 70'000}) {
      if (group != 0 && depth > 2000) continue;
      for (const int zero_point : {0, 1, 5, 128, 254, 255}) {
        if (depth > 2000 && zero_point % 255 != 0) continue;  // the ends go farthest
        const int64_t rows = depth > 2000 ? 3 : 7;
        LinearData data(fitted({rows, 18, depth, Nonlinearity::kNone, false, false, "zero point"}, weights), weights,
                        26);
        data.input = {.scale = 0.5f, .zero_point = zero_point};
        const int64_t k_count = data.shape.k;
        for (int64_t i = 0; i < rows * k_count; ++i) {
          data.x[i] = 0.5f * static_cast<float>(code_of_row(engine, i / k_count, zero_point) - zero_point);
        }
        for (int64_t i = 0; i < 18 * k_count; ++i) {
          if (i / k_count < 4) {
            data.quantized.codes.mutable_as<int8_t>()[i] = sign_of(engine, i / k_count, i % k_count) > 0 ? 127 : -128;
          }
        }
        if (weights.scheme->weight.mapping == CodeMapping::kZeroPoint) {
          const std::span<int8_t> zeros = data.quantized.zero_points.mutable_as<int8_t>();
          const int64_t groups = data.quantized.groups();
          for (int64_t i = 0; i < 4 * groups; ++i) zeros[i] = i / groups % 2 == 0 ? -128 : 127;
        }
        expect_exact(data);
      }
    }
  }
}

TEST(Linear, AStaticScaleThatCannotBeIsAnError) {
  for (const ActivationMode mode : {ActivationMode::kStaticPerTensor, ActivationMode::kStaticPerTensorZeroPoint}) {
    LinearData data({2, 3, 4, Nonlinearity::kNone, false, false, "scales"},
                    quantized(8, 0, CodeMapping::kSymmetric, mode), 27);
    for (const float scale : {0.0f, -1.0f, kNaN, kInfinity, 0x1p-101f}) {
      data.input = {.scale = scale, .zero_point = 0};
      EXPECT_THROW(run(data, {.isa = "ref"}), NumericError) << scale;
    }
    data.input = {.scale = 1, .zero_point = mode == ActivationMode::kStaticPerTensor ? 1 : 256};
    EXPECT_THROW(run(data, {.isa = "ref"}), NumericError);
  }
  const LinearData nibbles({2, 3, 32, Nonlinearity::kNone, false, false, "nibbles"},
                           quantized(4, 32, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensorZeroPoint), 28);
  EXPECT_THROW(run(nibbles, {.isa = "ref"}), ShapeError);
}

// Two products with the largest unsigned byte fit int16 up to 128 = |a| + |b|: all such sums around it.
TEST(Linear, NeighboursThatAreJustTooLargeMultiplyExactly) {
  for (const int sum : {126, 127, 128, 129, 130, 254}) {
    for (const int64_t distance : {1, 4, 5}) {  // of the two codes, in eight
      std::vector<float> x;
      const int64_t m = 6, depth = 72;
      for (int64_t r = 0; r < m; ++r) {
        for (int64_t k = 0; k < depth; ++k) {
          const int first = std::min(127, sum - static_cast<int>(r) * 11), second = sum - first;
          const int sign = r % 2 == 0 ? 1 : -1;
          const bool pays = k / 8 % 4 == 1;  // few enough to stay outliers
          x.push_back(static_cast<float>(sign * (k == 0                      ? 127
                                                 : pays && k % 8 == 0        ? first
                                                 : pays && k % 8 == distance ? std::min(second, 127)
                                                                             : 0)));
        }
      }
      std::vector<int8_t> codes(static_cast<size_t>(3 * depth), 127);
      std::fill_n(codes.begin() + depth, depth, int8_t{-128});
      for (int64_t k = 0; k < depth; ++k) codes[2 * depth + k] = static_cast<int8_t>(k % 2 == 0 ? 127 : -128);
      expect_exact(with_codes(m, 3, depth, x, codes, {1.0f, 0.5f, 2.0f}));
    }
  }
}

// Large codes in few places, but there nothing else: more of them than a kernel may have counted on.
TEST(Linear, StretchesOfLargeActivationsMultiplyExactly) {
  const int64_t m = 6, depth = 2080;
  std::vector<float> x;
  for (int64_t i = 0; i < m * depth; ++i) x.push_back(i / 8 % (4 + i / depth) == 0 ? 127.0f : 1.0f);
  std::vector<int8_t> codes(static_cast<size_t>(2 * depth), 127);
  std::fill_n(codes.begin() + depth, depth, int8_t{-128});
  expect_exact(with_codes(m, 2, depth, x, codes, {1.0f, 0.5f}));
}

TEST(Linear, AllPairsOfCodesMultiplyExactly) {
  // Row r of x holds the code r - 127 (and 127, which sets the scale); column c of W the code c - 127; both ends of
  // each other's signs beside them. Once with and once without the code -128, for which kernels go other ways.
  for (const int lowest : {-127, -128}) {
    std::vector<float> x;
    std::vector<int8_t> codes;
    for (int r = -127; r <= 127; ++r) x.insert(x.end(), {static_cast<float>(r), 127.0f, static_cast<float>(-r)});
    for (int c = lowest; c <= 127; ++c)
      codes.insert(codes.end(), {static_cast<int8_t>(c), 0, static_cast<int8_t>(std::min(127, -c))});
    const int64_t outputs = 128 - lowest;
    expect_exact(with_codes(255, outputs, 3, x, codes, std::vector<float>(outputs, 1.0f)));
  }
}

TEST(Linear, LongRowsOfNibblesGoInChunksToo) {
  const int64_t depth = kSanitized ? 132'105 : 200'003;
  for (const CodeMapping mapping : kMappings) {
    const Weights weights = quantized(4, 0, mapping, ActivationMode::kDynamicPerToken);
    LinearData data({2, 3, depth, Nonlinearity::kNone, false, false, "a long K"}, weights, 19);
    std::fill_n(data.x.begin(), depth, -1.0f);
    std::fill_n(data.quantized.codes.mutable_as<int8_t>().begin(), depth, int8_t{7});
    expect_exact(data);
  }
}

TEST(Linear, MinimaOfEveryWidthMeetExactSumsOfCodes) {
  for (const Weights& weights : all_weights()) {
    if (!weights.quantizes_rows() || weights.scheme->weight.mapping != CodeMapping::kMinimum) continue;
    for (const int64_t rows : {1, 2, 3, 7, 20}) {
      for (const int64_t depth : {5, 64, 300, 1100, 2300}) {
        const LinearCase c{rows, 35, depth, Nonlinearity::kNone, false, false, "minima"};
        expect_exact(LinearData(fitted(c, weights), weights, 26));
      }
    }
  }
}

TEST(Linear, LongProductsAreExactAndThoseBeyondInt32GoInChunks) {
  for (const int64_t depth :
       kSanitized ? std::vector<int64_t>{132'105} : std::vector<int64_t>{132'104, 132'105, 200'001}) {
    const int64_t m = 2, n = 3;
    std::vector<float> x(static_cast<size_t>(m * depth), 1.0f);
    std::vector<int8_t> codes(static_cast<size_t>(n * depth), 127);
    std::mt19937_64 engine(7);
    for (int64_t k = 0; k < depth; ++k) {  // second row and third column: anything; the second column: -128
      x[depth + k] = static_cast<float>(static_cast<int>(engine() % 255) - 127);
      codes[depth + k] = -128;
      codes[2 * depth + k] = static_cast<int8_t>(static_cast<int>(engine() % 255) - 127);
    }
    expect_exact(with_codes(m, n, depth, x, codes, {0.01f, -0.02f, 3.0f}));
  }
}

TEST(Linear, RowsAreQuantizedAsQuantizeRowDoes) {
  // Weights: codes 0 and 1 of the identity, scale 1, so that y is code · scale.
  std::mt19937_64 engine(8);
  for (const int64_t depth : {1, 2, 5, 16, 17, 40, 67}) {
    const int64_t m = 12;
    std::vector<float> x = random_floats(m * depth, engine());
    const auto fill = [&](int64_t row, auto value) {
      for (int64_t k = 0; k < depth; ++k) x[row * depth + k] = value(k);
    };
    fill(0, [](int64_t) { return 0.0f; });
    fill(1, [](int64_t k) { return k % 2 == 0 ? -0.0f : 0.0f; });
    fill(2, [](int64_t k) { return std::numeric_limits<float>::denorm_min() * static_cast<float>(k); });
    fill(3, [](int64_t k) { return (k % 2 == 0 ? -1.0f : 0.3f) * std::numeric_limits<float>::max(); });
    fill(4, [](int64_t k) { return std::ldexp(1.0f, static_cast<int>(-100 - k)); });     // around the smallest scale
    fill(5, [](int64_t k) { return k == 0 ? 127.0f : static_cast<float>(k) - 20.5f; });  // ties
    std::vector<int8_t> identity(static_cast<size_t>(depth * depth), 0);
    for (int64_t k = 0; k < depth; ++k) identity[k * depth + k] = 1;
    expect_exact(with_codes(m, depth, depth, x, identity, std::vector<float>(depth, 1.0f)));
  }
}

TEST(Linear, SubnormalAndHugeNumbersKeepTheBitsOfRef) {
  for (const Weights& weights : all_weights()) {
    for (const float factor : {0x1p-140f, 0x1p-126f, 0x1p60f, 0x1p126f}) {
      const LinearCase c{9, 33, 47, Nonlinearity::kNone, true, true, "extreme sizes"};
      LinearData data(fitted(c, weights), weights, 10);
      for (float& value : data.x) value *= factor;
      expect_bits_of_ref(data, 1, 0, false);
    }
  }
}

TEST(Linear, NonFiniteInputsReachTheirRowOnly) {
  for (const Weights& weights :
       {kF32, kF16, kBF16, kW8A16, quantized(4, 32, CodeMapping::kZeroPoint, ActivationMode::kFloat),
        quantized(4, 32, CodeMapping::kMinimum, ActivationMode::kFloat),
        quantized(4, 0, CodeMapping::kMinimum, ActivationMode::kFloat)}) {
    for (const float value : {kNaN, kInfinity, -kInfinity}) {
      for (int nonlinearity = 0; nonlinearity < 6; ++nonlinearity) {
        const LinearCase c =
            fitted({5, 35, 20, static_cast<Nonlinearity>(nonlinearity), true, true, "a value not finite"}, weights);
        LinearData data(c, weights, 11);
        const LinearData finite(c, weights, 11);
        data.x[2 * c.k + 3] = value;
        expect_bits_of_ref(data, 1, 0, false);
        const std::vector<float> clean = run(finite, {.isa = "ref"}), dirty = run(data, {.isa = "ref"});
        for (int64_t i = 0; i < c.m * c.n; ++i) {
          if (i / c.n == 2) continue;
          ASSERT_EQ(clean[i], dirty[i]) << i;
        }
        EXPECT_TRUE(!std::isnan(value) || std::isnan(dirty[2 * c.n]));
      }
    }
  }
}

TEST(Linear, ANonFiniteRowRaisesTheFaultOfTheLowestRowAndSparesTheOthers) {
  for (const std::string& isa : cpu_isas()) {
    for (const Weights& weights :
         {kW8A8, quantized(4, 32, CodeMapping::kSymmetric, ActivationMode::kDynamicPerToken),
          quantized(4, 32, CodeMapping::kMinimum, ActivationMode::kDynamicPerToken),
          quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensorZeroPoint)}) {
      for (const float value : {kNaN, kInfinity, -kInfinity}) {
        const int threads = std::isnan(value) ? 1 : 4;
        const LinearCase c = fitted({300, 40, 33, Nonlinearity::kNone, true, false, "faults"}, weights);
        LinearData data(c, weights, 12);
        const std::vector<float> clean = run(data, {.isa = isa});
        for (const int64_t row : {299, 77, 150}) data.x[row * c.k + row % c.k] = value;
        const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
        LinearOnBackend layer(*backend, data, 0, false);
        layer.op.site = 41;
        EXPECT_FALSE(backend->take_fault());
        backend->linear(layer.op);
        layer.op.site = 42;
        backend->linear(layer.op);  // the first fault stays
        const std::optional<NumericFault> fault = backend->take_fault();
        ASSERT_TRUE(fault) << isa;
        EXPECT_EQ(fault->site, 41);
        EXPECT_EQ(fault->row, 77);
        EXPECT_FALSE(backend->take_fault());
        const std::vector<float> y = layer.y.values();
        for (int64_t i = 0; i < c.m * c.n; ++i) {
          const int64_t row = i / c.n;
          if (row == 77 || row == 150 || row == 299) continue;
          ASSERT_EQ(y[i], clean[i]) << isa << " " << i;
        }
      }
    }
  }
}

// Normalizing before the product, with the rows kept or not, in the place of x or elsewhere.
TEST(Linear, NormalizedRowsGiveTheBitsOfTwoOperations) {
  enum class Keep { kNot, kElsewhere, kInPlace };
  for (const std::string& isa : cpu_isas()) {
    for (const Weights& weights : kMainWeights) {
      // Few rows and many, few outputs and many: rows are quantized ahead of the product or with it.
      for (const auto& [rows, outputs] : {std::pair<int64_t, int64_t>{3, 16}, {3, 90}, {110, 16}, {110, 300}}) {
        if (kSanitized && rows * outputs > 300) continue;
        const LinearCase c = fitted({rows, outputs, 47, Nonlinearity::kNone, true, false, "normalized"}, weights);
        const LinearData data(c, weights, 29);
        const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
        const Memory gamma(*backend, random_floats(c.k, 30)), beta(*backend, random_floats(c.k, 31));
        for (const bool rms : {true, false}) {
          LinearOnBackend separate(*backend, data, 3, false);
          const Matrix normalized(*backend, rows, c.k, 5);
          if (rms) {
            backend->rms_norm({separate.x.activation(), gamma.span(), 1e-5f, normalized.activation()});
          } else {
            backend->layer_norm({separate.x.activation(), gamma.span(), beta.span(), 1e-5f, normalized.activation()});
          }
          separate.op.x = normalized.activation();
          backend->linear(separate.op);
          for (const Keep keep : {Keep::kNot, Keep::kElsewhere, Keep::kInPlace}) {
            LinearOnBackend fused(*backend, data, 3, false);
            const Matrix kept(*backend, rows, c.k, 2);
            NormalizeRows normalize{gamma.span(), rms ? DeviceSpan() : beta.span(), 1e-5f, std::nullopt};
            if (keep == Keep::kElsewhere) normalize.y = kept.activation();
            if (keep == Keep::kInPlace) normalize.y = fused.x.activation();
            fused.op.normalize = normalize;
            backend->linear(fused.op);
            EXPECT_TRUE(same_bits(fused.y.values(), separate.y.values())) << describe(data, {.isa = isa});
            const std::vector<float> rows_left = keep == Keep::kElsewhere ? kept.values() : fused.x.values();
            EXPECT_TRUE(same_bits(rows_left, keep == Keep::kNot ? data.x : normalized.values()))
                << describe(data, {.isa = isa});
            EXPECT_TRUE(kept.gaps_untouched() && fused.x.gaps_untouched());
          }
        }
      }
    }
  }
}

TEST(Linear, NoRowsAreNoWork) {
  for (const std::string& isa : cpu_isas()) {
    for (const Weights& weights : kMainWeights) {
      const LinearCase c = fitted({0, 5, 7, Nonlinearity::kGelu, true, true, "empty"}, weights);
      EXPECT_TRUE(run(LinearData(c, weights, 13), {.isa = isa}).empty());
    }
  }
}

TEST(Linear, ShapesThatDoNotFitAreErrors) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const LinearData data({4, 6, 8, Nonlinearity::kNone, true, true, "errors"}, kW8A8, 14);
  const LinearOnBackend layer(*backend, data, 1, false);
  const auto expect_error = [&](auto change) {
    LinearOp op = layer.op;
    change(op);
    EXPECT_THROW(backend->linear(op), ShapeError);
  };
  expect_error([](LinearOp& op) { op.x.cols = 7; });
  expect_error([](LinearOp& op) { op.x.stride = 7; });
  expect_error([](LinearOp& op) { op.x.rows = op.y.rows = op.residual->rows = 5; });
  expect_error([](LinearOp& op) { op.y.cols = 5; });
  expect_error([](LinearOp& op) { op.y.rows = 3; });
  expect_error([](LinearOp& op) { op.residual->cols = 5; });
  expect_error([](LinearOp& op) { op.bias = op.bias.slice(0, 20); });
  expect_error([](LinearOp& op) { op.normalize = NormalizeRows{.gamma = op.bias.slice(0, 20)}; });
}

}  // namespace
}  // namespace octet::backend_cases

// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/tensor/half.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

namespace octet::backend_cases {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
const int64_t kWidths[] = {1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 384, 769};

struct Norm {
  int64_t rows, cols;
  std::vector<float> x, gamma, beta;

  Norm(int64_t row_count, int64_t width, uint64_t seed)
      : rows(row_count),
        cols(width),
        x(random_floats(rows * cols, seed, 3.0f)),
        gamma(random_floats(cols, seed + 1)),
        beta(random_floats(cols, seed + 2)) {}

  std::vector<float> run(const std::string& isa, int threads, bool in_place) const {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
    const Matrix input(*backend, rows, cols, 3, x), output(*backend, rows, cols, 5);
    const Memory g(*backend, gamma), b(*backend, beta);
    const Matrix& y = in_place ? input : output;
    backend->layer_norm({input.activation(), g.span(), b.span(), 1e-5f, y.activation()});
    EXPECT_TRUE(y.gaps_untouched());
    return y.values();
  }
};

TEST(LayerNorm, EveryInstructionSetGivesTheBitsOfRef) {
  for (const int64_t cols : kWidths) {
    const Norm norm(37, cols, cols);
    const std::vector<float> expected = norm.run("ref", 1, false);
    EXPECT_TRUE(same_bits(norm.run("ref", 1, true), expected));
    for (const std::string& isa : vector_isas()) {
      for (const int threads : {1, 3}) {
        EXPECT_TRUE(same_bits(norm.run(isa, threads, threads == 3), expected)) << isa << " " << cols;
      }
    }
  }
}

TEST(LayerNorm, RefIsTheFormulaInDouble) {
  for (const int64_t cols : kWidths) {
    Norm norm(5, cols, cols + 50);
    for (int64_t i = 0; i < cols; ++i) norm.x[i] += 1000.0f;  // a mean far from zero must not cost the variance
    std::vector<double> expected;
    for (int64_t r = 0; r < 5; ++r) {
      const std::span<const float> x = std::span(norm.x).subspan(r * cols, cols);
      const double mean = std::accumulate(x.begin(), x.end(), 0.0) / cols;
      double variance = 0;
      for (const float value : x) variance += (value - mean) * (value - mean) / cols;
      for (int64_t i = 0; i < cols; ++i) {
        expected.push_back((x[i] - mean) / std::sqrt(variance + 1e-5) * norm.gamma[i] + norm.beta[i]);
      }
    }
    // The row around 1000 has its mean to 2^-24 · 1000; two columns may lie nearer to each other than that.
    EXPECT_TRUE(near(norm.run("ref", 1, false), expected, [&](size_t i) {
      return static_cast<int64_t>(i) < cols ? (cols < 8 ? 0.1 : 1e-3) : 1e-5;
    })) << cols;
  }
}

TEST(LayerNorm, RowsOfOneValueGiveBeta) {
  Norm norm(2, 33, 1);
  std::fill(norm.x.begin(), norm.x.end(), 0.0f);
  for (const std::string& isa : cpu_isas()) {
    const std::vector<float> y = norm.run(isa, 1, false);
    EXPECT_TRUE(same_bits(std::span(y).subspan(33), norm.beta)) << isa;
  }
}

struct RmsNormCase {
  int64_t rows, cols;
  std::vector<float> x, gamma;

  RmsNormCase(int64_t row_count, int64_t width, uint64_t seed)
      : rows(row_count), cols(width), x(random_floats(rows * cols, seed, 3.0f)), gamma(random_floats(cols, seed + 1)) {}

  std::vector<float> run(const std::string& isa, int threads, bool in_place) const {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
    const Matrix input(*backend, rows, cols, 3, x), output(*backend, rows, cols, 5);
    const Memory g(*backend, gamma);
    const Matrix& y = in_place ? input : output;
    backend->rms_norm({input.activation(), g.span(), 1e-5f, y.activation()});
    EXPECT_TRUE(y.gaps_untouched());
    return y.values();
  }
};

TEST(RmsNorm, EveryInstructionSetGivesTheBitsOfRef) {
  for (const int64_t cols : kWidths) {
    for (const int64_t rows : {0, 1, 37, 400}) {
      RmsNormCase norm(rows, cols, cols);
      if (rows == 37) norm.x[5 * cols] = kNaN, norm.x[9 * cols] = kInfinity;
      const std::vector<float> expected = norm.run("ref", 1, false);
      EXPECT_TRUE(same_bits(norm.run("ref", 3, true), expected));
      for (const std::string& isa : vector_isas()) {
        for (const int threads : {1, 3}) {
          EXPECT_TRUE(same_bits(norm.run(isa, threads, threads == 3), expected)) << isa << " " << rows << " " << cols;
        }
      }
    }
  }
}

TEST(RmsNorm, RefIsTheFormulaInDouble) {
  for (const int64_t cols : kWidths) {
    RmsNormCase norm(5, cols, cols + 50);
    for (int64_t i = 0; i < cols; ++i) norm.x[i] *= 1e-3f;  // eps counts
    for (int64_t i = 0; i < cols; ++i) norm.x[cols + i] *= 1e15f;
    std::vector<double> expected;
    for (int64_t r = 0; r < 5; ++r) {
      const std::span<const float> x = std::span(norm.x).subspan(r * cols, cols);
      double square = 0;
      for (const float value : x) square += double{value} * value / static_cast<double>(cols);
      for (int64_t i = 0; i < cols; ++i) expected.push_back(x[i] / std::sqrt(square + 1e-5) * norm.gamma[i]);
    }
    EXPECT_TRUE(near(norm.run("ref", 1, false), expected, [&](size_t i) { return 1e-6 * std::abs(expected[i]); }))
        << cols;
  }
}

TEST(RmsNorm, RowsOfZerosGiveZerosAndOnesThatAreNotFiniteStayAmongThemselves) {
  RmsNormCase norm(4, 33, 1);
  std::fill_n(norm.x.begin(), 33, 0.0f);
  norm.x[1 * 33 + 20] = kNaN;
  norm.x[2 * 33 + 32] = -kInfinity;
  for (const std::string& isa : cpu_isas()) {
    const std::vector<float> y = norm.run(isa, 1, false);
    for (int c = 0; c < 33; ++c) {
      EXPECT_EQ(y[c], 0.0f) << isa;
      EXPECT_TRUE(std::isnan(y[33 + c])) << isa;
      // 1 / √∞ is 0: all but the infinity itself become 0.
      EXPECT_TRUE(c == 32 ? std::isnan(y[2 * 33 + c]) : y[2 * 33 + c] == 0.0f) << isa << " " << c;
      EXPECT_TRUE(std::isfinite(y[3 * 33 + c])) << isa;
    }
  }
}

struct RopeShape {
  int64_t rows, heads, head_width, rotary_width;
  float factor = 1;
  int64_t head_gap = 0;  // columns between a head and the next
};

// 64 is Llama's head width; 12 with 6 to turn has three pairs; 80 with 40, as GPT-NeoX turns a part; 34 fills a
// register and one lane more.
const RopeShape kRopeShapes[] = {{9, 3, 64, 64}, {5, 2, 12, 6, 1.25f}, {300, 9, 64, 64}, {7, 2, 80, 40, 0.5f, 160},
                                 {3, 1, 2, 2},   {4, 5, 34, 34, 1, 1}, {3, 2, 7, 0},     {2, 3, 128, 128},
                                 {0, 2, 8, 8},   {6, 1, 98, 96, 3.0f}, {3, 2, 20, 18},   {5, 3, 50, 46, 2.0f, 7}};

struct RopeCase : RopeShape {
  RotaryLayout layout = RotaryLayout::kHalves;

  HeadColumns columns() const { return {heads, head_width, head_width + head_gap}; }
  // Of a row, the two columns of pair i of a head.
  std::pair<int64_t, int64_t> pair(int64_t head, int64_t i) const {
    const int64_t first = head * columns().stride;
    return layout == RotaryLayout::kHalves ? std::pair(first + i, first + i + rotary_width / 2)
                                           : std::pair(first + 2 * i, first + 2 * i + 1);
  }
  friend std::ostream& operator<<(std::ostream& out, const RopeCase& c) {
    return out << c.rotary_width << " columns of " << c.head_width
               << (c.layout == RotaryLayout::kHalves ? " in halves" : ", neighbours");
  }
};

std::vector<RopeCase> rope_cases() {
  std::vector<RopeCase> all;
  for (const RopeShape& shape : kRopeShapes) {
    for (const RotaryLayout layout : {RotaryLayout::kHalves, RotaryLayout::kNeighbours}) all.push_back({shape, layout});
  }
  return all;
}

struct RopeData {
  RopeCase shape;
  std::vector<float> x, frequencies;
  std::vector<int32_t> positions;

  explicit RopeData(const RopeCase& c) : shape(c), x(random_floats(c.rows * c.columns().columns(), 4)) {
    for (int64_t r = 0; r < c.rows; ++r) positions.push_back(static_cast<int32_t>(r < 3 ? r : r * 7919 % 131'072));
    for (int64_t i = 0; i < c.rotary_width; i += 2) {
      const double exponent = -static_cast<double>(i) / static_cast<double>(c.rotary_width);
      frequencies.push_back(static_cast<float>(std::pow(10'000.0, exponent)));
    }
  }

  std::vector<float> run(const std::string& isa, int threads) const {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
    const Matrix matrix(*backend, shape.rows, shape.columns().columns(), 3, x);
    const Memory p(*backend, positions), f(*backend, frequencies);
    backend->rope(
        {matrix.activation(), shape.columns(), shape.rotary_width, shape.layout, p.span(), f.span(), shape.factor});
    EXPECT_TRUE(matrix.gaps_untouched());
    return matrix.values();
  }
};

TEST(Rope, EveryInstructionSetGivesTheBitsOfRef) {
  for (const RopeCase& c : rope_cases()) {
    RopeData data(c);
    for (const bool finite : {true, false}) {
      if (!finite && !data.x.empty()) data.x.front() = kNaN, data.x.back() = kInfinity;
      const std::vector<float> expected = data.run("ref", 1);
      for (const std::string& isa : vector_isas()) {
        for (const int threads : {1, 3}) {
          EXPECT_TRUE(same_bits(data.run(isa, threads), expected)) << isa << ", " << c;
        }
      }
    }
  }
}

TEST(Rope, RefTurnsThePairsOfEachHeadByTheAngleOfTheirPosition) {
  for (const RopeCase& c : rope_cases()) {
    const RopeData data(c);
    std::vector<double> expected(data.x.begin(), data.x.end());
    std::vector<bool> turned(expected.size(), false);
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t i = 0; i < c.rotary_width / 2; ++i) {
          const auto [first, second] = c.pair(h, i);
          const int64_t row = r * c.columns().columns();
          // The angle itself is fp32, as transformers has it.
          const double angle = static_cast<float>(data.positions[r]) * data.frequencies[i];
          const double a = expected[row + first], b = expected[row + second];
          expected[row + first] = (a * std::cos(angle) - b * std::sin(angle)) * c.factor;
          expected[row + second] = (b * std::cos(angle) + a * std::sin(angle)) * c.factor;
          turned[row + first] = turned[row + second] = true;
        }
      }
    }
    const std::vector<float> y = data.run("ref", 1);
    EXPECT_TRUE(near(y, expected, [&](size_t) { return 1e-6 * c.factor; })) << c;
    for (size_t i = 0; i < y.size(); ++i) {
      if (!turned[i]) {
        EXPECT_EQ(y[i], data.x[i]) << c;
      }
    }
  }
}

TEST(Rope, WhatIsNotFiniteStaysInItsPair) {
  for (const std::string& isa : cpu_isas()) {
    for (const RotaryLayout layout : {RotaryLayout::kHalves, RotaryLayout::kNeighbours}) {
      const RopeCase c{{3, 2, 64, 48}, layout};
      RopeData data(c);
      const auto [first, second] = c.pair(1, 5);
      data.x[128 + first] = kNaN;
      const std::vector<float> y = data.run(isa, 1);
      for (int64_t i = 0; i < std::ssize(y); ++i) {
        EXPECT_EQ(std::isnan(y[i]), i == 128 + first || i == 128 + second) << isa << " " << i << " " << c;
      }
    }
  }
}

TEST(Rope, RefusesWhatItCannotTurn) {
  const auto refused = [](const RopeShape& c, int32_t position) {
    RopeData data(RopeCase{c});
    data.positions.back() = position;
    EXPECT_THROW(data.run("ref", 1), ShapeError) << c.rotary_width << " " << position;
  };
  refused({2, 1, 8, 3}, 1);
  refused({2, 1, 8, 10}, 1);
  refused({2, 2, 8, 8, 1, -1}, 1);  // heads that overlap
  refused({2, 1, 8, 8}, -1);
  refused({2, 1, 8, 8}, (1 << 20) + 1);
  RopeData farthest(RopeCase{{2, 1, 8, 8}});
  farthest.positions.back() = 1 << 20;
  EXPECT_NO_THROW(farthest.run("ref", 1));
}

constexpr Nonlinearity kNonlinearities[] = {Nonlinearity::kNone, Nonlinearity::kGelu, Nonlinearity::kGeluTanh,
                                            Nonlinearity::kRelu, Nonlinearity::kTanh, Nonlinearity::kSilu};

std::vector<float> gated(const std::vector<float>& x, int64_t rows, int64_t cols, Nonlinearity nonlinearity,
                         const std::string& isa, int threads) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const Matrix input(*backend, rows, 2 * cols, 5, x), y(*backend, rows, cols, 3);
  backend->gated({input.activation(), nonlinearity, y.activation()});
  EXPECT_TRUE(y.gaps_untouched());
  return y.values();
}

TEST(Gated, EveryInstructionSetGivesTheBitsOfRef) {
  for (const int64_t cols : kWidths) {
    for (const int64_t rows : {0, 6, 150}) {
      std::vector<float> x = random_floats(rows * 2 * cols, cols, 3.0f);
      if (rows > 0) x.front() = kNaN, x.back() = kInfinity;
      for (const Nonlinearity nonlinearity : kNonlinearities) {
        const std::vector<float> expected = gated(x, rows, cols, nonlinearity, "ref", 1);
        for (const std::string& isa : vector_isas()) {
          EXPECT_TRUE(same_bits(gated(x, rows, cols, nonlinearity, isa, 3), expected)) << isa << " " << cols;
        }
      }
    }
  }
}

TEST(Gated, RefMultipliesTheSecondHalfByTheNonlinearityOfTheFirst) {
  constexpr int64_t kRows = 4, kCols = 33;
  const std::vector<float> x = random_floats(kRows * 2 * kCols, 3, 2.0f);
  for (const Nonlinearity nonlinearity : kNonlinearities) {
    std::vector<double> expected;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kCols; ++c) {
        const double gate = x[r * 2 * kCols + c], up = x[r * 2 * kCols + kCols + c];
        const double cubic = std::sqrt(2 / M_PI) * (gate + 0.044715 * gate * gate * gate);
        const double open = nonlinearity == Nonlinearity::kGelu       ? gate / 2 * std::erfc(-gate / std::sqrt(2.0))
                            : nonlinearity == Nonlinearity::kGeluTanh ? gate / 2 * (1 + std::tanh(cubic))
                            : nonlinearity == Nonlinearity::kRelu     ? std::max(gate, 0.0)
                            : nonlinearity == Nonlinearity::kTanh     ? std::tanh(gate)
                            : nonlinearity == Nonlinearity::kSilu     ? gate / (1 + std::exp(-gate))
                                                                      : gate;
        expected.push_back(open * up);
      }
    }
    EXPECT_TRUE(near(gated(x, kRows, kCols, nonlinearity, "ref", 1), expected, [&](size_t i) {
      return 1e-6 * std::abs(expected[i]) + 1e-12;
    })) << static_cast<int>(nonlinearity);
  }
}

TEST(Gated, RefusesAnInputThatIsNotTwiceAsWide) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = "ref"});
  const Matrix x(*backend, 2, 15, 0), y(*backend, 2, 8, 0);
  EXPECT_THROW(backend->gated({x.activation(), Nonlinearity::kSilu, y.activation()}), ShapeError);
}

std::vector<float> normalized(const std::vector<float>& x, int64_t rows, const std::string& isa, int threads) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const Matrix matrix(*backend, rows, static_cast<int64_t>(x.size()) / rows, 2, x);
  backend->l2_normalize(matrix.activation());
  EXPECT_TRUE(matrix.gaps_untouched());
  return matrix.values();
}

TEST(L2Normalize, GivesUnitRowsWithTheBitsOfRef) {
  for (const int64_t cols : kWidths) {
    std::vector<float> x = random_floats(6 * cols, cols);
    std::fill_n(x.begin() + cols, cols, 0.0f);
    std::fill_n(x.begin() + 2 * cols, cols, 1e-14f);  // shorter than 1e-12
    x[3 * cols] = kNaN;
    const std::vector<float> expected = normalized(x, 6, "ref", 1);
    for (int64_t r = 0; r < 6; ++r) {
      double square = 0;
      for (int64_t i = 0; i < cols; ++i) square += double{expected[r * cols + i]} * expected[r * cols + i];
      if (r == 3) {
        EXPECT_TRUE(std::isnan(square));
      } else {
        const double length = r == 1 ? 0 : r == 2 ? 1e-2 * std::sqrt(cols) : 1;
        EXPECT_NEAR(std::sqrt(square), length, 1e-6);
      }
    }
    for (const std::string& isa : vector_isas()) EXPECT_TRUE(same_bits(normalized(x, 6, isa, 2), expected)) << isa;
  }
}

constexpr Pooling kPoolings[] = {Pooling::kMean, Pooling::kMax, Pooling::kFirst, Pooling::kMeanSqrtLength};

std::vector<float> pooled(const std::vector<float>& x, int64_t cols, const std::vector<int32_t>& offsets,
                          Pooling pooling, const std::string& isa, int threads) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const Matrix input(*backend, offsets.back(), cols, 1, x);
  const Matrix y(*backend, static_cast<int64_t>(offsets.size()) - 1, cols, 4);
  const Memory memory(*backend, offsets);
  backend->pool({input.activation(), memory.span(), pooling, y.activation()});
  EXPECT_TRUE(y.gaps_untouched());
  return y.values();
}

TEST(Pool, CombinesEachSequenceWithTheBitsOfRef) {
  const std::vector<int32_t> offsets = {0, 3, 3, 4, 24};
  for (const int64_t cols : kWidths) {
    const std::vector<float> x = random_floats(24 * cols, cols);
    for (const Pooling pooling : kPoolings) {
      const std::vector<float> expected = pooled(x, cols, offsets, pooling, "ref", 1);
      for (size_t b = 0; b + 1 < offsets.size(); ++b) {
        const int32_t first = offsets[b], last = offsets[b + 1];
        for (int64_t c = 0; c < cols; ++c) {
          double sum = 0, largest = -std::numeric_limits<double>::infinity();
          for (int32_t r = first; r < last; ++r) {
            sum += x[r * cols + c];
            largest = std::max(largest, double{x[r * cols + c]});
          }
          const double length = last - first;
          const double y = length == 0                           ? 0
                           : pooling == Pooling::kMean           ? sum / length
                           : pooling == Pooling::kMax            ? largest
                           : pooling == Pooling::kMeanSqrtLength ? sum / std::sqrt(length)
                                                                 : x[first * cols + c];
          ASSERT_NEAR(expected[b * cols + c], y, 1e-5);
        }
      }
      for (const std::string& isa : vector_isas()) {
        EXPECT_TRUE(same_bits(pooled(x, cols, offsets, pooling, isa, 3), expected)) << isa << " " << cols;
      }
    }
  }
}

TEST(Pool, TheMaximumOfARowWithNaNIsNaN) {
  for (const std::string& isa : cpu_isas()) {
    for (int row = 0; row < 3; ++row) {
      std::vector<float> x = random_floats(3 * 20, 1);
      x[row * 20 + 5] = kNaN;
      const std::vector<float> y = pooled(x, 20, {0, 3}, Pooling::kMax, isa, 1);
      for (int c = 0; c < 20; ++c) EXPECT_EQ(std::isnan(y[c]), c == 5) << isa << " " << row << " " << c;
    }
  }
}

Tensor table_of(DType dtype, int64_t rows, int64_t cols, uint64_t seed) {
  const std::vector<float> values = random_floats(rows * cols, seed);
  Tensor tensor(dtype, {rows, cols});
  for (size_t i = 0; i < values.size(); ++i) {
    switch (dtype) {
      case DType::kF64:
        tensor.mutable_as<double>()[i] = values[i] * 1.000000001;
        break;
      case DType::kF16:
        tensor.mutable_as<Half>()[i] = to_half(values[i] * 1e-4f);
        break;  // some subnormal
      case DType::kBF16:
        tensor.mutable_as<BFloat16>()[i] = to_bfloat16(values[i]);
        break;
      default:
        tensor.mutable_as<float>()[i] = values[i];
        break;
    }
  }
  return tensor;
}

TEST(Embed, SumsTheRowsOfItsTablesInTheirOrder) {
  constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64};
  const std::vector<int32_t> first = {4, 0, 2, 2, 1, 3, 0}, second = {0, 1, 1, 0, 0, 1, 1};
  for (const int64_t cols : kWidths) {
    for (const DType dtype : kDTypes) {
      const Tensor words = table_of(dtype, 5, cols, 1), kinds = table_of(DType::kF32, 2, cols, 2);
      const Tensor wide_words = to_f32(words.view());
      std::vector<float> expected, single;
      for (size_t t = 0; t < first.size(); ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          const float word = wide_words.as<float>()[first[t] * cols + c],
                      kind = kinds.as<float>()[second[t] * cols + c];
          single.push_back(word);
          expected.push_back(word + kind + word);
        }
      }
      for (const std::string& isa : cpu_isas()) {
        const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
        const Memory a(*backend, first), b(*backend, second);
        const Matrix y(*backend, 7, cols, 3);
        const EmbedOp::Lookup lookups[] = {
            {backend->table(words), a.span()}, {backend->table(kinds), b.span()}, {backend->table(words), a.span()}};
        backend->embed({lookups, y.activation()});
        EXPECT_TRUE(same_bits(y.values(), expected)) << isa << " " << cols << " " << name(dtype);
        backend->embed({std::span(lookups).first(1), y.activation()});
        EXPECT_TRUE(same_bits(y.values(), single)) << isa << " " << cols << " " << name(dtype);
        EXPECT_TRUE(y.gaps_untouched());
      }
    }
  }
}

}  // namespace
}  // namespace octet::backend_cases

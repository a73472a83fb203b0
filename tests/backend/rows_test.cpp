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

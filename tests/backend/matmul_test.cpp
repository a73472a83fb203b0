// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

namespace octet::backend_cases {
namespace {

struct Case {
  int64_t m, n, k;
  const char* what;
};

const std::vector<Case> kCases = {
    {1, 1, 1, "one number"},
    {0, 5, 3, "no rows"},
    {4, 5, 0, "sums of nothing"},
    {7, 33, 65, "nothing is a multiple of anything"},
    {16, 16, 16, "a whole panel"},
    {3, 70, 31, "few rows"},
    {61, 17, 130, "a panel and one output"},
    {130, 96, 48, "several blocks of rows"},
    {257, 5, 3, "many short rows"},
    {20, 40, 700, "several blocks of k"},
};

struct Data {
  Case shape;
  Turned turned;
  std::vector<float> a, b, y, scales;
  std::vector<int8_t> codes;

  Data(const Case& c, Turned how, uint64_t seed)
      : shape(c),
        turned(how),
        a(random_floats(c.m * c.k, seed)),
        b(random_floats(c.n * c.k, seed + 1)),
        y(random_floats(c.m * c.n, seed + 2)),
        scales(random_floats(b_rows(), seed + 3, 0.01f)) {
    std::mt19937_64 engine(seed + 4);
    for (int64_t i = 0; i < c.n * c.k; ++i)
      codes.push_back(static_cast<int8_t>(static_cast<int>(engine() % 255) - 127));
  }
  int64_t b_rows() const { return turned == Turned::kB ? shape.n : shape.k; }
  int64_t b_cols() const { return turned == Turned::kB ? shape.k : shape.n; }
  float at_a(int64_t m, int64_t k) const { return turned == Turned::kA ? a[k * shape.m + m] : a[m * shape.k + k]; }
  int64_t at_b(int64_t k, int64_t n) const { return turned == Turned::kB ? n * shape.k + k : k * shape.n + n; }
};

struct How {
  std::string isa = "ref";
  int threads = 1;
  bool codes = false, adds = false;
  int64_t gap = 0;
};

std::vector<float> run(const Data& data, const How& how) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = how.threads, .isa = how.isa});
  const auto [m, n, k, what] = data.shape;
  const bool turned_a = data.turned == Turned::kA;
  const Matrix a(*backend, turned_a ? k : m, turned_a ? m : k, how.gap, data.a);
  const Matrix y(*backend, m, n, how.gap, data.y);
  const Matrix b(*backend, data.b_rows(), data.b_cols(), how.gap, data.b);
  const Memory codes(*backend, data.codes), scales(*backend, data.scales);
  MatmulOp op{.a = a.activation(), .b = {}, .turned = data.turned, .adds = how.adds, .y = y.activation()};
  if (how.codes) {
    op.b = {codes.span(), data.b_rows(), data.b_cols(), data.b_cols(), scales.span()};
  } else {
    op.b = {b.activation().memory, data.b_rows(), data.b_cols(), b.activation().stride};
  }
  backend->matmul(op);
  EXPECT_TRUE(y.gaps_untouched()) << how.isa << " wrote between the rows of y";
  return y.values();
}

std::string describe(const Data& data, const How& how) {
  const Case& c = data.shape;
  return fmt::format("{}x{}x{} turned {} ({}) on {}, {} threads, codes {}, adds {}, gap {}", c.m, c.n, c.k,
                     static_cast<int>(data.turned), c.what, how.isa, how.threads, how.codes, how.adds, how.gap);
}

constexpr Turned kAll[] = {Turned::kB, Turned::kNone, Turned::kA};

TEST(Matmul, FloatSumsRunOverAscendingKFromYOn) {
  for (const Case& c : kCases) {
    for (const Turned turned : kAll) {
      const Data data(c, turned, 11);
      for (const bool adds : {false, true}) {
        std::vector<float> expected;
        for (int64_t m = 0; m < c.m; ++m) {
          for (int64_t n = 0; n < c.n; ++n) {
            float sum = adds ? data.y[m * c.n + n] : 0.0f;
            for (int64_t k = 0; k < c.k; ++k) sum = std::fma(data.at_a(m, k), data.b[data.at_b(k, n)], sum);
            expected.push_back(sum);
          }
        }
        for (const std::string& isa : cpu_isas()) {
          for (const int threads : {1, 3}) {
            const How how{.isa = isa, .threads = threads, .adds = adds, .gap = threads};
            EXPECT_TRUE(same_bits(run(data, how), expected)) << describe(data, how);
          }
        }
      }
    }
  }
}

TEST(Matmul, SumsLongerThanASliceGoOn) {
  for (const Case& c : {Case{3, 2, 40'000, "gradients of many tokens"}, Case{50, 1501, 900, "slices of a block of k"},
                        Case{49, 1504, 900, "and whole panels"}}) {
    const Data data(c, Turned::kA, 12);
    std::vector<float> expected;
    for (int64_t m = 0; m < c.m; ++m) {
      for (int64_t n = 0; n < c.n; ++n) {
        float sum = 0;
        for (int64_t k = 0; k < c.k; ++k) sum = std::fma(data.at_a(m, k), data.b[data.at_b(k, n)], sum);
        expected.push_back(sum);
      }
    }
    for (const std::string& isa : cpu_isas()) {
      const How how{.isa = isa, .threads = 2};
      EXPECT_TRUE(same_bits(run(data, how), expected)) << describe(data, how);
    }
  }
}

TEST(Matmul, CodesGiveWhatAPackedWeightGives) {
  for (const Case& c : kCases) {
    if (c.m == 0 || c.k == 0) continue;
    const Data data(c, Turned::kB, 13);
    for (const std::string& isa : cpu_isas()) {
      const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
      QTensor weight{{.bits = 8}, Tensor(DType::kI8, {c.n, c.k}), Tensor(DType::kF32, {c.n, 1})};
      std::ranges::copy(data.codes, weight.codes.mutable_as<int8_t>().begin());
      std::ranges::copy(data.scales, weight.scales.mutable_as<float>().begin());
      const QTensor* parts[] = {&weight};
      const std::unique_ptr<PackedWeight> packed = backend->pack(parts, ActivationMode::kDynamicPerToken);
      const Matrix x(*backend, c.m, c.k, 0, data.a), y(*backend, c.m, c.n, 0);
      backend->linear({.x = x.activation(), .weight = packed.get(), .y = y.activation()});
      const How how{.isa = isa, .threads = 2, .codes = true};
      EXPECT_TRUE(same_bits(run(data, how), y.values())) << describe(data, how);
    }
  }
}

// The scales of b's rows go to a before it is quantized; the rest is exact.
TEST(Matmul, CodesWhoseRowsAreSummedOver) {
  for (const Case& c : kCases) {
    const Data data(c, Turned::kNone, 14);
    for (const bool adds : {false, true}) {
      std::vector<float> expected;
      for (int64_t m = 0; m < c.m; ++m) {
        std::vector<float> scaled;
        for (int64_t k = 0; k < c.k; ++k) scaled.push_back(data.at_a(m, k) * data.scales[k]);
        std::vector<int8_t> codes(scaled.size());
        const float scale = scaled.empty() ? 0.0f : quantize_row(scaled, codes);
        for (int64_t n = 0; n < c.n; ++n) {
          int64_t sum = 0;
          for (int64_t k = 0; k < c.k; ++k) sum += int64_t{codes[k]} * data.codes[data.at_b(k, n)];
          const float y = std::fma(static_cast<float>(sum), scale * 1.0f, 0.0f);
          expected.push_back(adds ? y + data.y[m * c.n + n] : y);
        }
      }
      for (const std::string& isa : cpu_isas()) {
        for (const int threads : {1, 4}) {
          const How how{.isa = isa, .threads = threads, .codes = true, .adds = adds, .gap = threads};
          EXPECT_TRUE(same_bits(run(data, how), expected)) << describe(data, how);
        }
      }
    }
  }
}

TEST(Matmul, ExtremeCodesDoNotSaturate) {
  for (const Turned turned : {Turned::kB, Turned::kNone}) {
    Data data({9, 37, 1029, "the largest codes"}, turned, 15);
    std::ranges::fill(data.a, 1.0f);
    std::ranges::fill(data.scales, 1.0f);
    std::ranges::fill(data.codes, int8_t{127});
    const std::vector<float> expected(9 * 37, std::fma(127.0f * 127.0f * 1029.0f, 1.0f / 127.0f, 0.0f));
    for (const std::string& isa : cpu_isas()) {
      const How how{.isa = isa, .codes = true};
      EXPECT_TRUE(same_bits(run(data, how), expected)) << describe(data, how);
    }
  }
}

TEST(Matmul, ARowOfNaNIsNamedAndSpoilsNoOther) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
    std::vector<float> values = random_floats(20 * 30, 16);
    values[7 * 30 + 3] = std::numeric_limits<float>::infinity();
    const Matrix a(*backend, 20, 30, 0, values), y(*backend, 20, 10, 0);
    const Memory codes(*backend, std::vector<int8_t>(300, 3)), scales(*backend, std::vector<float>(10, 0.5f));
    backend->matmul({.a = a.activation(),
                     .b = {codes.span(), 10, 30, 30, scales.span()},
                     .turned = Turned::kB,
                     .y = y.activation(),
                     .site = 4});
    const std::optional<NumericFault> fault = backend->take_fault();
    ASSERT_TRUE(fault);
    EXPECT_EQ(fault->site, 4);
    EXPECT_EQ(fault->row, 7);
    const std::vector<float> out = y.values();
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 10 == 7);
  }
}

TEST(Matmul, MisshapenOperandsAreErrors) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const Matrix a(*backend, 4, 6, 0, random_floats(24, 17)), b(*backend, 5, 6, 0, random_floats(30, 18));
  const Matrix y(*backend, 4, 5, 0);
  const Memory codes(*backend, std::vector<int8_t>(30)), scales(*backend, std::vector<float>(5));
  const MatmulOp good{.a = a.activation(),
                      .b = {b.activation().memory, 5, 6, 6},
                      .turned = Turned::kB,
                      .adds = false,
                      .y = y.activation()};
  backend->matmul(good);
  const auto refuses = [&](auto change) {
    MatmulOp op = good;
    change(op);
    EXPECT_THROW(backend->matmul(op), ShapeError);
  };
  refuses([](MatmulOp& op) { op.turned = Turned::kNone; });
  refuses([](MatmulOp& op) { op.b.cols = 5; });
  refuses([](MatmulOp& op) { op.b.rows = 6; });
  refuses([](MatmulOp& op) { op.b.stride = 7; });
  refuses([](MatmulOp& op) { op.y.cols = 4; });
  refuses([&](MatmulOp& op) { op.b = {codes.span(), 5, 6, 7, scales.span()}; });
  refuses([&](MatmulOp& op) { op.b = {codes.span(), 5, 6, 6, scales.span().slice(0, 16)}; });
  refuses([&](MatmulOp& op) {
    op.turned = Turned::kA;
    op.a = a.activation().row_range(0, 4);
    op.b = {codes.span(), 4, 6, 6, scales.span()};
    op.y = a.activation();
  });
}

}  // namespace
}  // namespace octet::backend_cases

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cfloat>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "octet/backend/cpu/isa.h"
#include "tests/backend/compare.h"

// The bounds here are those of docs/NUMERICS.md.
namespace octet::backend_cases {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> apply(const std::vector<float>& x, Nonlinearity nonlinearity, const std::string& isa) {
  const cpu::KernelTable& table = cpu::kernels(isa);
  std::vector<float> tile(x), y(x.size());
  tile.resize((x.size() + 15) / 16 * 16);
  cpu::Finish finish;
  finish.tile = tile.data();
  finish.tile_stride = static_cast<int64_t>(tile.size());
  finish.rows = 1;
  finish.cols = static_cast<int64_t>(x.size());
  finish.nonlinearity = nonlinearity;
  finish.y = y.data();
  finish.y_stride = finish.cols;
  table.finish(finish);
  return y;
}

// e^x for x ≤ 0, by a softmax whose largest score is a 0 put before them.
std::vector<float> exp(const std::vector<float>& x, const std::string& isa) {
  std::vector<float> scores = {0.0f};
  scores.insert(scores.end(), x.begin(), x.end());
  const int64_t count = static_cast<int64_t>(scores.size());
  scores.resize((scores.size() + 15) / 16 * 16);
  float inverse = 0;
  cpu::kernels(isa).softmax({scores.data(), static_cast<int64_t>(scores.size()), 1, count, 1.0f, &inverse});
  return {scores.begin() + 1, scores.begin() + count};
}

struct SineCosine {
  std::vector<float> sine, cosine;
};

// Of every x, by turning (1, 0) by it.
SineCosine sine_cosine(const std::vector<float>& x, const std::string& isa) {
  const int64_t count = static_cast<int64_t>(x.size());
  std::vector<float> plane(x.size(), 1.0f);
  plane.resize(2 * x.size(), 0.0f);
  const int32_t position = 1;
  cpu::kernels(isa).rope(
      {plane.data(), 2 * count, 1, 1, 2 * count, count, RotaryLayout::kHalves, &position, x.data(), 1.0f});
  return {{plane.begin() + count, plane.end()}, {plane.begin(), plane.begin() + count}};
}

// All signs and sizes: every `step`th float that is finite.
std::vector<float> sweep(float low, float high) {
  const uint32_t step = kSanitized ? 100'003 : 2'003;
  std::vector<float> values;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += step) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (x >= low && x <= high) values.push_back(x);
  }
  // Most floats are tiny: as many again, evenly over where the functions bend.
  const float from = std::max(low, -20.0f), to = std::min(high, 20.0f);
  const size_t count = values.size();
  for (size_t i = 0; i < count; ++i)
    values.push_back(from + (to - from) * static_cast<float>(i) / static_cast<float>(count));
  return values;
}

double ulp(long double value) {
  const int exponent = value == 0 ? -126 : std::max(-126, std::ilogb(static_cast<double>(value)));
  return std::ldexp(1.0, exponent - 23);
}

// Holds `y` against `exact` at every x: within `bound` ulp of the exact value, or within `negligible`.
void expect_within(const std::vector<float>& x, const std::vector<float>& y,
                   const std::function<long double(long double)>& exact, double bound,
                   long double negligible = 0x1p-122L) {
  double worst = 0;
  float where = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const long double expected = exact(x[i]);
    const long double error = std::abs(y[i] - expected);
    ASSERT_FALSE(std::isnan(y[i])) << x[i];
    if (error <= negligible) continue;
    if (const double ulps = static_cast<double>(error) / ulp(expected); ulps > worst) worst = ulps, where = x[i];
  }
  EXPECT_LE(worst, bound) << "at x = " << std::hexfloat << where;
  testing::Test::RecordProperty("worst_ulp", std::to_string(worst));
  std::printf("           worst error %.3f ulp at %a = %g\n", worst, where, where);
}

long double gelu(long double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0L)); }
long double gelu_tanh(long double x) {
  const long double pi = 3.14159265358979323846264338327950288L;
  return x / (1 + std::exp(-2 * std::sqrt(2 / pi) * (x + 0.044715L * x * x * x)));
}

TEST(VectorMath, ExpIsWithinItsBound) {
  const std::vector<float> x = sweep(-200.0f, -0.0f);
  expect_within(
      x, exp(x, cpu_isas().back()), [](long double v) { return std::exp(v); }, 1.25);
}

TEST(VectorMath, TanhIsWithinItsBound) {
  const std::vector<float> x = sweep(-FLT_MAX, FLT_MAX);
  expect_within(
      x, apply(x, Nonlinearity::kTanh, cpu_isas().back()), [](long double v) { return std::tanh(v); }, 2.0);
}

TEST(VectorMath, GeluIsWithinItsBound) {
  const std::vector<float> x = sweep(-FLT_MAX, FLT_MAX);
  expect_within(x, apply(x, Nonlinearity::kGelu, cpu_isas().back()), gelu, 6.0);
}

TEST(VectorMath, GeluTanhIsWithinItsBound) {
  const std::vector<float> x = sweep(-1e10f, FLT_MAX);
  expect_within(x, apply(x, Nonlinearity::kGeluTanh, cpu_isas().back()), gelu_tanh, 6.0);
}

TEST(VectorMath, SiluIsWithinItsBound) {
  const std::vector<float> x = sweep(-FLT_MAX, FLT_MAX);
  expect_within(
      x, apply(x, Nonlinearity::kSilu, cpu_isas().back()), [](long double v) { return v / (1 + std::exp(-v)); }, 4.0,
      0x1p-119L);
}

// Angles of rotary embeddings: all sizes up to 2^20, and the floats around every multiple of π/2 that is tried.
std::vector<float> angles() {
  constexpr float kLargest = 0x1p20f;
  std::vector<float> x = sweep(-kLargest, kLargest);
  const size_t count = x.size();
  for (size_t i = 0; i < count; ++i)
    x.push_back(kLargest * static_cast<float>(i) / static_cast<float>(count));  // most floats are small
  const int64_t last = static_cast<int64_t>(kLargest / M_PI_2), step = kSanitized ? 101 : 1;
  for (int64_t n = 1; n <= last; n += step) {
    const float nearest = static_cast<float>(static_cast<double>(n) * M_PI_2);
    x.insert(x.end(), {std::nextafter(nearest, 0.0f), nearest, std::nextafter(nearest, kInfinity)});
    // Where n goes over to n + 1 the rest is largest.
    x.push_back(static_cast<float>((static_cast<double>(n) + 0.5) * M_PI_2));
  }
  return x;
}

TEST(VectorMath, SineAndCosineAreWithinTheirBounds) {
  const std::vector<float> x = angles();
  const SineCosine y = sine_cosine(x, cpu_isas().back());
  // Of doubles, because those of long doubles take their time: 2^-53 is as good as exact here.
  const auto sine = [](long double v) -> long double { return std::sin(static_cast<double>(v)); };
  const auto cosine = [](long double v) -> long double { return std::cos(static_cast<double>(v)); };
  expect_within(x, y.sine, sine, 1.25);
  expect_within(x, y.cosine, cosine, 1.25);
}

TEST(VectorMath, SineAndCosineOfNoNumberAreNaN) {
  for (const std::string& isa : cpu_isas()) {
    const SineCosine y = sine_cosine({kNaN, kInfinity, -kInfinity, 0.0f, FLT_TRUE_MIN}, isa);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(y.sine[i]) && std::isnan(y.cosine[i])) << isa << " " << i;
    EXPECT_EQ(y.sine[3], 0.0f) << isa;
    EXPECT_EQ(y.cosine[3], 1.0f) << isa;
    EXPECT_EQ(y.sine[4], FLT_TRUE_MIN) << isa;
    EXPECT_EQ(y.cosine[4], 1.0f) << isa;
  }
}

TEST(VectorMath, EveryInstructionSetGivesTheBitsOfRef) {
  std::vector<float> x;
  std::mt19937_64 engine(1);
  for (int i = 0; i < (kSanitized ? 20'000 : 400'000); ++i) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(engine())));
    x.push_back(static_cast<float>(static_cast<double>(engine()) / 0x1p59 - 16));
  }
  for (const std::string& isa : vector_isas()) {
    for (int kind = 0; kind < 6; ++kind) {
      const auto nonlinearity = static_cast<Nonlinearity>(kind);
      EXPECT_TRUE(same_bits(apply(x, nonlinearity, isa), apply(x, nonlinearity, "ref"))) << isa << " " << kind;
    }
    const SineCosine turns = sine_cosine(x, isa), expected_turns = sine_cosine(x, "ref");
    EXPECT_TRUE(same_bits(turns.sine, expected_turns.sine)) << isa;
    EXPECT_TRUE(same_bits(turns.cosine, expected_turns.cosine)) << isa;
    std::vector<float> negative;
    for (const float value : x) {
      if (value <= 0 || std::isnan(value)) negative.push_back(value);
    }
    // Row by row, because a NaN would make the maximum NaN.
    std::erase_if(negative, [](float value) { return std::isnan(value); });
    EXPECT_TRUE(same_bits(exp(negative, isa), exp(negative, "ref"))) << isa;
  }
}

TEST(VectorMath, LimitsAndNaNAreWhatTheyShouldBe) {
  const std::vector<float> x = {kInfinity, -kInfinity, kNaN, 0.0f, -0.0f, FLT_MAX, -FLT_MAX, FLT_TRUE_MIN};
  for (const std::string& isa : cpu_isas()) {
    const auto expect = [&](Nonlinearity nonlinearity, const std::vector<float>& expected) {
      const std::vector<float> y = apply(x, nonlinearity, isa);
      for (size_t i = 0; i < x.size(); ++i) {
        EXPECT_TRUE(std::isnan(expected[i]) ? std::isnan(y[i]) : y[i] == expected[i])
            << isa << " " << x[i] << " " << y[i];
      }
    };
    expect(Nonlinearity::kNone, x);
    expect(Nonlinearity::kRelu, {kInfinity, 0, kNaN, 0, 0, FLT_MAX, 0, FLT_TRUE_MIN});
    expect(Nonlinearity::kTanh, {1, -1, kNaN, 0, 0, 1, -1, FLT_TRUE_MIN});
    // Half of the smallest subnormal is a tie and rounds to 0 or to it; which of the two is no matter here.
    expect(Nonlinearity::kGelu, {kInfinity, 0, kNaN, 0, 0, FLT_MAX, 0, apply(x, Nonlinearity::kGelu, isa)[7]});
    expect(Nonlinearity::kGeluTanh, {kInfinity, 0, kNaN, 0, 0, FLT_MAX, 0, apply(x, Nonlinearity::kGeluTanh, isa)[7]});
    expect(Nonlinearity::kSilu, {kInfinity, 0, kNaN, 0, 0, FLT_MAX, 0, apply(x, Nonlinearity::kSilu, isa)[7]});
    const std::vector<float> e = exp({0.0f, -kInfinity, -1000.0f, -FLT_MAX}, isa);
    EXPECT_EQ(e, (std::vector<float>{1, 0, 0, 0})) << isa;
  }
}

}  // namespace
}  // namespace octet::backend_cases

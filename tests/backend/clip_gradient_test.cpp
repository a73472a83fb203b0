// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/backend/differences.h"

// What round_trip leaves of x, straight through: each value keeps the part of a step by which it was rounded, and the
// step follows the ends of the range; beyond them it is the end.
namespace octet::backend_cases {
namespace {

constexpr int64_t kRows = 200, kCols = 37;
constexpr float kScale = 0.01f, kFactor = 0.25f;

struct Range {
  ActivationMode mode;
  int zero_point;
  double steps;  // from end to end; of INT8 from 0 to the end
  int bits = 8;

  double low() const {
    return mode == ActivationMode::kStaticPerTensor ? -steps * kScale : -zero_point * double{kScale};
  }
  double high() const { return low() + (mode == ActivationMode::kStaticPerTensor ? 2 : 1) * steps * kScale; }
};

constexpr Range kRanges[] = {{ActivationMode::kStaticPerTensor, 0, 127},
                             {ActivationMode::kStaticPerTensorZeroPoint, 40, 255},
                             {ActivationMode::kStaticPerTensorZeroPoint, 0, 255}};
constexpr Range kFewBits[] = {{ActivationMode::kStaticPerTensor, 0, 1, 2},
                              {ActivationMode::kStaticPerTensor, 0, 31, 6},
                              {ActivationMode::kStaticPerTensorZeroPoint, 5, 15, 4}};

// Of the ends: {c} or {low, high}.
Doubles straight_through(const std::vector<float>& x, const Range& range, const Doubles& ends) {
  Doubles y;
  for (const float value : x) {
    const double low = ends.size() == 1 ? -ends[0] : ends[0], high = ends.back();
    const double at = double{value} / double{kScale}, rounded = std::nearbyint(at) - at;
    const double step = (ends.size() == 1 ? high : high - low) / range.steps;
    y.push_back(value < range.low() ? low : value > range.high() ? high : value + rounded * step);
  }
  return y;
}

TEST(ClipGradient, IsThatOfTheEndsAndPassesThroughBetweenThem) {
  const std::vector<float> wide = random_floats(kRows * kCols, 1, 1.2f), dy = random_floats(kRows * kCols, 2);
  std::vector<Range> ranges(std::begin(kRanges), std::end(kRanges));
  ranges.insert(ranges.end(), std::begin(kFewBits), std::end(kFewBits));
  for (const Range& range : ranges) {
    std::vector<float> x = wide;
    if (range.bits < 8) std::ranges::transform(x, x.begin(), [](float value) { return 0.1f * value; });
    const bool two_ends = range.mode == ActivationMode::kStaticPerTensorZeroPoint;
    const Doubles ends = two_ends ? Doubles{range.low(), range.high()} : Doubles{range.high()};
    const std::vector<float> before(ends.size(), 3.0f);
    for (const bool adds : {false, true}) {
      const std::vector<float> result = same_everywhere([&](Backend& backend) {
        const Matrix in(backend, kRows, kCols, 1, x), upper(backend, kRows, kCols, 2, dy);
        const Matrix dx(backend, kRows, kCols, 3, std::vector<float>(x.size(), 1.0f));
        const Memory dclip(backend, before);
        backend.clip_gradient({.x = in.activation(),
                               .dy = upper.activation(),
                               .mode = range.mode,
                               .scale = {kScale, range.zero_point, range.bits},
                               .dx = dx.activation(),
                               .adds = adds,
                               .inside = 1,
                               .factor = kFactor,
                               .dclip = dclip.span()});
        EXPECT_TRUE(dx.gaps_untouched());
        std::vector<float> all(before.size());
        backend.download(dclip.span(), std::as_writable_bytes(std::span(all)));
        const std::vector<float> values = dx.values();
        all.insert(all.end(), values.begin(), values.end());
        return all;
      });
      Doubles expected = differences([&](const Doubles& at) { return straight_through(x, range, at); }, ends, dy);
      for (size_t i = 0; i < expected.size(); ++i) expected[i] = kFactor * expected[i] + 3;
      for (size_t i = 0; i < x.size(); ++i)
        expected.push_back((x[i] >= range.low() && x[i] <= range.high() ? dy[i] : 0.0) + (adds ? 1 : 0));
      EXPECT_TRUE(close(result, expected, 1e-4)) << "zero point " << range.zero_point;
    }
  }
}

TEST(ClipGradient, PactLearnsFromWhatIsCutOffAlone) {
  const std::vector<float> x = {-9, -0.3f, 0.2f, 9, 9}, dy = {1, 10, 100, 1000, 10'000};
  for (const Range& range : kRanges) {
    const std::vector<float> result = same_everywhere([&](Backend& backend) {
      const Matrix in(backend, 1, 5, 0, x), upper(backend, 1, 5, 0, dy);
      const bool two_ends = range.mode == ActivationMode::kStaticPerTensorZeroPoint;
      const Memory dclip(backend, std::vector<float>(two_ends ? 2 : 1));
      backend.clip_gradient({.x = in.activation(),
                             .dy = upper.activation(),
                             .mode = range.mode,
                             .scale = {kScale, range.zero_point},
                             .dx = upper.activation(),
                             .dclip = dclip.span()});
      std::vector<float> all(two_ends ? 2 : 1);
      backend.download(dclip.span(), std::as_writable_bytes(std::span(all)));
      return all;
    });
    if (range.mode == ActivationMode::kStaticPerTensor) {
      EXPECT_EQ(result, std::vector<float>{11'000 - 1});
    } else {
      EXPECT_EQ(result, (std::vector<float>{range.zero_point == 0 ? 11.0f : 1.0f, 11'000}));
    }
  }
}

TEST(ClipGradient, AVectorOfTheWrongSizeIsAnError) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const Matrix x(*backend, 1, 5, 0, std::vector<float>(5, 1.0f));
  const Memory one(*backend, std::vector<float>(1));
  const ClipGradientOp op{.x = x.activation(),
                          .dy = x.activation(),
                          .mode = ActivationMode::kStaticPerTensorZeroPoint,
                          .dx = x.activation(),
                          .dclip = one.span()};
  EXPECT_THROW(backend->clip_gradient(op), ShapeError);
}

}  // namespace
}  // namespace octet::backend_cases

// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/weight_clips.h"

#include <cmath>

#include <gmock/gmock.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/error.h"
#include "octet/base/philox.h"
#include "octet/quant/quantize.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

constexpr int64_t kRows = 6, kCols = 64;

// A weight of two layers, with values of many magnitudes, and one range of zeros.
struct Trained {
  explicit Trained(const WeightScheme& scheme)
      : backend(make_cpu_backend({})),
        all(*backend),
        weight(&all.add({{"query.weight", 0, 4}, {"key.weight", 4, 2}}, values(), kCols, Trainable::Kind::kMatrix)),
        clips(all, *weight, scheme, "query") {}

  static std::vector<float> values() {
    std::vector<float> out;
    for (int i = 0; i < kRows * kCols; ++i) {
      const float uniform = static_cast<float>((i * 7919) % 1009) / 1009.0f - 0.5f;
      out.push_back(i < 32 ? 0.0f : uniform * uniform * uniform * static_cast<float>(i % 5));
    }
    return out;
  }
  const Trainable& ends() const { return *all.all().back(); }
  QTensor codes(const std::vector<float>& of, const WeightScheme& scheme) const {
    return quantize_weight({DType::kF32, {kRows, kCols}, reinterpret_cast<const std::byte*>(of.data())}, scheme, "w");
  }
  void set(const Trainable& trainable, const std::vector<float>& to) const {
    backend->upload(std::as_bytes(std::span(to)), trainable.values().memory);
  }

  std::unique_ptr<Backend> backend;
  Trainables all;
  const Trainable* weight;
  WeightClips clips;
};

const WeightScheme kSchemes[] = {{.bits = 8},
                                 {.bits = 8, .range = RangeEstimator::kMse},
                                 {.bits = 4, .group_size = 32, .range = RangeEstimator::kMse},
                                 {.bits = 4, .range = RangeEstimator::kMse, .unused_bits = 2},
                                 {.bits = 8, .group_size = 32, .range = RangeEstimator::kMse, .unused_bits = 2}};

TEST(WeightClips, AbsmaxFindsTheRangesAgain) {
  for (const WeightScheme& scheme : kSchemes) {
    Trained t(scheme);
    EXPECT_EQ(t.ends().elements(), kRows * scheme.groups(kCols));
    EXPECT_EQ(t.ends().parts()[1].first, 4 * scheme.groups(kCols));
    EXPECT_EQ(t.ends().parts()[1].tensor, "key.weight_clip");
    std::vector<float> w = t.weight->download(*t.backend);
    t.clips.apply(*t.backend, w);
    EXPECT_EQ(w, t.weight->download(*t.backend));
    // At first the codes are those of the scheme; at the very end of a range of 4 bits, 7.5 steps, rounding decides.
    const QTensor made = t.codes(w, t.clips.scheme()), asked = t.codes(Trained::values(), scheme);
    const int64_t width = kCols / scheme.groups(kCols);
    for (size_t i = 0; i < w.size(); ++i) {
      const int off = made.codes.as<int8_t>()[i] - asked.codes.as<int8_t>()[i];
      const bool at_end = std::fabs(w[i]) > 0.999f * t.ends().download(*t.backend)[i / width];
      EXPECT_LE(std::abs(off), at_end ? 1 : 0) << i;
    }
    // What an optimizer does to both: some shrink, some grow, one would vanish.
    std::vector<float> ends = t.ends().download(*t.backend);
    for (size_t i = 0; i < ends.size(); ++i) ends[i] *= i % 2 == 0 ? 0.7f : 1.5f;
    ends[2] = -1;
    t.set(t.ends(), ends);
    t.clips.apply(*t.backend, w);
    const std::vector<float> now = t.ends().download(*t.backend);
    const QTensor after = t.codes(w, t.clips.scheme());
    for (size_t i = 0; i < now.size(); ++i) {
      float largest = 0;
      for (int64_t k = 0; k < width; ++k) largest = std::max(largest, std::fabs(w[i * width + k]));
      EXPECT_EQ(now[i], largest);
      if (now[i] == 0) continue;
      EXPECT_EQ(after.scales.as<float>()[i],
                scheme.bits == 8 ? int8_scale(now[i], scheme.used_bits()) : int4_scale(now[i], scheme.used_bits()));
      EXPECT_GT(now[i], 0);
    }
    std::vector<float> again = w;
    t.clips.apply(*t.backend, again);
    EXPECT_EQ(again, w);
  }
}

// d/dc of Σ g · rounded: codes of weights at the ends stay, and inside only the step's size counts besides the weight's
// own place between steps.
TEST(WeightClips, GradientsAreThoseOfLearnedSteps) {
  const WeightScheme scheme = {.bits = 4, .group_size = 32};
  const auto backend = make_cpu_backend({});
  Trainables all(*backend);
  std::vector<float> values(32, 0.0f);
  values[0] = 1;      // code 7 of a step of 1 / 7.5
  values[1] = 0.31f;  // 2.325 steps: code 2
  values[2] = -1;     // code -8
  const Trainable& weight = all.add({{"w.weight", 0, 1}}, values, 32, Trainable::Kind::kMatrix);
  const WeightClips clips(all, weight, scheme, "w");
  clips.apply(*backend, values);
  std::vector<float> gradient(32, 5.0f), rounded(32, 0.0f);
  gradient[0] = 2;
  gradient[1] = 3;
  gradient[2] = 0.5f;
  backend->upload(std::as_bytes(std::span(gradient)), weight.gradient().memory);
  rounded[0] = 7 / 7.5f;
  rounded[1] = 2 / 7.5f;
  rounded[2] = -8 / 7.5f;
  clips.add_gradient(*backend, rounded);
  clips.add_gradient(*backend, rounded);
  std::vector<float> found(1);
  backend->download(all.all().back()->gradient(), found);
  const float expected = 2 * 7 / 7.5f + 3 * (2 / 7.5f - 0.31f) - 0.5f * 8 / 7.5f;
  EXPECT_THAT(found, ElementsAre(FloatNear(2 * expected / std::sqrt(32 * 7.5f), 1e-6f)));
}

TEST(WeightClips, SymmetricCodesOnly) {
  EXPECT_THROW(Trained({.bits = 8, .mapping = CodeMapping::kZeroPoint}), UsageError);
}

}  // namespace
}  // namespace octet

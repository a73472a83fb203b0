// SPDX-License-Identifier: Apache-2.0
#include "octet/optim/optimizer.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/base/error.h"
#include "octet/optim/schedule.h"

namespace octet {
namespace {

TEST(Schedule, GoesUpAndDown) {
  const Schedule linear{.rate = 2, .warm_up = 4, .total = 12};
  EXPECT_EQ(linear.at(0), 0);
  EXPECT_EQ(linear.at(2), 1);
  EXPECT_EQ(linear.at(4), 2);
  EXPECT_EQ(linear.at(8), 1);
  EXPECT_EQ(linear.at(12), 0);
  EXPECT_EQ(linear.at(20), 0);
  const Schedule cosine{.rate = 2, .warm_up = 0, .total = 12, .decay = Decay::kCosine};
  EXPECT_EQ(cosine.at(0), 2);
  EXPECT_NEAR(cosine.at(4), 1.5, 1e-12);
  EXPECT_NEAR(cosine.at(6), 1, 1e-12);
  EXPECT_EQ((Schedule{.rate = 2, .warm_up = 1, .total = 3, .decay = Decay::kConstant}.at(9)), 2);
  for (const Decay decay : {Decay::kConstant, Decay::kLinear, Decay::kCosine})
    EXPECT_EQ(parse_decay(to_string(decay)), decay);
  EXPECT_THROW(parse_decay("linar"), UsageError);
}

// f(w) = Σ (w - target)² / 2 has the gradient w - target.
double distance_after(int steps, const std::function<std::unique_ptr<Optimizer>(const Trainables&)>& make, double rate,
                      DType dtype = DType::kF32) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  Trainables parameters(*backend, {}, dtype);
  const std::vector<float> start = {3, -2, 0.5f, 8}, target = {1, 1, -1, 2};
  Trainable& parameter = parameters.add({{"a", 0, 2}}, start, 2, Trainable::Kind::kMatrix);
  const std::unique_ptr<Optimizer> optimizer = make(parameters);
  std::vector<float> gradient(4);
  for (int i = 0; i <= steps; ++i) {
    const std::vector<float> w = parameter.download(*backend);
    for (size_t k = 0; k < w.size(); ++k) gradient[k] = w[k] - target[k];
    backend->upload(std::as_bytes(std::span(gradient)), parameter.gradient().memory);
    if (i < steps) optimizer->step(rate, 1);
  }
  EXPECT_EQ(optimizer->steps(), steps);
  return gradient_norm(parameters);
}

TEST(Optimizer, AdamwAndSgdFindTheMinimum) {
  const auto adamw = [](const Trainables& parameters) { return make_adamw(parameters, {.weight_decay = 0}); };
  const auto sgd = [](const Trainables& parameters) { return make_sgd(parameters, {.momentum = 0.5}); };
  EXPECT_NEAR(distance_after(0, adamw, 0.1), std::sqrt(4 + 9 + 2.25 + 36), 1e-6);
  EXPECT_LT(distance_after(400, adamw, 0.05), 0.05);
  EXPECT_LT(distance_after(100, sgd, 0.2), 1e-3);
}

// In steps that are a small part of what 16 bits tell apart, which rounding to nearest would all undo.
TEST(Optimizer, StepsSmallerThanAWeightsLastBitAddUp) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const MomentOptions moments{.dtype = dtype, .seed = 5};
    const auto sgd = [&](const Trainables& parameters) {
      return make_sgd(parameters, {.momentum = 0, .moments = moments});
    };
    const auto adamw = [&](const Trainables& parameters) {
      return make_adamw(parameters, {.weight_decay = 0, .moments = moments});
    };
    EXPECT_LT(distance_after(8000, sgd, 0.001, dtype), 0.2);
    EXPECT_LT(distance_after(8000, adamw, 0.001, dtype), 0.2);
  }
}

TEST(Optimizer, SixteenBitsAreForMatrices) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  Trainables parameters(*backend, {}, DType::kBF16);
  const Trainable& matrix = parameters.add({{"weight", 0, 1}}, std::vector<float>{1.001f}, 1, Trainable::Kind::kMatrix);
  const Trainable& vector = parameters.add({{"bias", 0, 1}}, std::vector<float>{1.001f}, 1, Trainable::Kind::kVector);
  EXPECT_EQ(matrix.download(*backend)[0], 1);
  EXPECT_EQ(vector.download(*backend)[0], 1.001f);
  EXPECT_EQ(parameters.bytes(), 2 + 4 + 4 + 4);
  for (const Optimizer::State& state : make_adamw(parameters, {.moments = {.dtype = DType::kF16}})->states()) {
    EXPECT_EQ(state.dtype, state.parameter == 0 ? DType::kF16 : DType::kF32);
    EXPECT_EQ(state.name == "root_v" || state.name == "m", state.parameter == 0 || state.name == "m");
  }
}

TEST(Optimizer, DecayIsOfThoseThatHaveIt) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  Trainables parameters(*backend);
  Trainable& decays = parameters.add({{"weight", 0, 1}}, std::vector<float>{4}, 1, Trainable::Kind::kMatrix);
  Trainable& stays = parameters.add({{"bias", 0, 1}}, std::vector<float>{4}, 1, Trainable::Kind::kVector);
  make_adamw(parameters, {.weight_decay = 0.5})->step(0.1, 1);
  EXPECT_NEAR(decays.download(*backend)[0], 4 - 0.1 * 0.5 * 4, 1e-6);
  EXPECT_EQ(stays.download(*backend)[0], 4);
  EXPECT_EQ(parameters.find("bias"), &stays);
  EXPECT_EQ(parameters.find("other"), nullptr);
}

}  // namespace
}  // namespace octet

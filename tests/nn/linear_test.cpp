// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/linear.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "octet/tensor/half.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

namespace octet {
namespace {

using backend_cases::Matrix;
using backend_cases::random_floats;
using backend_cases::random_weight;
using backend_cases::same_bits;

constexpr WeightScheme kReordered = {.bits = 4, .group_size = 32, .reordered = true};

std::vector<float> forward(Backend& backend, const std::vector<const QTensor*>& weights, const std::vector<float>& x,
                           bool waiting) {
  const int64_t cols = weights.front()->cols(), rows = static_cast<int64_t>(x.size()) / cols;
  std::vector<Linear::Part> parts;
  for (const QTensor* weight : weights) {
    Parameter parameter{.layer = "part", .shape = weight->codes.shape(), .value = {}, .scheme = Scheme{weight->scheme}};
    if (waiting) {
      parameter.value = WeightReader([weight] { return copy_of(*weight); });
    } else {
      parameter.value = copy_of(*weight);
    }
    parts.push_back({.weight = std::move(parameter), .bias = {}});
  }
  QuantSites sites;
  Linear layer(std::move(parts), sites);
  layer.prepare(backend);
  Workspace workspace(backend);
  Context context{backend, workspace};
  const Matrix input(backend, rows, cols, 0, x), output(backend, rows, layer.outputs(), 0);
  layer.forward(context, input.activation(), output.activation());
  return output.values();
}

// a and b may be one product, c not.
void expect_their_own_products(const QTensor& a, const QTensor& b, const QTensor& c) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const std::vector<float> x = random_floats(7 * 96, 4);
  const std::vector<const QTensor*> weights = {&a, &b, &c};
  for (const bool waiting : {false, true}) {
    const std::vector<float> together = forward(*backend, weights, x, waiting);
    int64_t first = 0;
    for (const QTensor* weight : weights) {
      const std::vector<float> alone = forward(*backend, {weight}, x, waiting);
      std::vector<float> columns;
      for (int64_t r = 0; r < 7; ++r) {
        const auto from = together.begin() + r * 58 + first;
        columns.insert(columns.end(), from, from + weight->rows());
      }
      EXPECT_TRUE(same_bits(columns, alone));
      first += weight->rows();
    }
  }
}

TEST(Linear, PartsWhoseColumnsAreGroupedAlikeOrNotGiveTheirOwnProducts) {
  QTensor c = random_weight(5, 96, kReordered, 3);
  std::ranges::reverse(c.group_index.mutable_as<int32_t>());
  expect_their_own_products(random_weight(20, 96, kReordered, 1), random_weight(33, 96, kReordered, 2), c);
}

TEST(Linear, PartsOfTheSameOutliersOrOfOthersGiveTheirOwnProducts) {
  const auto made = [](int64_t rows, const std::vector<int32_t>& columns, uint64_t seed) {
    QTensor weight = random_weight(rows, 96, {}, seed);
    const Tensor values = backend_cases::tensor_of(random_floats(rows * 96, seed), {rows, 96});
    set_outliers(weight, columns, values.view(), "w");
    return weight;
  };
  expect_their_own_products(made(20, {3, 90}, 1), made(33, {3, 90}, 2), made(5, {3, 91}, 3));
}

// What training reads of a weight in 16 bits is what fp32 weights of the same values give; on the way back its rows
// become fp32 some at a time, and their products are added.
TEST(Linear, WeightsInSixteenBitsTrainAsTheSameOnesInFp32) {
  constexpr int64_t kIn = 1024, kOut = 2100, kRows = 5;  // rows for more than two times
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const std::vector<float> x = random_floats(kRows * kIn, 1), dy = random_floats(kRows * kOut, 2);
  Tensor values(DType::kBF16, {kOut, kIn});
  std::ranges::transform(random_floats(kOut * kIn, 3), values.mutable_as<BFloat16>().begin(),
                         [](float value) { return to_bfloat16(value); });
  std::vector<std::vector<float>> outputs, gradients, inputs;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    std::vector<Linear::Part> parts;
    Parameter weight{.layer = "part", .shape = {kOut, kIn}, .value = Tensor::copy_of(values.view()), .scheme = {}};
    parts.push_back({.weight = std::move(weight), .bias = {}});
    QuantSites sites;
    Linear layer(std::move(parts), sites);
    Trainables all(*backend, {}, dtype);
    layer.train(all);
    EXPECT_EQ(all.all().front()->values().dtype, dtype);
    Workspace workspace(*backend);
    Context context{*backend, workspace};
    const Matrix in(*backend, kRows, kIn, 0, x), out(*backend, kRows, kOut, 0), slope(*backend, kRows, kOut, 1, dy),
        back(*backend, kRows, kIn, 0);
    layer.forward(context, in.activation(), out.activation());
    layer.backward(context, in.activation(), slope.activation(), back.activation(), false);
    outputs.push_back(out.values());
    inputs.push_back(back.values());
    backend->download(all.all().front()->gradient(), gradients.emplace_back(static_cast<size_t>(kOut * kIn)));
  }
  EXPECT_TRUE(same_bits(outputs[0], outputs[1]));
  EXPECT_TRUE(same_bits(gradients[0], gradients[1]));
  EXPECT_TRUE(same_bits(inputs[0], inputs[1]));
}

}  // namespace
}  // namespace octet

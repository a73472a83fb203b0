// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/tensor/half.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

namespace octet::backend_cases {
namespace {

QTensor random_weight(int64_t rows, int64_t cols, uint64_t seed) {
  return quantize_weight(tensor_of(random_floats(rows * cols, seed), {rows, cols}).view(), {}, "weight");
}

TEST(Pack, UnpackGivesBackAllStackedPartsBitForBit) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
    for (const int64_t cols : {1, 2, 3, 4, 5, 31, 64, 97}) {
      std::vector<QTensor> weights;
      std::vector<const QTensor*> parts;
      for (const int64_t rows : {1, 16, 40, 33}) weights.push_back(random_weight(rows, cols, rows * cols));
      for (const QTensor& weight : weights) parts.push_back(&weight);
      for (const ActivationMode mode : {ActivationMode::kFloat, ActivationMode::kDynamicPerToken}) {
        const std::unique_ptr<PackedWeight> packed = backend->pack(parts, mode);
        EXPECT_EQ(packed->rows(), 90);
        EXPECT_EQ(packed->cols(), cols);
        const QTensor back = backend->unpack(*packed);
        std::vector<int8_t> codes;
        std::vector<float> scales;
        for (const QTensor& weight : weights) {
          codes.insert(codes.end(), weight.codes.as<int8_t>().begin(), weight.codes.as<int8_t>().end());
          scales.insert(scales.end(), weight.scales.as<float>().begin(), weight.scales.as<float>().end());
        }
        EXPECT_TRUE(std::ranges::equal(back.codes.as<int8_t>(), codes)) << isa << " " << cols;
        EXPECT_TRUE(same_bits(back.scales.as<float>(), scales)) << isa << " " << cols;
      }
    }
  }
}

TEST(Pack, TakesNoMoreThanCodesScalesAndTheirPadding) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = isa});
    const QTensor weight = random_weight(384, 1536, 1);
    const QTensor* part = &weight;
    EXPECT_EQ(backend->pack({&part, 1}, ActivationMode::kDynamicPerToken)->bytes(), weight.bytes()) << isa;
    EXPECT_EQ(backend->pack({&part, 1}, ActivationMode::kFloat)->bytes(), weight.bytes()) << isa;
  }
}

TEST(Pack, FloatPartsOfAnyWidthGiveTheBitsOfTheirFp32Values) {
  const std::vector<float> values = random_floats(20 * 33, 2);
  const std::vector<float> x = random_floats(3 * 33, 3);
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = isa});
    const auto product = [&](const Tensor& weight) {
      const ConstTensorView view = weight.view();
      const std::unique_ptr<PackedWeight> packed = backend->pack({&view, 1});
      const Matrix input(*backend, 3, 33, 0, x), y(*backend, 3, 20, 0);
      backend->linear({.x = input.activation(), .weight = packed.get(), .y = y.activation()});
      return y.values();
    };
    Tensor half(DType::kF16, {20, 33}), brain(DType::kBF16, {20, 33}), wide(DType::kF64, {20, 33});
    for (size_t i = 0; i < values.size(); ++i) {
      half.mutable_as<Half>()[i] = to_half(values[i]);
      brain.mutable_as<BFloat16>()[i] = to_bfloat16(values[i]);
      wide.mutable_as<double>()[i] = values[i];
    }
    for (const Tensor* weight : {&half, &brain, &wide}) {
      EXPECT_TRUE(same_bits(product(*weight), product(to_f32(weight->view())))) << isa;
    }
  }
}

TEST(Pack, StackedPartsGiveTheBitsOfTheirOwnProducts) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = isa});
    const Tensor a = tensor_of(random_floats(21 * 40, 4), {21, 40}), b = tensor_of(random_floats(9 * 40, 5), {9, 40});
    const Matrix x(*backend, 10, 40, 0, random_floats(400, 6)), y(*backend, 10, 30, 0), separate(*backend, 10, 30, 0);
    const ConstTensorView both[] = {a.view(), b.view()};
    const std::unique_ptr<PackedWeight> stacked = backend->pack(both);
    backend->linear({.x = x.activation(), .weight = stacked.get(), .y = y.activation()});
    const std::unique_ptr<PackedWeight> first = backend->pack({both, 1}), second = backend->pack({both + 1, 1});
    backend->linear({.x = x.activation(), .weight = first.get(), .y = separate.activation().columns(0, 21)});
    backend->linear({.x = x.activation(), .weight = second.get(), .y = separate.activation().columns(21, 9)});
    EXPECT_TRUE(same_bits(y.values(), separate.values())) << isa;
  }
}

TEST(Pack, RefusesWhatCannotBeOneProduct) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const Tensor a(DType::kF32, {3, 4}), b(DType::kF32, {3, 5}), vector(DType::kF32, {4}), empty(DType::kF32, {0, 4});
  const ConstTensorView different[] = {a.view(), b.view()}, one_dimension = vector.view(), none = empty.view();
  EXPECT_THROW(backend->pack(different), ShapeError);
  EXPECT_THROW(backend->pack({&one_dimension, 1}), ShapeError);
  EXPECT_THROW(backend->pack({&none, 1}), ShapeError);
  EXPECT_THROW(backend->pack(std::span<const ConstTensorView>()), ShapeError);
  QTensor broken = random_weight(2, 2, 7);
  broken.codes.mutable_as<int8_t>()[3] = -128;
  const QTensor* part = &broken;
  EXPECT_THROW(backend->pack({&part, 1}, ActivationMode::kDynamicPerToken), NumericError);
  EXPECT_THROW(backend->unpack(*backend->pack({different, 1})), Error);
}

TEST(Pack, AnotherBackendsWeightIsAnError) {
  const std::unique_ptr<Backend> ref = make_cpu_backend({.threads = 1, .isa = "ref"});
  const std::unique_ptr<Backend> best = make_cpu_backend({.threads = 1, .isa = cpu_isas().back()});
  if (ref->describe() == best->describe()) GTEST_SKIP() << "only ref runs here";
  const Tensor weight(DType::kF32, {3, 4});
  const ConstTensorView view = weight.view();
  const std::unique_ptr<PackedWeight> packed = ref->pack({&view, 1});
  const Matrix x(*best, 1, 4, 0), y(*best, 1, 3, 0);
  EXPECT_THROW(best->linear({.x = x.activation(), .weight = packed.get(), .y = y.activation()}), Error);
}

}  // namespace
}  // namespace octet::backend_cases

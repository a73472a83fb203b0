// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

namespace octet::backend_cases {
namespace {

void expect_same(const QTensor& actual, const std::vector<QTensor>& parts, const std::string& what) {
  std::vector<int8_t> codes, zeros;
  std::vector<float> scales, minima;
  const auto append = [](auto& all, auto more) { all.insert(all.end(), more.begin(), more.end()); };
  for (const QTensor& part : parts) {
    append(codes, part.codes.as<int8_t>());
    append(scales, part.scales.as<float>());
    if (part.scheme.mapping == CodeMapping::kZeroPoint) append(zeros, part.zero_points.as<int8_t>());
    if (part.scheme.mapping == CodeMapping::kMinimum) append(minima, part.minima.as<float>());
  }
  check(actual, what);
  EXPECT_EQ(actual.scheme, parts.front().scheme) << what;
  EXPECT_TRUE(std::ranges::equal(actual.codes.as<int8_t>(), codes)) << what;
  EXPECT_TRUE(same_bits(actual.scales.as<float>(), scales)) << what;
  EXPECT_TRUE(zeros.empty() || std::ranges::equal(actual.zero_points.as<int8_t>(), zeros)) << what;
  EXPECT_TRUE(minima.empty() || same_bits(actual.minima.as<float>(), minima)) << what;
  if (!actual.scheme.reordered) return;
  EXPECT_TRUE(std::ranges::equal(actual.group_index.as<int32_t>(), parts.front().group_index.as<int32_t>())) << what;
}

TEST(Pack, UnpackGivesBackAllStackedPartsBitForBit) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
    for (const Weights& kind : all_weights()) {
      if (!kind.scheme) continue;
      for (const int64_t size : {1, 2, 3, 4, 5, 31, 64, 97}) {
        const int64_t group = kind.group_size(), cols = group == 0 ? size : group * (1 + size % 3);
        std::vector<QTensor> weights;
        std::vector<const QTensor*> parts;
        for (const int64_t rows : {1, 16, 40, 33}) {
          weights.push_back(random_weight(rows, cols, kind.scheme->weight, static_cast<uint64_t>(rows * cols)));
        }
        for (const QTensor& weight : weights) parts.push_back(&weight);
        const std::unique_ptr<PackedWeight> packed = backend->pack(parts, kind.scheme->activations);
        EXPECT_EQ(packed->rows(), 90);
        EXPECT_EQ(packed->cols(), cols);
        expect_same(backend->unpack(*packed), weights, fmt::format("{} {} of {}", isa, name(kind), cols));
      }
    }
  }
}

TEST(Pack, TakesNoMoreThanCodesAndWhatLiesBesideThem) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = isa});
    for (const Weights& kind : all_weights()) {
      if (!kind.scheme) continue;
      const QTensor weight = random_weight(384, 1536, kind.scheme->weight, 1);
      const QTensor* part = &weight;
      const int64_t codes = weight.codes.bytes() * weight.scheme.bits / 8;
      int64_t beside = weight.scales.bytes() + weight.zero_points.bytes() + weight.minima.bytes();
      // The sum of codes beside each scale.
      if (kind.activations() == ActivationMode::kStaticPerTensorZeroPoint) beside += weight.scales.bytes();
      beside += weight.group_index.bytes();
      const int64_t bytes = backend->pack({&part, 1}, kind.scheme->activations)->bytes();
      EXPECT_GE(bytes, codes + beside) << isa << " " << name(kind);
      EXPECT_LE(bytes, codes + beside + 4) << isa << " " << name(kind);
    }
  }
}

TEST(Pack, RowsOfAPackedWeightCanBeLookedUp) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
    for (const Weights& kind : all_weights()) {
      if (!kind.scheme) continue;
      const int64_t rows = 37, cols = kind.group_size() == 0 ? 75 : 2 * kind.group_size();
      const QTensor weight = random_weight(rows, cols, kind.scheme->weight, 8);
      const QTensor* part = &weight;
      const std::unique_ptr<PackedWeight> packed = backend->pack({&part, 1}, kind.scheme->activations);
      const Tensor table = tensor_of(random_floats(3 * cols, 9), {3, cols});
      const std::vector<int32_t> words = {0, 36, 15, 16, 17, 3, 3}, places = {2, 1, 0, 1, 2, 0, 1};
      const Memory word_memory(*backend, words), place_memory(*backend, places);
      const EmbedOp::Lookup word{{}, word_memory.span(), packed.get()};
      const EmbedOp::Lookup place{backend->table(table), place_memory.span()};
      std::vector<float> looked_up, summed;
      for (size_t i = 0; i < words.size(); ++i) {
        for (int64_t k = 0; k < cols; ++k) {
          const auto steps = static_cast<float>(centred_code(weight, words[i], k));
          const float scale = scale_of(weight, words[i], k);
          const float value = weight.scheme.mapping == CodeMapping::kMinimum
                                  ? std::fma(steps, scale, minimum_of(weight, words[i], k))
                                  : steps * scale;
          looked_up.push_back(value);
          summed.push_back(value + table.as<float>()[places[i] * cols + k]);
        }
      }
      const Matrix y(*backend, static_cast<int64_t>(words.size()), cols, 3);
      const auto expect = [&](std::vector<EmbedOp::Lookup> lookups, std::span<const float> expected) {
        backend->embed({lookups, y.activation()});
        EXPECT_TRUE(same_bits(y.values(), expected)) << isa << " " << name(kind);
        EXPECT_TRUE(y.gaps_untouched());
      };
      expect({word}, looked_up);
      expect({word, place}, summed);
      expect({place, word}, summed);  // the sum of two does not depend on their order
    }
  }
}

TEST(Pack, LookingUpInWhatDoesNotFitIsAnError) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const Memory indices(*backend, std::vector<int32_t>{0});
  const Matrix y(*backend, 1, 64, 0);
  const auto embed = [&](const PackedWeight& packed) {
    const EmbedOp::Lookup lookup{{}, indices.span(), &packed};
    backend->embed({{&lookup, 1}, y.activation()});
  };
  const QTensor narrow = random_weight(4, 32, {}, 1), wide = random_weight(4, 64, {}, 1);
  const QTensor *narrow_part = &narrow, *wide_part = &wide;
  EXPECT_THROW(embed(*backend->pack({&narrow_part, 1}, ActivationMode::kFloat)), ShapeError);
  EXPECT_NO_THROW(embed(*backend->pack({&wide_part, 1}, ActivationMode::kFloat)));
  const Tensor values(DType::kF32, {4, 64});
  const ConstTensorView view = values.view();
  EXPECT_THROW(embed(*backend->pack({&view, 1})), Error);  // not quantized
  if (cpu_isas().size() == 1) return;
  const std::unique_ptr<Backend> ref = make_cpu_backend({.threads = 1, .isa = "ref"});
  EXPECT_THROW(embed(*ref->pack({&wide_part, 1}, ActivationMode::kFloat)), Error);
  EXPECT_THROW(backend->unpack(*ref->pack({&wide_part, 1}, ActivationMode::kFloat)), Error);
}

TEST(Pack, FloatPartsOfAnyWidthGiveTheBitsOfTheirFp32Values) {
  const std::vector<float> values = random_floats(20 * 33, 2), more = random_floats(7 * 33, 10);
  const std::vector<float> x = random_floats(3 * 33, 3);
  const Tensor single = tensor_of(values, {20, 33}), half = tensor_of(values, {20, 33}, DType::kF16),
               brain = tensor_of(values, {20, 33}, DType::kBF16), other_half = tensor_of(more, {7, 33}, DType::kF16);
  Tensor wide(DType::kF64, {20, 33});
  std::ranges::copy(values, wide.mutable_as<double>().begin());
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = isa});
    const auto product = [&](std::span<const Tensor* const> weights, bool widened) {
      std::vector<Tensor> copies;
      std::vector<ConstTensorView> parts;
      for (const Tensor* weight : weights) {
        copies.push_back(widened ? to_f32(weight->view()) : Tensor::copy_of(weight->view()));
      }
      for (const Tensor& copy : copies) parts.push_back(copy.view());
      const std::unique_ptr<PackedWeight> packed = backend->pack(parts);
      const Matrix input(*backend, 3, 33, 0, x), y(*backend, 3, packed->rows(), 0);
      backend->linear({.x = input.activation(), .weight = packed.get(), .y = y.activation()});
      return y.values();
    };
    const std::vector<std::vector<const Tensor*>> stacks = {
        {&half}, {&brain}, {&wide}, {&half, &other_half}, {&other_half, &brain}, {&half, &single}, {&wide, &brain}};
    for (size_t i = 0; i < stacks.size(); ++i) {
      EXPECT_TRUE(same_bits(product(stacks[i], false), product(stacks[i], true))) << isa << ", stack " << i;
    }
  }
}

TEST(Pack, SixteenBitPartsStayInSixteenBitsUnlessTheyDiffer) {
  const std::vector<float> values = random_floats(48 * 32, 2);
  const auto bytes = [&](Backend& backend, const std::vector<DType>& dtypes) {
    std::vector<Tensor> parts;
    std::vector<ConstTensorView> views;
    for (const DType dtype : dtypes) parts.push_back(tensor_of(values, {48, 32}, dtype));
    for (const Tensor& part : parts) views.push_back(part.view());
    return backend.pack(views)->bytes();
  };
  constexpr int64_t kElements = 48 * 32;
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1, .isa = isa});
    EXPECT_EQ(bytes(*backend, {DType::kF32}), kElements * 4) << isa;
    EXPECT_EQ(bytes(*backend, {DType::kF16}), kElements * 2) << isa;
    EXPECT_EQ(bytes(*backend, {DType::kBF16, DType::kBF16}), 2 * kElements * 2) << isa;
    EXPECT_EQ(bytes(*backend, {DType::kBF16, DType::kF16}), 2 * kElements * 4) << isa;
    EXPECT_EQ(bytes(*backend, {DType::kF16, DType::kF32}), 2 * kElements * 4) << isa;
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
  QTensor broken = random_weight(2, 2, {}, 7);
  broken.scales.mutable_as<float>()[1] = std::numeric_limits<float>::infinity();
  const QTensor* part = &broken;
  EXPECT_THROW(backend->pack({&part, 1}, ActivationMode::kDynamicPerToken), NumericError);
  const QTensor bytes = random_weight(2, 64, {}, 7), nibbles = random_weight(2, 64, {.bits = 4}, 7),
                groups = random_weight(2, 64, {.bits = 4, .group_size = 32}, 7),
                zeros = random_weight(2, 64, {.bits = 4, .group_size = 32, .mapping = CodeMapping::kZeroPoint}, 7),
                minima = random_weight(2, 64, {.bits = 4, .group_size = 32, .mapping = CodeMapping::kMinimum}, 7);
  const QTensor* all[] = {&bytes, &nibbles, &groups, &zeros, &minima};
  for (size_t i = 0; i + 1 < std::size(all); ++i) {
    EXPECT_THROW(backend->pack({all + i, 2}, ActivationMode::kFloat), ShapeError) << i;
  }
  EXPECT_THROW(backend->pack(std::span<const QTensor* const>(), ActivationMode::kFloat), ShapeError);
  const WeightScheme ordered_scheme = {.bits = 4, .group_size = 32, .reordered = true};
  const QTensor ordered = random_weight(2, 64, ordered_scheme, 7);
  QTensor otherwise = random_weight(3, 64, ordered_scheme, 8);
  const QTensor* orders[] = {&ordered, &otherwise};
  EXPECT_EQ(backend->pack(orders, ActivationMode::kFloat)->rows(), 5);
  std::ranges::reverse(otherwise.group_index.mutable_as<int32_t>());
  EXPECT_THROW(backend->pack(orders, ActivationMode::kFloat), ShapeError);
  otherwise.group_index.mutable_as<int32_t>()[0] ^= 1;  // one group has a column too many
  EXPECT_THROW(backend->pack({orders + 1, 1}, ActivationMode::kFloat), ShapeError);
  const QTensor searched = random_weight(2, 64, {.bits = 4, .range = RangeEstimator::kMse}, 8);
  const QTensor* ranges[] = {&nibbles, &searched};
  EXPECT_EQ(backend->pack(ranges, ActivationMode::kFloat)->rows(), 4);
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

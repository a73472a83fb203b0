// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/backend/compare.h"
#include "tests/backend/harness.h"

// Columns of 16-bit floats among those of codes.
namespace octet::backend_cases {
namespace {

const std::vector<Weights> kKinds = {
    kW8A16,
    kW8A8,
    quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensor),
    quantized(8, 32, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensorZeroPoint),
    quantized(4, 128, CodeMapping::kZeroPoint, ActivationMode::kFloat),
    quantized(4, 32, CodeMapping::kMinimum, ActivationMode::kFloat),
    quantized(4, 32, CodeMapping::kSymmetric, ActivationMode::kDynamicPerToken),
    quantized(4, 32, CodeMapping::kMinimum, ActivationMode::kDynamicPerToken),
    quantized(4, 0, CodeMapping::kMinimum, ActivationMode::kDynamicPerToken),
    reordered(quantized(4, 32, CodeMapping::kMinimum, ActivationMode::kFloat)),
    reordered(quantized(4, 32, CodeMapping::kZeroPoint, ActivationMode::kDynamicPerToken)),
};

// `count` columns, the same for each width.
std::vector<int32_t> some_columns(int64_t cols, int64_t count) {
  std::vector<int32_t> columns(static_cast<size_t>(cols));
  std::iota(columns.begin(), columns.end(), 0);
  std::mt19937_64 engine(static_cast<uint64_t>(cols));
  std::ranges::shuffle(columns, engine);
  columns.resize(static_cast<size_t>(std::min(count, cols)));
  std::ranges::sort(columns);
  return columns;
}

void add_outliers(QTensor& weight, const std::vector<int32_t>& columns, uint64_t seed, DType dtype) {
  const std::vector<float> values = random_floats(weight.rows() * std::ssize(columns), seed, 0.3f);
  weight.scheme.outliers = true;
  weight.outlier_columns = Tensor(DType::kI32, {std::ssize(columns)});
  std::ranges::copy(columns, weight.outlier_columns.mutable_as<int32_t>().begin());
  weight.outliers = tensor_of(values, {weight.rows(), std::ssize(columns)}, dtype);
  for (int64_t n = 0; n < weight.rows(); ++n) {
    for (const int32_t column : columns) {
      const bool zero_points = weight.scheme.mapping == CodeMapping::kZeroPoint;
      weight.codes.mutable_as<int8_t>()[n * weight.cols() + column] =
          zero_points ? weight.zero_points.as<int8_t>()[group_of(weight, n, column)] : int8_t{0};
    }
  }
}

LinearData with_outliers(const LinearCase& c, const Weights& kind, uint64_t seed, int64_t count,
                         DType dtype = DType::kF16) {
  LinearData data(c, kind, seed);
  const std::vector<int32_t> columns = some_columns(c.k, count);
  add_outliers(data.quantized, columns, seed + 7, dtype);
  data.weights.scheme->weight.outliers = true;
  for (const int32_t column : columns) {  // what they are for
    for (int64_t m = 0; m < c.m; ++m) data.x[m * c.k + column] *= 30;
  }
  return data;
}

std::vector<float> run(const LinearData& data, const std::string& isa, int threads) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = threads, .isa = isa});
  const LinearOnBackend layer(*backend, data, 3, false);
  backend->linear(layer.op);
  EXPECT_TRUE(layer.y.gaps_untouched());
  EXPECT_FALSE(backend->take_fault());
  return layer.y.values();
}

// The contract: the layer without outliers, row by row, of an x that is 0 there, its bias being what they add up to.
std::vector<float> by_the_contract(const LinearData& data) {
  const LinearCase& c = data.shape;
  const std::span<const int32_t> columns = data.quantized.outlier_indices();
  const Tensor outliers = to_f32(data.quantized.outliers.view());
  std::vector<float> y;
  for (int64_t m = 0; m < c.m; ++m) {
    LinearCase one = c;
    one.m = 1;
    one.bias = true;
    LinearData row(one, data.weights, 1);
    row.weights.scheme->weight.outliers = false;
    row.input = data.input;
    row.quantized = copy_of(data.quantized);
    row.quantized.scheme.outliers = false;
    row.quantized.outlier_columns = Tensor();
    row.quantized.outliers = Tensor();
    row.x.assign(data.x.begin() + m * c.k, data.x.begin() + (m + 1) * c.k);
    for (int64_t n = 0; n < c.n; ++n) {
      float sum = c.bias ? data.bias[n] : 0.0f;
      for (size_t i = 0; i < columns.size(); ++i) {
        sum = std::fma(row.x[columns[i]], outliers.as<float>()[n * std::ssize(columns) + i], sum);
      }
      row.bias[n] = sum;
    }
    for (const int32_t column : columns) row.x[column] = 0;
    if (c.residual) row.residual.assign(data.residual.begin() + m * c.n, data.residual.begin() + (m + 1) * c.n);
    const std::vector<float> of_row = run(row, "ref", 1);
    y.insert(y.end(), of_row.begin(), of_row.end());
  }
  return y;
}

TEST(Outliers, EveryInstructionSetGivesTheBitsOfTheContract) {
  const std::vector<LinearCase> cases = {
      {1, 37, 70, Nonlinearity::kNone, true, false, "one row"},
      {3, 150, 515, Nonlinearity::kNone, false, true, "three rows"},
      {7, 33, 65, Nonlinearity::kGelu, true, true, "nothing is a multiple of anything"},
      {20, 300, 64, Nonlinearity::kRelu, false, false, "blocks of rows and of panels"},
  };
  for (const Weights& kind : kKinds) {
    for (const LinearCase& shape : cases) {
      const LinearCase c = fitted(shape, kind);
      for (const int64_t count : {int64_t{0}, int64_t{9}, c.k}) {
        if (kSanitized && count != 9) continue;
        const LinearData data = with_outliers(c, kind, 5, count, count == 9 ? DType::kBF16 : DType::kF16);
        const std::vector<float> expected = by_the_contract(data);
        for (const std::string& isa : cpu_isas()) {
          for (const int threads : {1, 3}) {
            EXPECT_TRUE(same_bits(run(data, isa, threads), expected)) << fmt::format(
                "{} {} of {}, {} outliers, {}, {} threads", name(kind), c.what, c.k, count, isa, threads);
          }
        }
      }
    }
  }
}

// What they are for: scales that large inputs would spoil.
TEST(Outliers, KeepTheOthersScaleSmall) {
  const LinearCase c{16, 24, 256, Nonlinearity::kNone, false, false, "outliers"};
  LinearData data = with_outliers(c, kW8A8, 3, 4), floats(c, kF32, 3);
  const Tensor values = dequantize(data.quantized);
  floats.x = data.x;
  floats.weight = Tensor::copy_of(values.view());
  const std::vector<float> exact = run(floats, "ref", 1);
  const auto error = [&] {
    const std::vector<float> y = run(data, "ref", 1);
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += (y[i] - exact[i]) * (y[i] - exact[i]);
    return std::sqrt(sum);
  };
  const double with = error();
  data.weights.scheme->weight.outliers = false;
  data.quantized = quantize_weight(values.view(), data.weights.scheme->weight, "w");
  EXPECT_LT(with, error() / 8);
}

TEST(Outliers, ARowThatIsNotFiniteAnywhereIsAFaultAndSparesTheOthers) {
  for (const std::string& isa : cpu_isas()) {
    for (const Weights& kind : kKinds) {
      const LinearCase c = fitted({40, 20, 33, Nonlinearity::kNone, true, false, "faults"}, kind);
      LinearData data = with_outliers(c, kind, 12, 4);
      const std::vector<float> clean = run(data, isa, 1);
      const int32_t outlier = data.quantized.outlier_indices()[2];
      data.x[31 * c.k + outlier] = std::numeric_limits<float>::infinity();
      data.x[22 * c.k + outlier] = std::numeric_limits<float>::quiet_NaN();
      const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
      LinearOnBackend layer(*backend, data, 0, false);
      layer.op.site = 9;
      backend->linear(layer.op);
      const std::optional<NumericFault> fault = backend->take_fault();
      EXPECT_EQ(fault.has_value(), kind.quantizes_rows());
      if (fault) {
        EXPECT_EQ(std::pair(fault->site, fault->row), std::pair(9, int64_t{22})) << isa;
      }
      const std::vector<float> y = layer.y.values();
      for (int64_t i = 0; i < c.m * c.n; ++i) {
        const int64_t row = i / c.n;
        if (row == 22) {
          EXPECT_TRUE(std::isnan(y[i])) << isa << name(kind);
        } else if (row == 31) {
          EXPECT_FALSE(std::isfinite(y[i])) << isa << name(kind);
        } else {
          ASSERT_EQ(y[i], clean[i]) << isa << name(kind);
        }
      }
    }
  }
}

TEST(Outliers, NormalizedRowsGiveTheBitsOfTwoOperations) {
  for (const std::string& isa : cpu_isas()) {
    for (const Weights& kind : kKinds) {
      for (const int64_t rows : {3, 40}) {
        const LinearCase c = fitted({rows, 40, 47, Nonlinearity::kNone, true, false, "normalized"}, kind);
        const LinearData data = with_outliers(c, kind, 29, 3);
        const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
        const Memory gamma(*backend, random_floats(c.k, 30));
        LinearOnBackend separate(*backend, data, 3, false), fused(*backend, data, 3, false);
        const Matrix normalized(*backend, rows, c.k, 5), kept(*backend, rows, c.k, 2);
        backend->rms_norm({separate.x.activation(), gamma.span(), 1e-5f, normalized.activation()});
        separate.op.x = normalized.activation();
        backend->linear(separate.op);
        fused.op.normalize =
            NormalizeRows{.gamma = gamma.span(), .beta = {}, .eps = 1e-5f, .y = std::optional(kept.activation())};
        backend->linear(fused.op);
        EXPECT_TRUE(same_bits(fused.y.values(), separate.y.values())) << isa << name(kind);
        EXPECT_TRUE(same_bits(kept.values(), normalized.values())) << isa << name(kind);
        fused.op.normalize->y.reset();
        backend->linear(fused.op);
        EXPECT_TRUE(same_bits(fused.y.values(), separate.y.values())) << isa << name(kind);
      }
    }
  }
}

TEST(Outliers, AProductLeavesCodesButTakesNone) {
  const StaticCodes kind{ActivationMode::kStaticPerTensor, {.scale = 2.5f / 127, .zero_point = 0}, 5};
  const Weights weights = quantized(8, 0, CodeMapping::kSymmetric, ActivationMode::kStaticPerTensor);
  const LinearData data = with_outliers({21, 35, 96, Nonlinearity::kNone, true, false, "codes"}, weights, 31, 2);
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  LinearOnBackend layer(*backend, data, 0, false);
  backend->linear(layer.op);
  const std::vector<float> floats = layer.y.values();
  const Memory bytes(*backend, 21 * 96);
  layer.op.y = {bytes.span(), 21, 35, 35, kind};
  backend->linear(layer.op);
  std::vector<int8_t> codes(21 * 35);
  backend->download(bytes.span().slice(0, 21 * 35), std::as_writable_bytes(std::span(codes)));
  for (size_t i = 0; i < codes.size(); ++i) ASSERT_EQ(codes[i], int8_code(floats[i], 1 / kind.scale.scale)) << i;
  layer.op.x = {bytes.span(), 21, 96, 96, StaticCodes{kind.mode, data.input, 5}};
  layer.op.y = layer.y.activation();
  EXPECT_THROW(backend->linear(layer.op), Error);
}

TEST(Outliers, UnpackGivesBackAllStackedPartsBitForBit) {
  for (const std::string& isa : cpu_isas()) {
    const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 2, .isa = isa});
    for (const Weights& kind : kKinds) {
      for (const int64_t count : {0, 1, 6}) {
        const DType dtype = count == 1 ? DType::kBF16 : DType::kF16;
        std::vector<QTensor> weights;
        for (const int64_t rows : {1, 40, 33}) {
          weights.push_back(random_weight(rows, 128, kind.scheme->weight, static_cast<uint64_t>(rows)));
          add_outliers(weights.back(), some_columns(128, count), static_cast<uint64_t>(rows), dtype);
        }
        const QTensor* parts[] = {&weights[0], &weights[1], &weights[2]};
        const std::unique_ptr<PackedWeight> packed = backend->pack(parts, kind.activations());
        const QTensor back = backend->unpack(*packed);
        check(back, name(kind));
        EXPECT_TRUE(std::ranges::equal(back.outlier_indices(), weights[0].outlier_indices()));
        std::vector<int8_t> codes;
        std::vector<std::byte> outliers;
        int64_t beside = 0;
        for (const QTensor& part : weights) {
          codes.insert(codes.end(), part.codes.as<int8_t>().begin(), part.codes.as<int8_t>().end());
          const std::byte* data = part.outliers.view().data;
          outliers.insert(outliers.end(), data, data + part.outliers.bytes());
          beside += part.outliers.bytes();
        }
        EXPECT_TRUE(std::ranges::equal(back.codes.as<int8_t>(), codes)) << isa << name(kind);
        EXPECT_TRUE(std::ranges::equal(std::span(back.outliers.view().data, outliers.size()), outliers));
        EXPECT_EQ(back.outliers.dtype(), count == 0 ? DType::kF16 : dtype);
        EXPECT_GE(packed->bytes(), beside + 74 * 128 * kind.scheme->weight.bits / 8);
      }
    }
  }
}

TEST(Outliers, WhatCannotBeIsAnError) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = 1});
  const auto made = [](const std::vector<int32_t>& columns, DType dtype = DType::kF16) {
    QTensor weight = random_weight(3, 32, {}, 1);
    add_outliers(weight, columns, 2, dtype);
    return weight;
  };
  const auto pack = [&](const QTensor& weight) {
    const QTensor* part = &weight;
    return backend->pack({&part, 1}, ActivationMode::kDynamicPerToken);
  };
  const QTensor good = made({3, 7}), elsewhere = made({3, 8}), other = made({3, 7}, DType::kBF16);
  for (const QTensor* second : {&elsewhere, &other}) {
    const QTensor* parts[] = {&good, second};
    EXPECT_THROW(backend->pack(parts, ActivationMode::kDynamicPerToken), ShapeError);
  }
  EXPECT_THROW(pack(made({7, 3})), ShapeError);
  EXPECT_THROW(pack(made({3, 3})), ShapeError);
  QTensor bad = made({3, 7});
  bad.outlier_columns.mutable_as<int32_t>()[1] = 32;
  EXPECT_THROW(pack(bad), ShapeError);
  bad.outlier_columns.mutable_as<int32_t>()[0] = -1;
  EXPECT_THROW(pack(bad), ShapeError);
  bad = made({3, 7});
  bad.codes.mutable_as<int8_t>()[32 + 7] = 1;
  EXPECT_THROW(pack(bad), NumericError);
  bad = made({3, 7});
  bad.outliers.mutable_as<Half>()[5] = to_half(std::numeric_limits<float>::infinity());
  EXPECT_THROW(pack(bad), NumericError);
  bad = made({3, 7});
  bad.outliers = Tensor(DType::kF16, {3, 1});
  EXPECT_THROW(pack(bad), ShapeError);
  bad.outliers = Tensor(DType::kF32, {3, 2});
  EXPECT_THROW(pack(bad), ShapeError);
  bad = made({3, 7});
  bad.scheme.outliers = false;
  EXPECT_THROW(pack(bad), ShapeError);

  const Memory indices(*backend, std::vector<int32_t>{0});
  const Matrix y(*backend, 1, 32, 0);
  const std::unique_ptr<PackedWeight> packed = pack(good);
  const EmbedOp::Lookup lookup{{}, indices.span(), packed.get()};
  EXPECT_THROW(backend->embed({{&lookup, 1}, y.activation()}), Error);
}

}  // namespace
}  // namespace octet::backend_cases

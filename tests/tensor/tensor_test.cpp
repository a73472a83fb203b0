// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/tensor.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr DType kAll[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                          DType::kI32, DType::kI8,  DType::kU8,  DType::kBool};

TEST(DType, NamesAndSizesAreThoseOfSafetensors) {
  const std::vector<std::pair<std::string_view, int64_t>> expected = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I8", 1}, {"U8", 1}, {"BOOL", 1}};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(name(kAll[i]), expected[i].first);
    EXPECT_EQ(byte_size(kAll[i]), expected[i].second);
    EXPECT_EQ(is_float(kAll[i]), expected[i].first.find('F') != std::string_view::npos);
  }
}

TEST(Tensor, IsBornZeroAndAligned) {
  for (const DType dtype : kAll) {
    const Tensor tensor(dtype, {3, 5});
    EXPECT_EQ(tensor.bytes(), 15 * byte_size(dtype));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.view().data) % 64, 0u);
    const std::span bytes(tensor.view().data, static_cast<size_t>(tensor.bytes()));
    EXPECT_THAT(bytes, Each(std::byte{0}));
  }
}

TEST(Tensor, WithoutElementsItStillHasAnAddress) {
  const Tensor tensor(DType::kF32, {0, 7});
  EXPECT_EQ(tensor.bytes(), 0);
  EXPECT_NE(tensor.view().data, nullptr);
  EXPECT_TRUE(tensor.as<float>().empty());
}

TEST(Tensor, IsReadOnlyAsWhatItHolds) {
  Tensor tensor(DType::kF32, {2});
  EXPECT_NO_THROW(tensor.as<float>());
  EXPECT_THROW(tensor.as<int32_t>(), Error);
  EXPECT_THROW(tensor.mutable_as<double>(), Error);
}

TEST(Tensor, ACopyIsIndependent) {
  Tensor tensor(DType::kI32, {2});
  tensor.mutable_as<int32_t>()[1] = 5;
  const Tensor copy = Tensor::copy_of(tensor.view());
  tensor.mutable_as<int32_t>()[1] = 6;
  EXPECT_THAT(copy.as<int32_t>(), ElementsAre(0, 5));
}

TEST(Tensor, TooLargeIsAnErrorNotACrash) {
  EXPECT_THROW(Tensor(DType::kF64, {int64_t{1} << 61}), Error);  // its bytes overflow
  EXPECT_THROW(Tensor(DType::kI8, {std::numeric_limits<int64_t>::max()}), Error);
}

class MappedTensor : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(testing::TempDir()) / (std::string("octet_mapped_tensor_") + test.name());
    const float values[] = {1.0f, 2.0f, 3.0f};
    std::ofstream(path_, std::ios::binary).write(reinterpret_cast<const char*>(values), sizeof values);
    file_ = MappedFile::open(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> file_;
};

TEST_F(MappedTensor, ReadsTheFileAndKeepsItMapped) {
  Tensor tensor = Tensor::mapped(file_, 4, DType::kF32, {2});
  file_.reset();
  EXPECT_TRUE(tensor.is_mapped());
  EXPECT_THAT(tensor.as<float>(), ElementsAre(2.0f, 3.0f));
  EXPECT_THROW(tensor.mutable_view(), Error);
  tensor.release_pages();
  EXPECT_THAT(tensor.as<float>(), ElementsAre(2.0f, 3.0f));
}

TEST_F(MappedTensor, OutsideTheFileOrMisalignedItIsRefused) {
  EXPECT_NO_THROW(Tensor::mapped(file_, 12, DType::kF32, {0}));
  EXPECT_THROW(Tensor::mapped(file_, 4, DType::kF32, {3}), FormatError);
  EXPECT_THROW(Tensor::mapped(file_, -4, DType::kF32, {1}), FormatError);
  EXPECT_THROW(Tensor::mapped(file_, 13, DType::kI8, {0}), FormatError);
  EXPECT_THROW(Tensor::mapped(file_, 2, DType::kF32, {1}), FormatError);
  EXPECT_THROW(Tensor::mapped(file_, std::numeric_limits<int64_t>::max(), DType::kI8, {1}), Error);
  EXPECT_THROW(Tensor::mapped(file_, 0, DType::kF64, {int64_t{1} << 61}), Error);
}

TEST(ReadF32, WidensEveryFloatType) {
  Tensor f64(DType::kF64, {3}), f32(DType::kF32, {3}), f16(DType::kF16, {3}), bf16(DType::kBF16, {3});
  for (int i = 0; i < 3; ++i) {
    const float value = 1.5f * (i - 1);
    f64.mutable_as<double>()[i] = value;
    f32.mutable_as<float>()[i] = value;
    f16.mutable_as<Half>()[i] = to_half(value);
    bf16.mutable_as<BFloat16>()[i] = to_bfloat16(value);
  }
  for (const Tensor* tensor : {&f64, &f32, &f16, &bf16}) {
    EXPECT_THAT(to_f32(tensor->view()).as<float>(), ElementsAre(-1.5f, 0.0f, 1.5f));
    float last = 0;
    read_f32(tensor->view(), 2, std::span(&last, 1));
    EXPECT_EQ(last, 1.5f);
  }
  EXPECT_THROW(to_f32(Tensor(DType::kI32, {1}).view()), Error);
}

TEST(ReadF32, StaysInsideTheTensor) {
  const Tensor tensor(DType::kF32, {3});
  std::vector<float> out(2);
  EXPECT_NO_THROW(read_f32(tensor.view(), 1, out));
  EXPECT_THROW(read_f32(tensor.view(), 2, out), ShapeError);
  EXPECT_THROW(read_f32(tensor.view(), -1, out), ShapeError);
}

}  // namespace
}  // namespace octet

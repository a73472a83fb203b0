// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/kernels.h"

namespace octet::cpu {

/// A weight [N, K] in panels (kernels.h says how they lie), with its scales.
class CpuWeight final : public PackedWeight {
 public:
  enum class Kind : uint8_t { kFloat, kInt8FloatActivations, kInt8 };

  /// Parts stacked along their outputs. Throw ShapeError for parts that are not matrices of one width, or are empty.
  CpuWeight(const KernelTable& table, int threads, std::span<const ConstTensorView> parts);
  CpuWeight(const KernelTable& table, int threads, std::span<const QTensor* const> parts, ActivationMode activations);

  int64_t rows() const noexcept override { return rows_; }
  int64_t cols() const noexcept override { return cols_; }
  int64_t bytes() const noexcept override { return panels_.bytes() + (kind_ == Kind::kFloat ? 0 : scales_.bytes()); }

  const KernelTable& table() const noexcept { return *table_; }
  Kind kind() const noexcept { return kind_; }
  int64_t panel_count() const noexcept { return (rows_ + table_->panel_width - 1) / table_->panel_width; }
  /// Elements from one panel to the next: the padded K times the panel's width.
  int64_t panel_stride() const noexcept { return panel_stride_; }
  const float* float_panels() const { return panels_.as<float>().data(); }
  const int8_t* code_panels() const { return panels_.as<int8_t>().data(); }
  const float* scales() const { return scales_.as<float>().data(); }

  QTensor unpack() const;

 private:
  CpuWeight(const KernelTable& table, Kind kind, std::span<const Shape> shapes);

  const KernelTable* table_;
  Kind kind_;
  int64_t rows_ = 0, cols_ = 0;
  int64_t group_ = 1;  // neighbouring k that lie together
  int64_t panel_stride_ = 0;
  Tensor panels_, scales_;

  int64_t offset(int64_t output, int64_t k) const noexcept;
};

}  // namespace octet::cpu

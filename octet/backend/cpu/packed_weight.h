// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/kernels.h"

namespace octet::cpu {

/// Where a PanelFormat puts codes: a panel is a row of blocks, each of the same `depth` neighbouring k.
class PanelLayout {
 public:
  /// Of a code, or the first byte of a float, in its block: code = byte >> shift, as many bits as the format has.
  struct Place {
    int byte, shift;
  };

  PanelLayout(const PanelFormat& format, int width);

  int64_t depth() const noexcept { return depth_; }
  int64_t block_bytes() const noexcept { return block_bytes_; }
  /// Output `lane` of the panel, k-th of its block.
  Place place(int64_t lane, int64_t k) const noexcept { return places_[static_cast<size_t>(lane * depth_ + k)]; }

 private:
  int64_t depth_, block_bytes_;
  std::vector<Place> places_;
};

/// A weight [N, K] in panels (kernels.h says how they lie), with its scales, and zero points or minima. Where groups
/// are of any columns, those of a group lie side by side, in ascending order; who multiplies puts x in that order
/// first.
class CpuWeight final : public PackedWeight {
 public:
  /// The last two are quantized; columns of outliers in them are a weight of kF16 or kBF16 of their own.
  enum class Kind : uint8_t { kF32, kF16, kBF16, kFloatActivations, kInt8Activations };

  /// Parts stacked along their outputs. Throw ShapeError for parts that are not matrices of one width and, quantized,
  /// of one scheme, group index and kind of outlier columns, or are empty. Float parts that are all fp16 or all bf16
  /// are kept so; any others become fp32.
  CpuWeight(const KernelTable& table, int threads, std::span<const ConstTensorView> parts);
  CpuWeight(const KernelTable& table, int threads, std::span<const QTensor* const> parts, ActivationMode activations);

  int64_t rows() const noexcept override { return rows_; }
  int64_t cols() const noexcept override { return cols_; }
  int64_t bytes() const noexcept override {
    if (is_float()) return panels_.bytes();
    return panels_.bytes() + scales_.bytes() + zero_points_.bytes() + minima_.bytes() + column_sums_.bytes() +
           column_order_.bytes() + outlier_columns_.bytes() + (outliers_ == nullptr ? 0 : outliers_->bytes());
  }

  const KernelTable& table() const noexcept { return *table_; }
  bool is_float() const noexcept { return kind_ <= Kind::kBF16; }
  bool meets_int8() const noexcept { return kind_ == Kind::kInt8Activations; }
  const WeightScheme& scheme() const noexcept { return scheme_; }
  ActivationMode activations() const noexcept { return activations_; }
  /// Of a weight that meets int8: k whose exact sum is rescaled by itself; 0: all.
  int64_t sum_depth() const noexcept;
  /// What multiplies fp32 rows by these panels; null: the table's product_f32.
  const FloatKernels* float_kernels() const noexcept;
  int64_t panel_count() const noexcept { return (rows_ + table_->panel_width - 1) / table_->panel_width; }
  /// Elements from one panel to the next: the padded K times the panel's width.
  int64_t panel_stride() const noexcept { return panel_stride_; }
  int64_t panel_bytes() const noexcept { return panel_stride_ * bits() / 8; }
  /// Panels from `panel` on, at their k: the first of a block of k.
  const void* panels(int64_t panel, int64_t k) const noexcept {
    return panels_.view().data + (panel * panel_stride_ + k * table_->panel_width) * bits() / 8;
  }
  /// What lies beside them: k is the first of a group. No groups for a float weight.
  Groups groups(int64_t panel, int64_t k) const;
  /// Sums of codes less their zero points from `panel` on, one for each group, or each sum_depth(): for activations
  /// with a zero point.
  Int8Product::ColumnSums column_sums(int64_t panel, int32_t factor) const;

  /// The column of W that lies at each k of the panels; empty where that is k itself.
  std::span<const int32_t> column_order() const {
    return column_order_.bytes() == 0 ? std::span<const int32_t>() : column_order_.as<int32_t>();
  }
  /// The columns of x that meet outliers() in the place of codes, ascending; empty where there are none, and null.
  std::span<const int32_t> outlier_columns() const {
    return outliers_ == nullptr ? std::span<const int32_t>() : outlier_columns_.as<int32_t>();
  }
  const CpuWeight* outliers() const noexcept { return outliers_.get(); }
  /// Whether it meets int8 and some of its 8-bit codes are -128.
  bool holds_lowest_codes() const noexcept { return holds_lowest_codes_; }

  QTensor unpack() const;
  /// Of a weight without outliers: y[k] = (code - zero point) · scale, or fma(code, scale, minimum), of the row
  /// `index`; y[k] + that for Start::kFromTile.
  void read_row(int64_t index, Start start, float* y) const;

 private:
  CpuWeight(const KernelTable& table, Kind kind, const WeightScheme& scheme, std::span<const Shape> shapes);

  // Lays out a panel's codes, or adds them up; those of each of its outputs are a row of memory.
  void pack_codes(int64_t panel, std::span<const int8_t* const> rows);
  void sum_codes(int64_t panel, std::span<const int8_t* const> rows);
  // Sums of codes that an output has, where there are any: see sum_depth().
  int64_t sum_count() const noexcept;
  // Lays out float parts, read as the elements that the panels have.
  template <class Element>
  void fill(int threads, std::span<const ConstTensorView> parts);

  // The values of a float weight as they were stored.
  Tensor unpack_floats() const;

  const PanelFormat& format() const noexcept;
  int bits() const noexcept { return format().bits; }
  int64_t group_count() const noexcept { return scheme_.groups(cols_); }
  // What a nibble is more than the code.
  int nibble_offset() const noexcept;
  // What a stored zero point is more than the code that it is.
  int zero_offset() const noexcept;
  // Whether the codes of 8 bits have zero points.
  bool shifts_bytes() const noexcept { return bits() == 8 && scheme_.mapping == CodeMapping::kZeroPoint; }
  // Where the scale, the zero point and the minimum of an output and a group lie.
  int64_t group_offset(int64_t output, int64_t group) const noexcept {
    const int64_t width = table_->panel_width;
    return (output / width * group_count() + group) * width + output % width;
  }
  // Calls visit(k, byte, shift) for the codes of an output, k ascending: where they lie, in bytes from the first panel.
  template <class Visit>
  void for_places(int64_t output, Visit visit) const;
  // Calls visit(k, code), k of the panels ascending.
  template <class Visit>
  void for_codes(int64_t output, Visit visit) const;

  const KernelTable* table_;
  Kind kind_;
  WeightScheme scheme_;
  PanelLayout layout_;
  int64_t rows_ = 0, cols_ = 0;
  int64_t panel_stride_ = 0;
  ActivationMode activations_ = ActivationMode::kFloat;
  bool holds_lowest_codes_ = false;
  Tensor panels_, scales_, zero_points_, minima_;
  Tensor column_order_;  ///< I32 [K], or none
  Tensor column_sums_;   ///< I32 [panel][sum][output of the panel], for activations with a zero point
  Tensor outlier_columns_;
  std::unique_ptr<CpuWeight> outliers_;
};

}  // namespace octet::cpu

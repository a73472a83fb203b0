// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace octet {

/// Extents of a tensor, outermost first. A scalar has rank 0 and one element.
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  /// Throws ShapeError for a negative extent, more than kMaxRank extents, or more elements than int64 counts.
  Shape(std::initializer_list<int64_t> extents);
  explicit Shape(std::span<const int64_t> extents);

  int rank() const noexcept { return rank_; }
  int64_t operator[](int axis) const noexcept { return extents_[axis]; }
  int64_t elements() const noexcept { return elements_; }
  std::span<const int64_t> extents() const noexcept { return {extents_.data(), static_cast<size_t>(rank_)}; }

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
  int64_t elements_ = 1;
};

/// "[1536, 384]"
std::string to_string(const Shape& shape);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/shape.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "octet/base/error.h"

namespace octet {

Shape::Shape(std::initializer_list<int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const int64_t> extents) {
  if (extents.size() > kMaxRank) fail<ShapeError>("{} dimensions; at most {} are supported", extents.size(), kMaxRank);
  rank_ = static_cast<int>(extents.size());
  std::copy(extents.begin(), extents.end(), extents_.begin());
  for (const int64_t extent : extents) {
    if (extent < 0 || __builtin_mul_overflow(elements_, extent, &elements_)) {
      fail<ShapeError>("the shape {} is impossible", extents);
    }
  }
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.extents(), ", ")); }

}  // namespace octet

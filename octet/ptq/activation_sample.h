// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octet/tensor/tensor.h"

namespace octet {

/// Some rows of all that went through a site, each as likely to be kept as any other, and the exact range of each
/// column over all rows. Which are kept is decided by the row's place in the stream and the seed (those with the least
/// of 64 random bits, Philox at that place), not by how the stream was portioned.
class ActivationSample {
 public:
  explicit ActivationSample(std::string site, int64_t columns, int64_t most_rows = 128, uint64_t seed = 0);

  /// rows [n, columns], n any. Throws ShapeError unless `rows` is whole rows and NumericError, with nothing added, for
  /// NaN or infinity; both name the site.
  void add(std::span<const float> rows);

  const std::string& site() const noexcept { return site_; }
  int64_t columns() const noexcept { return columns_; }
  int64_t seen() const noexcept { return seen_; }  ///< rows
  /// [kept, columns] F32, in the order of the stream.
  Tensor rows() const;
  /// [columns]; zeros before the first row.
  std::span<const float> smallest() const noexcept { return smallest_; }
  std::span<const float> largest() const noexcept { return largest_; }
  std::vector<float> absmax() const;

 private:
  struct Kept {
    uint64_t priority;
    int64_t row;   ///< its place in the stream
    size_t place;  ///< its place in values_, in rows

    friend bool operator<(const Kept& a, const Kept& b) noexcept {
      return a.priority != b.priority ? a.priority < b.priority : a.row < b.row;
    }
  };

  std::string site_;
  int64_t columns_, most_rows_;
  uint64_t seed_;
  int64_t seen_ = 0;
  std::vector<Kept> kept_;  ///< a heap, the one to go first on top
  std::vector<float> values_, smallest_, largest_;
};

}  // namespace octet

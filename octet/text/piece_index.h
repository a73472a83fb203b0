// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace octet {

/// Finds the pieces that a text begins with: a sorted list, in which each byte of the text narrows down the stretch
/// that begins so.
class PieceIndex {
 public:
  PieceIndex() = default;
  /// No two texts are the same, and none is empty.
  explicit PieceIndex(std::vector<std::pair<std::string, int32_t>> pieces);

  bool empty() const { return pieces_.empty(); }

  /// Calls `take(length, value)` for every piece that `text` begins with, the shortest first.
  template <class Take>
  void for_each_prefix(std::string_view text, const Take& take) const {
    if (text.empty() || empty()) return;
    const auto first = static_cast<unsigned char>(text[0]);
    size_t begin = by_first_byte_[first], end = by_first_byte_[size_t{first} + 1];
    for (size_t depth = 1; begin < end; ++depth) {
      // All of the stretch begin with `depth` bytes of the text; one that has no more is the first of them.
      if (pieces_[begin].first.size() == depth) take(depth, pieces_[begin++].second);
      if (depth == text.size()) return;
      const auto wanted = static_cast<unsigned char>(text[depth]);
      const auto byte = [&](const auto& piece) { return static_cast<unsigned char>(piece.first[depth]); };
      const auto from = pieces_.begin() + static_cast<std::ptrdiff_t>(begin),
                 to = pieces_.begin() + static_cast<std::ptrdiff_t>(end);
      const auto low = std::partition_point(from, to, [&](const auto& piece) { return byte(piece) < wanted; });
      const auto high = std::partition_point(low, to, [&](const auto& piece) { return byte(piece) == wanted; });
      begin = static_cast<size_t>(low - pieces_.begin());
      end = static_cast<size_t>(high - pieces_.begin());
    }
  }

  /// The length of the longest piece that `text` begins with; 0 where it begins with none.
  size_t longest_prefix(std::string_view text) const;

 private:
  std::vector<std::pair<std::string, int32_t>> pieces_;  // sorted by bytes
  std::array<size_t, 257> by_first_byte_{};              // where the pieces with that first byte begin
};

}  // namespace octet

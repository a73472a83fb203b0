// SPDX-License-Identifier: Apache-2.0
#include "octet/text/piece_index.h"

namespace octet {

PieceIndex::PieceIndex(std::vector<std::pair<std::string, int32_t>> pieces) : pieces_(std::move(pieces)) {
  std::sort(pieces_.begin(), pieces_.end());  // std::string compares bytes as unsigned char
  for (size_t byte = 0; byte <= 256; ++byte) {
    by_first_byte_[byte] = static_cast<size_t>(
        std::partition_point(pieces_.begin(), pieces_.end(),
                             [&](const auto& piece) { return static_cast<unsigned char>(piece.first[0]) < byte; }) -
        pieces_.begin());
  }
}

size_t PieceIndex::longest_prefix(std::string_view text) const {
  size_t longest = 0;
  for_each_prefix(text, [&](size_t length, int32_t) { longest = length; });
  return longest;
}

}  // namespace octet

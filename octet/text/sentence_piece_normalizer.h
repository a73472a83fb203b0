// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "octet/text/aligned_text.h"
#include "octet/text/piece_index.h"

namespace octet {

/// The rules of a SentencePiece normalizer (`precompiled_charsmap`): a double-array trie (Aoe, 1989, in the layout of
/// darts-clone) from texts to what replaces them. It may come from a hostile file: nothing is read outside of it.
class CharsMap {
 public:
  CharsMap() = default;
  /// Throws FormatError, which names `source`, where the parts do not fit the size.
  CharsMap(std::string_view blob, std::string_view source);

  struct Rule {
    size_t length = 0;  ///< bytes that are replaced; 0: none
    std::string_view replacement;
  };
  /// The rule for the longest text that `text` begins with.
  Rule find(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends with a NUL
};

/// What SentencePiece does to a text: its rules, whitespace, and ▁ for spaces. Offsets are those of the library: a
/// character ends where the next one begins.
struct SentencePieceNormalizer {
  std::shared_ptr<const CharsMap> rules;
  std::shared_ptr<const PieceIndex> user_defined;  ///< these stay as they are
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  bool whitespace_is_suffix = false;

  void apply(AlignedText& text) const;
};

}  // namespace octet

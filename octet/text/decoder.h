// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace octet {

/// How tokens become text again.
struct Decoder {
  enum class Kind {
    kSpaces,     ///< a space between tokens
    kWordPiece,  ///< a space before every token that does not begin with the prefix, which goes
  };

  Kind kind = Kind::kSpaces;
  std::string prefix;    ///< of continuing pieces, "##"
  bool cleanup = false;  ///< undo English tokenization: no space before punctuation, "do n't" to "don't"

  /// Appends one more token; `first` says that it is the first.
  void append(std::string& text, std::string_view token, bool first) const;
};

}  // namespace octet

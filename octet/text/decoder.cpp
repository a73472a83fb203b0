// SPDX-License-Identifier: Apache-2.0
#include "octet/text/decoder.h"

#include <array>
#include <utility>

namespace octet {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// The library's list, one after the other; it sees one token at a time, with the space before it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kCleanups{{{" .", "."},
                                                                                   {" ?", "?"},
                                                                                   {" !", "!"},
                                                                                   {" ,", ","},
                                                                                   {" ' ", "'"},
                                                                                   {" n't", "n't"},
                                                                                   {" 'm", "'m"},
                                                                                   {" do not", " don't"},
                                                                                   {" 's", "'s"},
                                                                                   {" 've", "'ve"},
                                                                                   {" 're", "'re"}}};

}  // namespace

void Decoder::append(std::string& text, std::string_view token, bool first) const {
  if (kind == Kind::kSpaces) {
    if (!first) text += ' ';
    text += token;
    return;
  }
  std::string piece;
  if (first) {
    piece = token;
  } else if (token.starts_with(prefix)) {
    piece = token.substr(prefix.size());
  } else {
    piece = " ";
    piece += token;
  }
  if (cleanup) {
    for (const auto& [from, to] : kCleanups) replace_all(piece, from, to);
  }
  text += piece;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/word_piece.h"

#include <algorithm>

namespace octet {
namespace {

/// True where a UTF-8 character begins; the other bytes of one are 10xxxxxx.
bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

}  // namespace

WordPiece::WordPiece(Vocabulary vocabulary, int32_t unknown_id, std::string_view continuing_prefix,
                     int64_t max_chars_per_word)
    : vocabulary_(std::move(vocabulary)), unknown_id_(unknown_id), max_chars_per_word_(max_chars_per_word) {
  const auto add = [](Pieces& pieces, std::string_view text, int32_t id) {
    if (text.empty()) return;
    pieces.ids.insert_or_assign(text, id);
    pieces.longest = std::max(pieces.longest, text.size());
  };
  for (const auto& [token, id] : vocabulary_.tokens()) {
    const std::string_view text = token;
    add(first_, text, id);
    if (text.starts_with(continuing_prefix)) add(continuing_, text.substr(continuing_prefix.size()), id);
  }
}

void WordPiece::tokenize(std::string_view word, std::vector<ModelToken>& tokens) const {
  const size_t tokens_before = tokens.size();
  const auto unknown = [&] {
    tokens.resize(tokens_before);
    tokens.push_back({unknown_id_, 0, static_cast<uint32_t>(word.size())});
  };
  // No word has more characters than bytes, so most need not be counted.
  if (static_cast<int64_t>(word.size()) > max_chars_per_word_ &&
      std::count_if(word.begin(), word.end(), begins_character) > max_chars_per_word_) {
    return unknown();
  }
  for (size_t begin = 0; begin < word.size();) {
    const Pieces& pieces = begin == 0 ? first_ : continuing_;
    size_t end = std::min(word.size(), begin + pieces.longest);
    for (;; --end) {
      if (end == begin) return unknown();
      if (end < word.size() && !begins_character(word[end])) continue;
      const auto found = pieces.ids.find(word.substr(begin, end - begin));
      if (found == pieces.ids.end()) continue;
      tokens.push_back({found->second, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      break;
    }
    begin = end;
  }
}

}  // namespace octet

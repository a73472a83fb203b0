// SPDX-License-Identifier: Apache-2.0
#include "octet/text/added_tokens.h"

#include <algorithm>

#include "octet/text/unicode.h"

namespace octet {

void AddedTokens::Trie::add(std::u32string_view pattern, size_t token) {
  if (pattern.empty()) return;
  size_t node = 0;
  for (const char32_t c : pattern) {
    const auto [child, is_new] = nodes[node].children.try_emplace(c, nodes.size());
    node = child->second;
    if (is_new) nodes.emplace_back();
  }
  if (!nodes[node].token) nodes[node].token = token;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  for (size_t i = 0; i < tokens_.size(); ++i) {
    AlignedText text = align(tokens_[i].content);
    if (tokens_[i].normalized) normalizer.apply(text);
    std::u32string pattern;
    for (const AlignedChar& c : text) pattern.push_back(c.code);
    (tokens_[i].normalized ? normalized_ : raw_).add(pattern, i);
    texts_.push_back(to_utf8(text));
    by_content_.emplace(tokens_[i].content, i);
    by_id_.emplace(tokens_[i].id, i);
  }
}

std::vector<AddedTokens::Segment> AddedTokens::split(std::span<const AlignedChar> text, Stage stage) const {
  const Trie& trie = stage == Stage::kRaw ? raw_ : normalized_;
  std::vector<Segment> segments;
  size_t copied = 0;  // everything before it is in a segment
  const auto copy_text = [&](size_t end) {
    if (copied < end) segments.push_back({{copied, end}, -1});
  };
  if (!trie.nodes[0].children.empty()) {
    for (size_t at = 0; at < text.size();) {
      std::optional<size_t> match;
      size_t match_end = at;
      size_t node = 0;
      for (size_t i = at; i < text.size(); ++i) {
        const auto child = trie.nodes[node].children.find(text[i].code);
        if (child == trie.nodes[node].children.end()) break;
        node = child->second;
        if (trie.nodes[node].token) {
          match = trie.nodes[node].token;
          match_end = i + 1;
        }
      }
      if (!match) {
        ++at;
        continue;
      }
      const AddedToken& token = tokens_[*match];
      size_t begin = at, end = match_end;
      // The search goes on behind the match itself, whether it is taken or not, and whatever whitespace it takes along.
      at = match_end;
      if (token.single_word && ((begin > 0 && unicode::is_word(text[begin - 1].code)) ||
                                (end < text.size() && unicode::is_word(text[end].code)))) {
        continue;
      }
      if (token.lstrip) {
        while (begin > copied && unicode::is_whitespace(text[begin - 1].code)) --begin;
        begin = std::max(begin, copied);
      }
      if (token.rstrip) {
        while (end < text.size() && unicode::is_whitespace(text[end].code)) ++end;
      }
      // A token of whitespace may lie within what the one before it took along.
      if (begin >= end) continue;
      copy_text(begin);
      segments.push_back({{begin, end}, token.id});
      copied = end;
    }
  }
  copy_text(text.size());
  return segments;
}

std::optional<int32_t> AddedTokens::token_to_id(std::string_view content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? std::nullopt : std::optional(tokens_[found->second].id);
}

std::optional<std::string_view> AddedTokens::id_to_token(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? std::nullopt : std::optional<std::string_view>(texts_[found->second]);
}

bool AddedTokens::is_special(int32_t id) const {
  const auto found = by_id_.find(id);
  return found != by_id_.end() && tokens_[found->second].special;
}

}  // namespace octet

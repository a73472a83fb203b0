// SPDX-License-Identifier: Apache-2.0
#include "octet/text/sentence_piece_normalizer.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/text/unicode.h"

namespace octet {
namespace {

constexpr size_t kUnitBytes = 4;

uint32_t little_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < kUnitBytes; ++i) value |= uint32_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
  return value;
}

// A unit of the double array: a label (bits 0 to 7; bit 31 is set in those that hold a value instead), whether a value
// is beside its children (bit 8), and the offset to them (bits 10 to 30, times 256 where bit 9 is set).
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FF; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

}  // namespace

CharsMap::CharsMap(std::string_view blob, std::string_view source) {
  if (blob.empty()) return;
  if (blob.size() < kUnitBytes) fail<FormatError>("{}: the normalization rules have {} bytes", source, blob.size());
  const size_t trie_bytes = little_endian(blob);
  blob.remove_prefix(kUnitBytes);
  if (trie_bytes > blob.size() || trie_bytes % kUnitBytes != 0) {
    fail<FormatError>("{}: the trie of the normalization rules has {} bytes, of {} that are there", source, trie_bytes,
                      blob.size());
  }
  units_.reserve(trie_bytes / kUnitBytes);
  for (size_t at = 0; at < trie_bytes; at += kUnitBytes) units_.push_back(little_endian(blob.substr(at)));
  replacements_ = blob.substr(trie_bytes);
}

CharsMap::Rule CharsMap::find(std::string_view text) const {
  Rule rule;
  if (units_.empty()) return rule;
  // The texts of real rules have up to 18 bytes; a damaged trie may go round in circles.
  constexpr size_t kLongest = 256;
  size_t node = offset_of(units_[0]);
  for (size_t at = 0; at < std::min(text.size(), kLongest); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    if (node >= units_.size()) break;
    const size_t place = value_of(units_[node]);
    if (place > replacements_.size()) break;
    const std::string_view rest = std::string_view(replacements_).substr(place);
    rule = {at + 1, rest.substr(0, rest.find('\0'))};
  }
  return rule;
}

void SentencePieceNormalizer::apply(AlignedText& text) const {
  if (text.empty()) return;
  const std::string utf8 = to_utf8(text);
  std::string_view input = utf8;
  size_t at = 0;  // the first character of `input`

  struct Prefix {
    std::string_view replacement;
    size_t length;
  };
  const auto normalize_prefix = [&]() -> Prefix {
    if (const size_t length = user_defined->longest_prefix(input); length > 0) return {input.substr(0, length), length};
    const CharsMap::Rule rule = rules->find(input);
    const size_t character = unicode::utf8_size(text[at].code);
    if (rule.length == 0) return {input.substr(0, character), character};
    return {rule.replacement, rule.length};
  };
  // A damaged trie may match a part of a character: the rest of it goes too.
  const auto consume = [&](size_t length) {
    size_t bytes = 0;
    while (bytes < length) bytes += unicode::utf8_size(text[at++].code);
    input.remove_prefix(bytes);
  };
  const auto consumed = [&] { return at < text.size() ? text[at].begin : text.back().end; };

  if (remove_extra_whitespaces) {
    while (!input.empty()) {
      const Prefix prefix = normalize_prefix();
      if (prefix.replacement != " ") break;
      consume(prefix.length);
    }
  }
  AlignedText normalized;
  if (input.empty()) {
    text.clear();
    return;
  }
  // Rules may write a word for a character (㍿ is four); none in good faith writes a book.
  const size_t longest = 64 * utf8.size() + 4096;
  normalized.reserve(text.size() + 1);
  const char32_t space = escape_whitespaces ? U'▁' : U' ';
  const auto push = [&](char32_t c) {
    if (normalized.size() == longest) {
      fail<FormatError>("the tokenizer's rules make a text more than 64 times longer; its file is damaged");
    }
    normalized.push_back({c == U' ' ? space : c, consumed(), 0});
  };
  if (add_dummy_prefix && !whitespace_is_suffix) push(U' ');
  bool after_space = remove_extra_whitespaces;
  while (!input.empty()) {
    const Prefix prefix = normalize_prefix();
    std::string_view replacement = prefix.replacement;
    while (after_space && replacement.starts_with(' ')) replacement.remove_prefix(1);
    for (size_t i = 0; i < replacement.size();) push(unicode::decode_utf8(replacement, i));
    if (!replacement.empty()) after_space = replacement.ends_with(' ');
    consume(prefix.length);
    if (!remove_extra_whitespaces) after_space = false;
  }
  uint32_t end = consumed();
  if (remove_extra_whitespaces) {
    while (!normalized.empty() && normalized.back().code == space) {
      end = normalized.back().begin;
      normalized.pop_back();
    }
  }
  if (add_dummy_prefix && whitespace_is_suffix) normalized.push_back({space, end, 0});
  for (size_t i = 0; i < normalized.size(); ++i) {
    normalized[i].end = i + 1 < normalized.size() ? normalized[i + 1].begin : end;
  }
  text = std::move(normalized);
}

}  // namespace octet

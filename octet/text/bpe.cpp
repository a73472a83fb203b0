// SPDX-License-Identifier: Apache-2.0
#include "octet/text/bpe.h"

#include <algorithm>
#include <bit>
#include <queue>

#include <fmt/format.h>

#include "octet/text/unicode.h"

namespace octet {
namespace {

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

MergeTable::MergeTable(const std::vector<BpeMerge>& merges) {
  // Twice as many places as merges, at least: a look-up for a pair that is not there reads one or two.
  const size_t size = std::bit_ceil(std::max<size_t>(16, 2 * merges.size()));
  shift_ = 64 - std::countr_zero(size);
  entries_.resize(size);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    size_t at = place(pair);
    while (entries_[at].pair != kNone && entries_[at].pair != pair) at = (at + 1) & (size - 1);
    entries_[at] = {pair, static_cast<uint32_t>(rank), merges[rank].result};
  }
}

const MergeTable::Entry* MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  for (size_t at = place(pair);; at = (at + 1) & (entries_.size() - 1)) {
    if (entries_[at].pair == pair) return &entries_[at];
    if (entries_[at].pair == kNone) return nullptr;
  }
}

std::optional<BpeMerge> find_merge(const Vocabulary& vocabulary, std::string_view left, std::string_view right,
                                   size_t prefix, std::string& missing) {
  const auto find = [&](std::string_view token) {
    const auto id = vocabulary.token_to_id(token);
    if (!id) missing = token;
    return id;
  };
  const auto left_id = find(left), right_id = left_id ? find(right) : std::nullopt;
  if (!right_id) return std::nullopt;
  const auto result = find(std::string(left) + std::string(right.substr(std::min(prefix, right.size()))));
  if (!result) return std::nullopt;
  return BpeMerge{*left_id, *right_id, *result};
}

std::array<int32_t, 256> find_byte_tokens(const Vocabulary& vocabulary) {
  std::array<int32_t, 256> tokens{};
  for (size_t byte = 0; byte < tokens.size(); ++byte) {
    tokens[byte] = vocabulary.token_to_id(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
  return tokens;
}

bool has_inner_space(std::string_view token) {
  size_t parts = 0;
  for_each_spaced_part(token, [&](std::string_view, size_t) { ++parts; });
  return parts > 1;
}

/// A stretch of the word while it is being merged: a token, and the symbols beside it.
struct Bpe::Symbol {
  int32_t id;
  int32_t previous, next;  ///< -1: none
  uint32_t size;           ///< bytes; 0: it has gone into the symbol before it
};

Bpe::Bpe(Vocabulary vocabulary, const std::vector<BpeMerge>& merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), merges_(merges), options_(std::move(options)) {
  if (options_.byte_fallback) byte_tokens_ = find_byte_tokens(vocabulary_);
  // Then no merge reaches over the beginning of such a part, and a text that came as one long word (Llama 2) is as good
  // as split. Where characters vanish the library's offsets depend on the whole word.
  const bool none_vanish = options_.unknown || (byte_tokens_ && std::all_of(byte_tokens_->begin(), byte_tokens_->end(),
                                                                            [](int32_t id) { return id >= 0; }));
  spaces_begin_parts_ = none_vanish && vocabulary_.token_to_id("▁") && options_.continuing_prefix.empty() &&
                        options_.end_suffix.empty() &&
                        std::none_of(merges.begin(), merges.end(), [&](const BpeMerge& merge) {
                          return has_inner_space(vocabulary_.id_to_token(merge.result).value_or(std::string_view()));
                        });
}

void Bpe::tokenize(std::string_view word, std::vector<ModelToken>& tokens) const {
  if (options_.ignore_merges) {
    if (const auto id = vocabulary_.token_to_id(word)) {
      tokens.push_back({*id, 0, static_cast<uint32_t>(word.size())});
      return;
    }
  }
  tokenize_by_parts(word, spaces_begin_parts_, cache_, tokens,
                    [this](std::string_view part, std::vector<ModelToken>& out) { tokenize_part(part, out); });
}

void Bpe::tokenize_part(std::string_view part, std::vector<ModelToken>& tokens) const {
  std::vector<Symbol> symbols = symbols_of(part);
  merge(symbols);
  // The library counts the sizes up, so that characters that vanished move what follows to the left.
  uint32_t begin = 0;
  for (const Symbol& symbol : symbols) {
    if (symbol.size == 0) continue;
    const auto end = static_cast<uint32_t>(std::min<size_t>(size_t{begin} + symbol.size, part.size()));
    tokens.push_back({symbol.id, std::min(begin, end), end});
    begin = end;
  }
}

std::vector<Bpe::Symbol> Bpe::symbols_of(std::string_view part) const {
  std::vector<Symbol> symbols;
  symbols.reserve(part.size());
  const auto add = [&](int32_t id, uint32_t size) {
    const auto place = static_cast<int32_t>(symbols.size());
    if (place > 0) symbols.back().next = place;
    symbols.push_back({id, place - 1, -1, size});
  };
  uint32_t unknown_size = 0;  // of a run that is not added yet
  const auto add_unknown = [&] {
    if (unknown_size > 0) add(*options_.unknown, unknown_size);
    unknown_size = 0;
  };
  std::string dressed;
  for (size_t begin = 0, end = 0; begin < part.size(); begin = end) {
    unicode::decode_utf8(part, end);
    std::string_view text = part.substr(begin, end - begin);
    const auto size = static_cast<uint32_t>(text.size());
    const bool has_prefix = begin > 0 && !options_.continuing_prefix.empty();
    const bool has_suffix = end == part.size() && !options_.end_suffix.empty();
    if (has_prefix || has_suffix) {
      dressed = has_prefix ? options_.continuing_prefix : std::string();
      dressed += text;
      if (has_suffix) dressed += options_.end_suffix;
      text = dressed;
    }
    if (const auto id = vocabulary_.token_to_id(text)) {
      add_unknown();
      add(*id, size);
      continue;
    }
    if (byte_tokens_) {
      const auto token_of = [&](char byte) { return (*byte_tokens_)[static_cast<unsigned char>(byte)]; };
      if (std::all_of(text.begin(), text.end(), [&](char byte) { return token_of(byte) >= 0; })) {
        // A run of unknown characters before them is added after them: so it is in the library.
        for (const char byte : text) add(token_of(byte), 1);
        continue;
      }
    }
    if (!options_.unknown) continue;
    if (!options_.fuse_unknown) add_unknown();
    unknown_size += size;
  }
  add_unknown();
  return symbols;
}

void Bpe::merge(std::vector<Symbol>& symbols) const {
  struct Candidate {
    uint32_t rank;
    int32_t place, result;
    bool operator<(const Candidate& other) const {  // the queue's top is the largest
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };
  std::vector<Candidate> candidates;
  candidates.reserve(symbols.size());
  const auto at = [&](int32_t place) -> Symbol& { return symbols[static_cast<size_t>(place)]; };
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t place = 0; place + 1 < count; ++place) {
    const MergeTable::Entry* entry = merges_.find(at(place).id, at(place + 1).id);
    if (entry != nullptr) candidates.push_back({entry->rank, place, entry->result});
  }
  std::priority_queue<Candidate> queue({}, std::move(candidates));
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    Symbol& left = at(candidate.place);
    if (left.size == 0 || left.next == -1) continue;
    Symbol& right = at(left.next);
    // Since it was queued either side may have grown.
    const MergeTable::Entry* now = merges_.find(left.id, right.id);
    if (now == nullptr || now->result != candidate.result) continue;
    left.id = candidate.result;
    left.size += right.size;
    left.next = right.next;
    right.size = 0;
    const auto queue_pair = [&](int32_t first, int32_t second) {
      if (first == -1 || second == -1) return;
      const MergeTable::Entry* entry = merges_.find(at(first).id, at(second).id);
      if (entry != nullptr) queue.push({entry->rank, first, entry->result});
    };
    if (left.next != -1) at(left.next).previous = candidate.place;
    queue_pair(left.previous, candidate.place);
    queue_pair(candidate.place, left.next);
  }
}

}  // namespace octet

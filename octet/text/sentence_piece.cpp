// SPDX-License-Identifier: Apache-2.0
#include "octet/text/sentence_piece.h"

#include <algorithm>
#include <cfloat>
#include <queue>
#include <unordered_map>

#include "octet/text/bpe.h"
#include "octet/text/unicode.h"

namespace octet {
namespace {

using Type = SentencePieceFile::Type;

Vocabulary vocabulary_of(const SentencePieceFile& file) {
  std::vector<std::pair<std::string, int32_t>> tokens;
  tokens.reserve(file.pieces.size());
  for (const SentencePieceFile::Piece& piece : file.pieces) {
    tokens.emplace_back(piece.text, static_cast<int32_t>(tokens.size()));
  }
  return Vocabulary(std::move(tokens));
}

/// The bytes of the first character of `text`, which is UTF-8 and not empty.
size_t first_character(std::string_view text) {
  size_t end = 0;
  unicode::decode_utf8(text, end);
  return end;
}

}  // namespace

SentencePieceModel::SentencePieceModel(const SentencePieceFile& file)
    : vocabulary_(vocabulary_of(file)), unknown_id_(file.unknown_id), byte_fallback_(file.byte_fallback) {
  for (const SentencePieceFile::Piece& piece : file.pieces) {
    types_.push_back(piece.type);
    scores_.push_back(piece.score);
  }
  if (byte_fallback_) byte_tokens_ = find_byte_tokens(vocabulary_);
}

void SentencePieceModel::add(std::vector<ModelToken>& tokens, size_t first, std::string_view word,
                             ModelToken piece) const {
  const bool unknown = piece.id == unknown_id_;
  if (unknown && byte_fallback_) {
    for (uint32_t at = piece.begin; at < piece.end; ++at) {
      tokens.push_back({byte_tokens_[static_cast<unsigned char>(word[at])], at, at + 1});
    }
    return;
  }
  // Neighbouring unknown pieces are one.
  if (unknown && tokens.size() > first && tokens.back().id == unknown_id_ && tokens.back().end == piece.begin) {
    tokens.back().end = piece.end;
  } else {
    tokens.push_back(piece);
  }
}

SentencePieceBpe::SentencePieceBpe(const SentencePieceFile& file, std::shared_ptr<const PieceIndex> user_defined)
    : SentencePieceModel(file), user_defined_(std::move(user_defined)) {
  bool has_inner = false;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePieceFile::Piece& piece = file.pieces[id];
    if (!piece.is_text()) continue;
    pieces_.emplace(piece.text, static_cast<int32_t>(id));
    has_inner = has_inner || has_inner_space(piece.text);
  }
  // An unknown ▁ would join an unknown character before it.
  spaces_begin_parts_ = !has_inner && pieces_.contains("▁");
}

void SentencePieceBpe::tokenize(std::string_view word, std::vector<ModelToken>& tokens) const {
  tokenize_by_parts(word, spaces_begin_parts_, cache_, tokens,
                    [this](std::string_view part, std::vector<ModelToken>& out) { tokenize_part(part, out); });
}

void SentencePieceBpe::tokenize_part(std::string_view part, std::vector<ModelToken>& tokens) const {
  struct Symbol {
    int32_t previous, next;  // -1: none
    uint32_t begin, size;    // its bytes of the part; size 0: it has gone into the symbol before it
    bool frozen;             // a user-defined piece, which never merges
  };
  struct Candidate {
    float score;
    int32_t left, right;
    uint32_t size;
    bool operator<(const Candidate& other) const {  // the queue's top is the largest
      return score != other.score ? score < other.score : left > other.left;
    }
  };
  std::vector<Symbol> symbols;
  symbols.reserve(part.size());
  for (size_t begin = 0; begin < part.size();) {
    const std::string_view rest = part.substr(begin);
    const size_t defined = user_defined_->longest_prefix(rest);
    const size_t size = defined > 0 ? defined : first_character(rest);
    const auto place = static_cast<int32_t>(symbols.size());
    symbols.push_back({place - 1, begin + size < part.size() ? place + 1 : -1, static_cast<uint32_t>(begin),
                       static_cast<uint32_t>(size), defined > 0});
    begin += size;
  }
  const auto at = [&](int32_t place) -> Symbol& { return symbols[static_cast<size_t>(place)]; };

  std::priority_queue<Candidate> queue;
  // How an unused piece came about, to take it apart again.
  std::unordered_map<std::string_view, size_t> first_part_of_unused;
  const auto queue_pair = [&](int32_t left, int32_t right) {
    if (left == -1 || right == -1 || at(left).frozen || at(right).frozen) return;
    const uint32_t size = at(left).size + at(right).size;
    if (size > kLongestPiece) return;
    const std::string_view text = part.substr(at(left).begin, size);
    const auto piece = pieces_.find(text);
    if (piece == pieces_.end()) return;
    queue.push({score_of(piece->second), left, right, size});
    if (type_of(piece->second) == Type::kUnused) first_part_of_unused[text] = at(left).size;
  };
  for (int32_t place = 1; place < static_cast<int32_t>(symbols.size()); ++place) queue_pair(place - 1, place);
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    Symbol &left = at(candidate.left), &right = at(candidate.right);
    if (left.size == 0 || right.size == 0 || left.size + right.size != candidate.size) continue;
    left.size = candidate.size;
    left.next = right.next;
    if (right.next >= 0) at(right.next).previous = candidate.left;
    right.size = 0;
    queue_pair(left.previous, candidate.left);
    queue_pair(candidate.left, left.next);
  }

  const size_t first = tokens.size();
  std::vector<std::string_view> pending;  // what is still to be given, the last one first
  for (int32_t place = symbols.empty() ? -1 : 0; place != -1; place = at(place).next) {
    pending.push_back(part.substr(at(place).begin, at(place).size));
    while (!pending.empty()) {
      const std::string_view text = pending.back();
      pending.pop_back();
      const auto piece = pieces_.find(text);
      const int32_t id = piece == pieces_.end() ? unknown_id() : piece->second;
      if (type_of(id) == Type::kUnused) {
        if (const auto unused = first_part_of_unused.find(text); unused != first_part_of_unused.end()) {
          pending.push_back(text.substr(unused->second));
          pending.push_back(text.substr(0, unused->second));
          continue;
        }
      }
      const auto begin = static_cast<uint32_t>(text.data() - part.data());
      add(tokens, first, part, {id, begin, begin + static_cast<uint32_t>(text.size())});
    }
  }
}

SentencePieceUnigram::SentencePieceUnigram(const SentencePieceFile& file)
    // The library begins the largest score at the smallest positive number, so that it never is negative.
    : SentencePieceModel(file), lowest_score_(FLT_MAX), highest_score_(FLT_MIN) {
  std::vector<std::pair<std::string, int32_t>> pieces;
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const SentencePieceFile::Piece& piece = file.pieces[id];
    if (piece.type == Type::kNormal) {
      lowest_score_ = std::min(lowest_score_, piece.score);
      highest_score_ = std::max(highest_score_, piece.score);
    }
    if (piece.is_text()) pieces.emplace_back(piece.text, static_cast<int32_t>(id));
  }
  pieces_ = PieceIndex(std::move(pieces));
}

void SentencePieceUnigram::tokenize(std::string_view word, std::vector<ModelToken>& tokens) const {
  // The best way to reach a byte: its sum of scores and its last piece. Sums are floats and comparisons doubles, since
  // near ties are decided by rounding.
  struct Best {
    int32_t id = -1;
    float score = 0;
    int64_t begin = -1;  // -1: not reached
  };
  std::vector<Best> best(word.size() + 1);
  constexpr float kUnknownPenalty = 10;
  const float unknown_score = lowest_score_ - kUnknownPenalty;
  const auto reach = [&](size_t end, size_t begin, int32_t id, double score) {
    Best& place = best[end];
    if (place.begin != -1 && score <= static_cast<double>(place.score)) return;
    place = {id, static_cast<float>(score), static_cast<int64_t>(begin)};
  };
  for (size_t begin = 0; begin < word.size();) {
    const std::string_view rest = word.substr(begin);
    const size_t character = first_character(rest);
    const float score_here = best[begin].score;
    bool has_single = false;
    pieces_.for_each_prefix(rest, [&](size_t length, int32_t id) {
      if (type_of(id) == Type::kUnused) return;
      // A user-defined piece is worth so much that it is always taken.
      const double score = type_of(id) == Type::kUserDefined
                               ? static_cast<double>(static_cast<float>(length) * highest_score_) - 0.1
                               : static_cast<double>(score_of(id));
      reach(begin + length, begin, id, score + static_cast<double>(score_here));
      has_single = has_single || length == character;
    });
    if (!has_single) reach(begin + character, begin, unknown_id(), static_cast<double>(unknown_score + score_here));
    begin += character;
  }

  std::vector<ModelToken> backwards;
  for (size_t end = word.size(); end > 0;) {
    const auto begin = static_cast<size_t>(best[end].begin);
    backwards.push_back({best[end].id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    end = begin;
  }
  const size_t first = tokens.size();
  for (auto piece = backwards.rbegin(); piece != backwards.rend(); ++piece) add(tokens, first, word, *piece);
}

}  // namespace octet

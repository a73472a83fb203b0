// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "octet/text/piece_index.h"
#include "octet/text/sentence_piece_model.h"
#include "octet/text/token_model.h"
#include "octet/text/word_cache.h"

namespace octet {

/// What both of SentencePiece's models have: pieces by id, and what becomes of text that is none of them.
class SentencePieceModel : public TokenModel {
 public:
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 protected:
  explicit SentencePieceModel(const SentencePieceFile& file);

  SentencePieceFile::Type type_of(int32_t id) const { return types_[static_cast<size_t>(id)]; }
  float score_of(int32_t id) const { return scores_[static_cast<size_t>(id)]; }
  int32_t unknown_id() const { return unknown_id_; }
  /// Appends a piece of the text; an unknown one becomes its bytes, or joins one right before it (from `first` on).
  void add(std::vector<ModelToken>& tokens, size_t first, std::string_view word, ModelToken piece) const;

 private:
  Vocabulary vocabulary_;
  std::vector<SentencePieceFile::Type> types_;
  std::vector<float> scores_;
  int32_t unknown_id_;
  bool byte_fallback_;
  std::array<int32_t, 256> byte_tokens_{};
};

/// BPE by scores: of all neighbours whose text together is a piece, those with the highest score are merged, the
/// leftmost first, and so on. Pieces that are marked unused are taken apart again. O(n log n).
class SentencePieceBpe : public SentencePieceModel {
 public:
  SentencePieceBpe(const SentencePieceFile& file, std::shared_ptr<const PieceIndex> user_defined);

  void tokenize(std::string_view word, std::vector<ModelToken>& tokens) const override;

 private:
  void tokenize_part(std::string_view part, std::vector<ModelToken>& tokens) const;

  StringMap<int32_t> pieces_;  // those that text can become
  std::shared_ptr<const PieceIndex> user_defined_;
  bool spaces_begin_parts_ = false;  // no piece goes on behind a ▁ that follows another character
  mutable WordCache cache_;
};

/// Unigram (Kudo, 2018): the segmentation whose pieces have the largest sum of scores. O(n) times the pieces that begin
/// at a place.
class SentencePieceUnigram : public SentencePieceModel {
 public:
  explicit SentencePieceUnigram(const SentencePieceFile& file);

  void tokenize(std::string_view word, std::vector<ModelToken>& tokens) const override;

 private:
  PieceIndex pieces_;  // those that text can become
  float lowest_score_, highest_score_;
};

}  // namespace octet

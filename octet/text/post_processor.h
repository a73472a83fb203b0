// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace octet {

/// A place of a template: one of the texts, or special tokens.
struct TemplatePiece {
  enum class Kind { kFirst, kSecond, kSpecial };

  Kind kind = Kind::kFirst;
  int32_t type_id = 0;
  std::vector<int32_t> ids;  ///< of the special tokens
};

/// How the tokens of a text, or of a pair, and special tokens are put together. `single` has no second text.
struct PostProcessor {
  std::vector<TemplatePiece> single{{TemplatePiece::Kind::kFirst, 0, {}}};
  std::vector<TemplatePiece> pair{{TemplatePiece::Kind::kFirst, 0, {}}, {TemplatePiece::Kind::kSecond, 1, {}}};

  /// Where there is one: the spaces at the ends of a token are no part of its offsets.
  struct TrimOffsets {
    bool add_prefix_space = false;  ///< a single space before the first token was added, and has no offset to lose
  };
  std::optional<TrimOffsets> trim_offsets;

  /// [CLS] A [SEP], and [CLS] A [SEP] B [SEP] with type 1 from B on.
  static PostProcessor bert(int32_t cls, int32_t sep);
  /// <s> A </s>, and <s> A </s> </s> B </s>, all of type 0.
  static PostProcessor roberta(int32_t cls, int32_t sep);
  /// A text with the token `bos` before it and `eos` behind it, where they are given; a pair is two such texts.
  static PostProcessor frame(std::optional<int32_t> bos, std::optional<int32_t> eos);
};

/// How many special tokens a template adds.
int64_t special_token_count(const std::vector<TemplatePiece>& pieces);

}  // namespace octet

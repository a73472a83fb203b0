// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
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

  /// [CLS] A [SEP], and [CLS] A [SEP] B [SEP] with type 1 from B on.
  static PostProcessor bert(int32_t cls, int32_t sep);
};

/// How many special tokens a template adds.
int64_t special_token_count(const std::vector<TemplatePiece>& pieces);

}  // namespace octet

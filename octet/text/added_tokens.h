// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "octet/text/aligned_text.h"
#include "octet/text/normalizer.h"
#include "octet/text/vocabulary.h"

namespace octet {

/// A token that is looked for in the text itself, before it is split into words.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      ///< left out by decode() on request
  bool single_word = false;  ///< only where no \w touches it
  bool lstrip = false;       ///< takes the whitespace before it along
  bool rstrip = false;       ///< takes the whitespace after it along
  bool normalized = false;   ///< looked for in the normalized text, in its own normalized form
};

/// The added tokens of a tokenizer. Of several that match, the one that begins first is taken, and of those the
/// longest.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// Ids and contents must differ. A token whose normalized form is empty never matches; of two with the same one, the
  /// lower id does.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  enum class Stage { kRaw, kNormalized };
  struct Segment {
    CharRange range;
    int32_t id;  ///< of an added token; -1: text between them
  };
  /// Cuts `text` at the tokens that are looked for in this stage. No segment is empty.
  std::vector<Segment> split(std::span<const AlignedChar> text, Stage stage) const;

  std::optional<int32_t> token_to_id(std::string_view content) const;
  /// A token's text, normalized where that is how it is looked for.
  std::optional<std::string_view> id_to_token(int32_t id) const;
  bool is_special(int32_t id) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  /// The code points of a set of tokens as a tree.
  struct Trie {
    struct Node {
      std::unordered_map<char32_t, size_t> children;
      std::optional<size_t> token;  ///< the place in tokens_ of the one that ends here
    };
    std::vector<Node> nodes{1};

    void add(std::u32string_view pattern, size_t token);
  };

  std::vector<AddedToken> tokens_;
  std::vector<std::string> texts_;  ///< what id_to_token gives
  Trie raw_, normalized_;
  StringMap<size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
};

}  // namespace octet

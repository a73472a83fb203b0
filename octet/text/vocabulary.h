// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace octet {

/// Ids lie in [0, kMaxTokenId]: sixty times the largest vocabulary we know of (262,144), and exact in a float.
inline constexpr int32_t kMaxTokenId = (1 << 24) - 1;

/// Hashes and compares std::string and std::string_view alike, so that a look-up makes no string.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
};
template <class Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

/// The tokens of a model and their ids. Ids may have holes.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// The ids must differ and lie in [0, kMaxTokenId]: readers check them, and say which one does not. Where a token is
  /// listed twice, its last id is the one that token_to_id() gives, and every id keeps its text.
  explicit Vocabulary(std::vector<std::pair<std::string, int32_t>> tokens);

  /// Entries, which is one more than the largest id where there are no holes.
  int64_t size() const { return static_cast<int64_t>(by_id_.size()); }
  /// -1 for an empty vocabulary.
  int32_t max_id() const { return by_id_.empty() ? -1 : by_id_.back().second; }
  std::optional<int32_t> token_to_id(std::string_view token) const;
  std::optional<std::string_view> id_to_token(int32_t id) const;
  /// In the order of their ids.
  const std::vector<std::pair<std::string, int32_t>>& tokens() const { return by_id_; }

 private:
  std::vector<std::pair<std::string, int32_t>> by_id_;
  StringMap<int32_t> ids_;
};

}  // namespace octet

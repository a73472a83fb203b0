// SPDX-License-Identifier: Apache-2.0
#include "octet/text/vocabulary.h"

#include <algorithm>

namespace octet {

Vocabulary::Vocabulary(std::vector<std::pair<std::string, int32_t>> tokens) : by_id_(std::move(tokens)) {
  std::stable_sort(by_id_.begin(), by_id_.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  ids_.reserve(by_id_.size());
  for (const auto& [token, id] : by_id_) ids_.insert_or_assign(token, id);
}

std::optional<int32_t> Vocabulary::token_to_id(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::string_view> Vocabulary::id_to_token(int32_t id) const {
  // Without holes the id is the place.
  if (id >= 0 && id < size() && by_id_[static_cast<size_t>(id)].second == id)
    return by_id_[static_cast<size_t>(id)].first;
  const auto found = std::lower_bound(by_id_.begin(), by_id_.end(), id,
                                      [](const auto& entry, int32_t wanted) { return entry.second < wanted; });
  if (found == by_id_.end() || found->second != id) return std::nullopt;
  return found->first;
}

}  // namespace octet

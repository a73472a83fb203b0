// SPDX-License-Identifier: Apache-2.0
#include "octet/text/post_processor.h"

namespace octet {

PostProcessor PostProcessor::bert(int32_t cls, int32_t sep) {
  using Kind = TemplatePiece::Kind;
  PostProcessor bert;
  bert.single = {{Kind::kSpecial, 0, {cls}}, {Kind::kFirst, 0, {}}, {Kind::kSpecial, 0, {sep}}};
  bert.pair = bert.single;
  bert.pair.push_back({Kind::kSecond, 1, {}});
  bert.pair.push_back({Kind::kSpecial, 1, {sep}});
  return bert;
}

int64_t special_token_count(const std::vector<TemplatePiece>& pieces) {
  int64_t count = 0;
  for (const TemplatePiece& piece : pieces) count += static_cast<int64_t>(piece.ids.size());
  return count;
}

}  // namespace octet

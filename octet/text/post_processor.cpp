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

PostProcessor PostProcessor::roberta(int32_t cls, int32_t sep) {
  using Kind = TemplatePiece::Kind;
  PostProcessor roberta;
  roberta.single = {{Kind::kSpecial, 0, {cls}}, {Kind::kFirst, 0, {}}, {Kind::kSpecial, 0, {sep}}};
  roberta.pair = roberta.single;
  roberta.pair.push_back({Kind::kSpecial, 0, {sep}});
  roberta.pair.push_back({Kind::kSecond, 0, {}});
  roberta.pair.push_back({Kind::kSpecial, 0, {sep}});
  return roberta;
}

PostProcessor PostProcessor::frame(std::optional<int32_t> bos, std::optional<int32_t> eos) {
  using Kind = TemplatePiece::Kind;
  const auto add = [&](std::vector<TemplatePiece>& pieces, Kind kind, int32_t type_id) {
    if (bos) pieces.push_back({Kind::kSpecial, type_id, {*bos}});
    pieces.push_back({kind, type_id, {}});
    if (eos) pieces.push_back({Kind::kSpecial, type_id, {*eos}});
  };
  PostProcessor framed{{}, {}, std::nullopt};
  add(framed.single, Kind::kFirst, 0);
  add(framed.pair, Kind::kFirst, 0);
  add(framed.pair, Kind::kSecond, 1);
  return framed;
}

int64_t special_token_count(const std::vector<TemplatePiece>& pieces) {
  int64_t count = 0;
  for (const TemplatePiece& piece : pieces) count += static_cast<int64_t>(piece.ids.size());
  return count;
}

}  // namespace octet

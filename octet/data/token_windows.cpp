// SPDX-License-Identifier: Apache-2.0
#include "octet/data/token_windows.h"

#include <algorithm>
#include <utility>

#include "octet/base/checked.h"
#include "octet/base/error.h"

namespace octet {

TokenWindows::TokenWindows(TokenDocuments documents, const Tokenizer& tokenizer, int64_t length, Frame frame,
                           std::optional<int64_t> limit, std::optional<int32_t> end_id)
    : documents_(std::move(documents)), special_(tokenizer.frame()), frame_(frame) {
  if (end_id && frame == Frame::kDocument && (special_.after.empty() || special_.after.back() != *end_id))
    special_.after.push_back(*end_id);
  const auto special = static_cast<int64_t>(special_.before.size() + special_.after.size());
  // A decoder predicts the second of two tokens; an encoder a hidden one among its special tokens.
  const int64_t least = frame == Frame::kDocument ? 2 : special + 1;
  if (length < least) fail<UsageError>("windows of {} tokens; at least {} are needed", length, least);
  const bool limits_windows = documents_.documents() == Documents::kWhole;
  const auto is_full = [&](size_t count) { return limit && std::cmp_greater_equal(count, *limit); };
  for (size_t document = 0; document < documents_.size(); ++document) {
    if (is_full(limits_windows ? windows_.size() : document)) break;
    const int64_t text = documents_.tokens(document);
    const int64_t all = frame == Frame::kDocument ? text + special : text;
    const int64_t step = frame == Frame::kDocument ? length : length - special;
    for (int64_t begin = 0; begin < all && !(limits_windows && is_full(windows_.size())); begin += step) {
      const int64_t end = std::min(begin + step, all);
      if (frame == Frame::kDocument && end - begin < 2) continue;
      windows_.push_back({narrow<uint32_t>(document), begin, end});
    }
  }
  if (windows_.empty()) fail("the text has nothing to learn from: no document has two tokens");
}

int64_t TokenWindows::tokens(size_t window) const {
  const auto special = static_cast<int64_t>(special_.before.size() + special_.after.size());
  const Window& w = windows_.at(window);
  return w.end - w.begin + (frame_ == Frame::kWindow ? special : 0);
}

std::vector<int32_t> TokenWindows::ids(size_t window) const {
  const Window& w = windows_.at(window);
  std::vector<int32_t> ids;
  ids.reserve(static_cast<size_t>(tokens(window)));
  if (frame_ == Frame::kWindow) {
    ids = special_.before;
    documents_.append(w.document, w.begin, w.end, ids);
    ids.insert(ids.end(), special_.after.begin(), special_.after.end());
    return ids;
  }
  // The parts of [begin, end) that lie in what stands before the text, in it and behind it.
  const auto before = std::ssize(special_.before), text = documents_.tokens(w.document);
  const auto copy = [&](const std::vector<int32_t>& from, int64_t at) {
    const int64_t count = std::ssize(from), first = std::clamp<int64_t>(w.begin - at, 0, count),
                  last = std::clamp<int64_t>(w.end - at, 0, count);
    ids.insert(ids.end(), from.begin() + first, from.begin() + last);
  };
  copy(special_.before, 0);
  documents_.append(w.document, std::clamp<int64_t>(w.begin - before, 0, text),
                    std::clamp<int64_t>(w.end - before, 0, text), ids);
  copy(special_.after, before + text);
  return ids;
}

}  // namespace octet

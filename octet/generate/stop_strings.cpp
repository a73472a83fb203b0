// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/stop_strings.h"

#include <algorithm>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/text/unicode.h"

namespace octet {
namespace {

bool is_utf8(std::string_view text) {
  for (size_t position = 0; position < text.size();) {
    const size_t begin = position;
    const char32_t c = unicode::decode_utf8(text, position);
    if (c == unicode::kReplacement && text.substr(begin, position - begin) != "\xEF\xBF\xBD") return false;
  }
  return true;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> strings) {
  for (std::string& string : strings) {
    if (string.empty()) fail<UsageError>("a stop string is empty; it would end every text before it begins");
    if (!is_utf8(string)) fail<UsageError>("the stop string {} is not UTF-8; no text holds it", quote_name(string));
    Pattern pattern;
    pattern.borders.assign(string.size() + 1, 0);
    for (size_t i = 1, border = 0; i < string.size(); ++i) {
      while (border > 0 && string[i] != string[border]) border = pattern.borders[border];
      if (string[i] == string[border]) ++border;
      pattern.borders[i + 1] = border;
    }
    pattern.text = std::move(string);
    patterns_.push_back(std::move(pattern));
  }
  // So that the first that is found at a byte is the longest there.
  std::ranges::stable_sort(patterns_, std::greater<>(), [](const Pattern& pattern) { return pattern.text.size(); });
}

bool StopStrings::Pattern::advance(char byte) {
  while (matched > 0 && text[matched] != byte) matched = borders[matched];
  if (text[matched] == byte) ++matched;
  return matched == text.size();
}

std::string StopStrings::push(std::string_view piece) {
  if (found()) return "";
  for (const char byte : piece) {
    held_ += byte;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      if (patterns_[i].advance(byte) && !found()) found_ = i;
    }
    if (found()) {
      held_.resize(held_.size() - which().size());
      return std::exchange(held_, "");
    }
  }
  size_t begun = 0;
  for (const Pattern& pattern : patterns_) begun = std::max(begun, pattern.matched);
  std::string certain = held_.substr(0, held_.size() - begun);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopStrings::finish() {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  return std::exchange(held_, "");
}

}  // namespace octet

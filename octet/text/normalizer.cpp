// SPDX-License-Identifier: Apache-2.0
#include "octet/text/normalizer.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/text/unicode.h"

namespace octet {
namespace {

void lowercase(AlignedText& text) {
  const auto expands = [](const AlignedChar& c) { return c.code >= 0x80 && unicode::to_lowercase(c.code).count > 1; };
  if (std::none_of(text.begin(), text.end(), expands)) {
    for (AlignedChar& c : text) c.code = unicode::to_lowercase(c.code).codes[0];
    return;
  }
  AlignedText lowered;
  lowered.reserve(text.size() + 8);
  for (const AlignedChar& c : text) {
    const unicode::Lowercase lower = unicode::to_lowercase(c.code);
    for (int i = 0; i < lower.count; ++i) lowered.push_back({lower.codes[static_cast<size_t>(i)], c.begin, c.end});
  }
  text = std::move(lowered);
}

void set_cjk_apart(AlignedText& text) {
  const auto count =
      std::count_if(text.begin(), text.end(), [](const AlignedChar& c) { return unicode::is_cjk(c.code); });
  if (count == 0) return;
  AlignedText spaced;
  spaced.reserve(text.size() + 2 * static_cast<size_t>(count));
  for (const AlignedChar& c : text) {
    const bool cjk = unicode::is_cjk(c.code);
    if (cjk) spaced.push_back({U' ', c.begin, c.end});
    spaced.push_back(c);
    if (cjk) spaced.push_back({U' ', c.begin, c.end});
  }
  text = std::move(spaced);
}

}  // namespace

void BertNormalizer::apply(AlignedText& text) const {
  if (clean_text) {
    std::erase_if(text, [](const AlignedChar& c) { return unicode::is_control(c.code); });
    for (AlignedChar& c : text) {
      if (unicode::is_whitespace(c.code)) c.code = U' ';
    }
  }
  if (handle_chinese_chars) set_cjk_apart(text);
  if (strip_accents) {
    normalize(text, NormalizationForm::kNfd);
    std::erase_if(text, [](const AlignedChar& c) { return unicode::is_nonspacing_mark(c.code); });
  }
  if (lowercase) octet::lowercase(text);
}

void LowercaseNormalizer::apply(AlignedText& text) const { lowercase(text); }

void StripAccentsNormalizer::apply(AlignedText& text) const {
  std::erase_if(text, [](const AlignedChar& c) { return unicode::is_mark(c.code); });
}

void StripNormalizer::apply(AlignedText& text) const {
  const auto is_text = [](const AlignedChar& c) { return !unicode::is_whitespace(c.code); };
  if (right) text.erase(std::find_if(text.rbegin(), text.rend(), is_text).base(), text.end());
  if (left) text.erase(text.begin(), std::find_if(text.begin(), text.end(), is_text));
}

void ReplaceNormalizer::apply(AlignedText& text) const {
  if (text.empty()) return;
  // A file can ask for "a" to become "aa" again and again; no honest one makes text this much longer.
  const size_t longest = 64 * size_t{text.back().end - text.front().begin} + 4096;
  const auto same = [](const AlignedChar& c, char32_t code) { return c.code == code; };
  AlignedText replaced;
  for (auto position = text.begin();;) {
    const auto match = std::search(position, text.end(), pattern.begin(), pattern.end(), same);
    replaced.insert(replaced.end(), position, match);
    if (match == text.end()) break;
    position = match + static_cast<AlignedText::difference_type>(pattern.size());
    if (content.size() > longest - std::min(longest, replaced.size())) {
      fail<FormatError>(
          "the tokenizer's Replace normalizers make a text more than 64 times longer; its file is damaged");
    }
    const AlignedChar last = *(position - 1);
    for (const char32_t c : content) replaced.push_back({c, last.begin, last.end});
  }
  text = std::move(replaced);
}

void Normalizer::apply(AlignedText& text) const {
  for (const NormalizerStep& step : steps_) {
    std::visit([&](const auto& normalizer) { normalizer.apply(text); }, step);
  }
}

}  // namespace octet

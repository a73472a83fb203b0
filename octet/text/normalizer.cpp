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
  AlignedText replaced;
  size_t copied = 0;
  const auto copy_until = [&](size_t end) {
    replaced.insert(replaced.end(), text.begin() + static_cast<std::ptrdiff_t>(copied),
                    text.begin() + static_cast<std::ptrdiff_t>(end));
  };
  const auto replace = [&](size_t begin, size_t end) {
    copy_until(begin);
    copied = end;
    if (content.size() > longest - std::min(longest, replaced.size())) {
      fail<FormatError>(
          "the tokenizer's Replace normalizers make a text more than 64 times longer; its file is damaged");
    }
    const uint32_t before = text.front().begin;
    const AlignedChar last = end > 0 ? text[end - 1] : AlignedChar{0, before, before};
    for (const char32_t c : content) replaced.push_back({c, last.begin, last.end});
  };
  if (const auto* wanted = std::get_if<std::u32string>(&pattern)) {
    const auto same = [](const AlignedChar& c, char32_t code) { return c.code == code; };
    for (auto position = text.begin();;) {
      position = std::search(position, text.end(), wanted->begin(), wanted->end(), same);
      if (position == text.end()) break;
      const auto begin = static_cast<size_t>(position - text.begin());
      replace(begin, begin + wanted->size());
      position += static_cast<std::ptrdiff_t>(wanted->size());
    }
  } else {
    size_t byte = 0, at = 0;
    const auto char_at = [&](size_t wanted_byte) {
      for (; byte < wanted_byte; ++at) byte += unicode::utf8_size(text[at].code);
      return at;
    };
    for (const ByteRange& match : std::get<Regex>(pattern).find_all(to_utf8(text))) {
      const size_t begin = char_at(match.begin);
      replace(begin, char_at(match.end));
    }
  }
  copy_until(text.size());
  text = std::move(replaced);
}

void PrependNormalizer::apply(AlignedText& text) const {
  if (text.empty()) return;
  const AlignedChar first = text.front();
  AlignedText longer;
  longer.reserve(content.size() + text.size());
  for (const char32_t c : content) longer.push_back({c, first.begin, first.end});
  longer.insert(longer.end(), text.begin(), text.end());
  text = std::move(longer);
}

void Normalizer::apply(AlignedText& text) const {
  for (const NormalizerStep& step : steps_) {
    std::visit([&](const auto& normalizer) { normalizer.apply(text); }, step);
  }
}

}  // namespace octet

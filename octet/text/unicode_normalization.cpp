// SPDX-License-Identifier: Apache-2.0
#include "octet/text/unicode_normalization.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "octet/text/unicode.h"

namespace octet {
namespace {

/// A character of the result, and how many of the former characters it stands for: one, none (it was inserted), or one
/// and some after it that were composed into it.
struct Change {
  char32_t code;
  int consumed;
};

/// Sorts every run of marks by combining class, equal ones in their order. Starters stay where they are.
void reorder_marks(std::span<Change> text) {
  const auto is_starter = [](const Change& c) { return unicode::combining_class(c.code) == 0; };
  for (auto begin = text.begin(); begin != text.end();) {
    const auto run = std::find_if_not(begin, text.end(), is_starter);
    begin = std::find_if(run, text.end(), is_starter);
    std::stable_sort(run, begin, [](const Change& a, const Change& b) {
      return unicode::combining_class(a.code) < unicode::combining_class(b.code);
    });
  }
}

/// Canonical composition of a decomposed text: a mark joins the last starter unless a mark between them has its class
/// or a higher one; a starter joins one that stands right before it.
std::vector<Change> compose(std::span<const Change> text) {
  std::vector<Change> composed;
  composed.reserve(text.size());
  std::optional<size_t> starter;  // its place in `composed`
  int last_class = -1;            // that of the last mark kept behind it; -1 where there is none
  for (const Change& c : text) {
    const int combining_class = unicode::combining_class(c.code);
    if (starter && last_class < combining_class) {
      if (const char32_t composite = unicode::compose(composed[*starter].code, c.code); composite != 0) {
        composed[*starter].code = composite;
        composed[*starter].consumed += c.consumed;
        continue;
      }
    }
    if (combining_class == 0) {
      starter = composed.size();
      last_class = -1;
    } else {
      last_class = combining_class;
    }
    composed.push_back(c);
  }
  return composed;
}

}  // namespace

void normalize(AlignedText& text, NormalizationForm form) {
  // ASCII is the same in every form.
  if (std::all_of(text.begin(), text.end(), [](const AlignedChar& c) { return c.code < 0x80; })) return;

  const bool compatibility = form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd;
  const bool composes = form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc;
  std::vector<Change> changes;
  changes.reserve(text.size());
  for (const AlignedChar& c : text) {
    if (c.code < 0x80) {
      changes.push_back({c.code, 1});
      continue;
    }
    const unicode::Decomposed parts = unicode::decompose(
        c.code, compatibility ? unicode::Decomposition::kCompatibility : unicode::Decomposition::kCanonical);
    for (int i = 0; i < parts.count; ++i) changes.push_back({parts.codes[static_cast<size_t>(i)], i == 0 ? 1 : 0});
  }
  reorder_marks(changes);
  if (composes) changes = compose(changes);

  AlignedText normalized;
  normalized.reserve(changes.size());
  size_t next = 0;  // the first former character that is not consumed
  for (const Change& change : changes) {
    const AlignedChar& source = text[change.consumed > 0 || next == 0 ? next : next - 1];
    normalized.push_back({change.code, source.begin, source.end});
    next += static_cast<size_t>(change.consumed);
  }
  text = std::move(normalized);
}

}  // namespace octet

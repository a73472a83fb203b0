// SPDX-License-Identifier: Apache-2.0
#include "octet/base/suggest.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace octet {
namespace {

// Levenshtein distance, one row of the table at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substitution = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substitution, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string did_you_mean(std::string_view given, std::span<const std::string> known) {
  // Longer input is no misspelling of ours, and would make the table below large.
  constexpr size_t kLongestName = 64;
  size_t best = kLongestName;
  const std::string* nearest = nullptr;
  if (given.size() <= kLongestName) {
    for (const std::string& name : known) {
      const size_t distance = edit_distance(given, name);
      if (distance < best) best = distance, nearest = &name;
    }
  }
  // A third of the letters wrong is still a typing error; more is another word.
  if (nearest != nullptr && best <= std::max<size_t>(1, nearest->size() / 3))
    return fmt::format(" Did you mean '{}'?", *nearest);
  return known.empty() ? std::string() : fmt::format(" Known: {}.", fmt::join(known, ", "));
}

}  // namespace octet

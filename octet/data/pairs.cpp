// SPDX-License-Identifier: Apache-2.0
#include "octet/data/pairs.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <system_error>

#include "octet/base/error.h"
#include "octet/data/lines.h"

namespace octet {
namespace {

std::vector<std::string_view> split_at_tabs(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t end = line.find('\t'); end != std::string_view::npos; end = line.find('\t')) {
    fields.push_back(line.substr(0, end));
    line.remove_prefix(end + 1);
  }
  fields.push_back(line);
  return fields;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

// Text from the file for a message: a line of it, cut at a character's start, without what would upset a terminal.
std::string excerpt(std::string_view text) {
  constexpr size_t kLongest = 60;
  const bool cut = text.size() > kLongest;
  if (cut) {
    size_t end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
  }
  std::string shown(text);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return cut ? shown + "…" : shown;
}

struct Columns {
  size_t count = 0, first = 0, second = 0, score = 0;
  std::string score_name;
  SentencePairs::Kind kind = SentencePairs::Kind::kLabels;
  double lowest = 0, highest = 1;
};

// The column called by one of `names`, if any. Two such columns are an error: either could be meant.
std::optional<size_t> find_column(const std::vector<std::string_view>& header,
                                  std::initializer_list<std::string_view> names, const std::string& path) {
  std::optional<size_t> found;
  for (size_t i = 0; i < header.size(); ++i) {
    if (std::none_of(names.begin(), names.end(), [&](auto name) { return same_name(header[i], name); })) continue;
    if (found) {
      fail<FormatError>("{}: line 1: columns {} ('{}') and {} ('{}') name the same thing; keep one of them", path,
                        *found + 1, header[*found], i + 1, header[i]);
    }
    found = i;
  }
  return found;
}

Columns read_header(std::string_view line, const std::string& path) {
  const std::vector<std::string_view> header = split_at_tabs(line);
  const auto first = find_column(header, {"sentence1", "#1 String"}, path);
  const auto second = find_column(header, {"sentence2", "#2 String"}, path);
  const auto score = find_column(header, {"label", "Quality", "score"}, path);
  if (!first || !second || !score) {
    fail<FormatError>(
        "{}: line 1 has no column for {}. It begins '{}'. A file of sentence pairs is tab-separated, and its first "
        "line "
        "names the columns: 'Quality', '#1 String', '#2 String' (MRPC); 'sentence1', 'sentence2', 'score' (STS-B); or "
        "'sentence1', 'sentence2', 'label'.",
        path, !first ? "the first sentence" : (!second ? "the second sentence" : "a label or score"), excerpt(line));
  }
  Columns columns{header.size(), *first, *second, *score, std::string(header[*score]), SentencePairs::Kind::kLabels};
  if (same_name(header[*score], "score")) {
    const bool is_sts_b = find_column(header, {"old_index"}, path).has_value();
    columns.kind = SentencePairs::Kind::kGrades;
    columns.lowest = is_sts_b ? 0 : -HUGE_VAL;
    columns.highest = is_sts_b ? 5 : HUGE_VAL;
  }
  return columns;
}

double read_score(std::string_view field, const Columns& columns, const std::string& path, size_t line) {
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  const bool whole = error == std::errc() && end == field.data() + field.size() && std::isfinite(value);
  if (columns.kind == SentencePairs::Kind::kLabels) {
    if (whole && (value == 0 || value == 1)) return value;
    fail<FormatError>("{}: line {}: '{}' is '{}'; a label is 0 or 1", path, line, columns.score_name, excerpt(field));
  }
  if (!whole) {
    fail<FormatError>("{}: line {}: '{}' is '{}', not a number", path, line, columns.score_name, excerpt(field));
  }
  if (value < columns.lowest || value > columns.highest) {
    fail<FormatError>("{}: line {}: '{}' is {}; STS-B's grades go from {} to {}", path, line, columns.score_name, value,
                      columns.lowest, columns.highest);
  }
  return value;
}

}  // namespace

SentencePairs read_sentence_pairs(const std::filesystem::path& path) {
  const std::string file = path.string();
  const std::vector<std::string> lines = read_lines(path);
  if (lines.empty()) fail<FormatError>("{}: the file is empty", file);
  const Columns columns = read_header(lines.front(), file);
  if (lines.size() == 1) fail<FormatError>("{}: names its columns but has no pairs under them", file);

  SentencePairs pairs;
  pairs.kind = columns.kind;
  pairs.first.reserve(lines.size() - 1);
  pairs.second.reserve(lines.size() - 1);
  pairs.score.reserve(lines.size() - 1);
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string_view> fields = split_at_tabs(lines[i]);
    if (fields.size() != columns.count) {
      fail<FormatError>("{}: line {} has {} columns, line 1 has {}{}", file, i + 1, fields.size(), columns.count,
                        lines[i].empty() ? "; remove the empty line" : "");
    }
    pairs.score.push_back(read_score(fields[columns.score], columns, file, i + 1));
    pairs.first.emplace_back(fields[columns.first]);
    pairs.second.emplace_back(fields[columns.second]);
  }
  return pairs;
}

}  // namespace octet

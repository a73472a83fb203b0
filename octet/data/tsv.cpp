// SPDX-License-Identifier: Apache-2.0
#include "octet/data/tsv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "octet/base/error.h"
#include "octet/data/lines.h"

namespace octet {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

size_t fields_of(std::string_view line) { return static_cast<size_t>(std::ranges::count(line, '\t')) + 1; }

}  // namespace

TsvFile::TsvFile(const std::filesystem::path& path) : path_(path.string()), lines_(read_lines(path)) {
  if (lines_.empty()) fail<FormatError>("{}: the file is empty", path_);
}

void TsvFile::check_rows() const {
  const size_t columns = fields_of(lines_.front());
  for (size_t i = 1; i < lines_.size(); ++i) {
    if (fields_of(lines_[i]) == columns) continue;
    fail<FormatError>("{}: line {} has {} columns, line 1 has {}{}", path_, i + 1, fields_of(lines_[i]), columns,
                      lines_[i].empty() ? "; remove the empty line" : "");
  }
}

std::string_view TsvFile::field(size_t line, size_t column) const {
  std::string_view rest = lines_.at(line);
  for (; column > 0; --column) rest.remove_prefix(rest.find('\t') + 1);
  return rest.substr(0, rest.find('\t'));
}

std::vector<std::string_view> TsvFile::fields(size_t line) const {
  std::vector<std::string_view> fields;
  std::string_view rest = lines_.at(line);
  for (size_t tab = rest.find('\t'); tab != std::string_view::npos; tab = rest.find('\t')) {
    fields.push_back(rest.substr(0, tab));
    rest.remove_prefix(tab + 1);
  }
  fields.push_back(rest);
  return fields;
}

std::optional<size_t> TsvFile::find(std::initializer_list<std::string_view> names) const {
  return find_column(fields(0), {names.begin(), names.size()}, path_ + ": line 1");
}

std::optional<size_t> find_column(std::span<const std::string_view> columns, std::span<const std::string_view> names,
                                  std::string_view where) {
  std::optional<size_t> found;
  for (size_t i = 0; i < columns.size(); ++i) {
    if (std::ranges::none_of(names, [&](auto name) { return same_name(columns[i], name); })) continue;
    if (found) {
      fail<FormatError>("{}: columns {} ('{}') and {} ('{}') name the same thing; keep one of them", where, *found + 1,
                        excerpt(columns[*found]), i + 1, excerpt(columns[i]));
    }
    found = i;
  }
  return found;
}

std::optional<double> finite_number(std::string_view field) {
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

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

}  // namespace octet

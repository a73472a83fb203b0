// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// A tab-separated table: fields are never quoted, " is a character like any other.
class TsvFile {
 public:
  /// Reads all lines. Throws FormatError where there are none, and what read_lines does.
  explicit TsvFile(const std::filesystem::path& path);

  const std::string& path() const noexcept { return path_; }
  /// Lines, the first one too, which may name the columns.
  size_t lines() const noexcept { return lines_.size(); }
  std::string_view line(size_t index) const { return lines_.at(index); }
  /// Of a file whose rows were checked.
  std::string_view field(size_t line, size_t column) const;
  /// Throws FormatError for the first line that has more or fewer fields than line 1.
  void check_rows() const;

  std::vector<std::string_view> fields(size_t line) const;

  /// See find_column; the first line names the columns.
  std::optional<size_t> find(std::initializer_list<std::string_view> names) const;
  bool has(std::string_view name) const { return find({name}).has_value(); }

 private:
  std::string path_;
  std::vector<std::string> lines_;
};

/// Which of `columns` is called by one of `names`, upper or lower case, if any. Throws FormatError, beginning with
/// `where`, for two such columns: either could be meant.
std::optional<size_t> find_column(std::span<const std::string_view> columns, std::span<const std::string_view> names,
                                  std::string_view where);

/// The finite number that a whole field spells; none where it spells no such.
std::optional<double> finite_number(std::string_view field);

/// Text from a file for a message: a piece of it, cut at a character's start, without what would upset a terminal.
std::string excerpt(std::string_view text);

}  // namespace octet

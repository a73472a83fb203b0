// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

class TsvFile;

/// A table of texts whose columns have names.
struct Table {
  struct Field {
    size_t column = 0;
    std::string text;
  };

  std::string path;                      ///< for messages
  std::vector<std::string> names;        ///< of the columns
  std::vector<std::vector<Field>> rows;  ///< at least one; ascending by column, those left out that a row does not give
  std::vector<size_t> lines;             ///< where each row begins, from 1 on
  size_t names_line = 1;                 ///< where the names stand

  /// See find_column.
  std::optional<size_t> find(std::span<const std::string_view> wanted) const;
  bool has(std::string_view name) const { return find({&name, 1}).has_value(); }
  /// Throws FormatError, naming file and line, where the row does not give it.
  const std::string& field(size_t row, size_t column) const;
};

/// Reads the table in a file, of which the extension says the kind:
///
///   .csv             comma-separated (RFC 4180): the first row names the columns; a field in double quotes may hold
///                    commas, ends of line and, doubled, quotes; a row that is one empty field counts for nothing
///   .jsonl or .json  a JSON object a line: the keys of the first one name the columns, texts, numbers, true (as 1) and
///                    false (0) are fields; other keys and kinds of values in later rows are passed over
///   any other        tab-separated (see TsvFile): the first line names the columns
///
/// Throws Error where the file cannot be read, FormatError naming file and line for one that is malformed or has no
/// rows, and for rows of .csv and .tsv with more or fewer fields than columns.
Table read_table(const std::filesystem::path& path);

/// Whether read_table takes the file for one that is tab-separated.
bool is_tab_separated(const std::filesystem::path& path);
/// The contents of a .csv and of a .jsonl; `path` names them in errors.
Table parse_csv(std::string_view text, const std::string& path);
Table parse_json_rows(std::string_view text, const std::string& path);
/// The columns are named by the first line, or, where `names` are given, by them.
Table table_of(const TsvFile& file, std::vector<std::string> names = {});

}  // namespace octet

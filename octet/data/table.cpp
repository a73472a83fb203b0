// SPDX-License-Identifier: Apache-2.0
#include "octet/data/table.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/data/lines.h"
#include "octet/data/tsv.h"

namespace octet {
namespace {

// Rows of a .csv one by one.
class CsvReader {
 public:
  CsvReader(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  bool at_end() const { return at_ == text_.size(); }
  /// The line that the next row begins on.
  size_t line() const { return line_; }

  std::vector<std::string> row() {
    std::vector<std::string> fields;
    do {
      fields.push_back(!at_end() && text_[at_] == '"' ? quoted() : plain());
    } while (take(","));
    if (!at_end() && !take("\r\n") && !take("\n")) {
      fail<FormatError>("{}: line {}: '{}' follows a closing quote; write a quote inside a field twice", path_, line_,
                        excerpt(text_.substr(at_, text_.find_first_of(",\n", at_) - at_)));
    }
    return fields;
  }

 private:
  bool take(std::string_view token) {
    if (!text_.substr(at_).starts_with(token)) return false;
    line_ += token.ends_with('\n') ? 1 : 0;
    at_ += token.size();
    return true;
  }

  // A quote inside is a character like any other, as other readers have it.
  std::string plain() {
    size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
    if (end > at_ && end < text_.size() && text_[end] == '\n' && text_[end - 1] == '\r') --end;
    std::string field(text_.substr(at_, end - at_));
    at_ = end;
    return field;
  }

  std::string quoted() {
    const size_t opened = line_;
    std::string field;
    for (++at_;; ++at_) {
      const size_t quote = text_.find('"', at_);
      if (quote == std::string_view::npos)
        fail<FormatError>("{}: line {}: the quote that opens a field here is not closed", path_, opened);
      const std::string_view part = text_.substr(at_, quote - at_);
      line_ += static_cast<size_t>(std::ranges::count(part, '\n'));
      field += part;
      at_ = quote + 1;
      if (at_end() || text_[at_] != '"') return field;
      field += '"';
    }
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0, line_ = 1;
};

template <class Text>
std::vector<Table::Field> fields_of(const std::vector<Text>& texts) {
  std::vector<Table::Field> fields;
  fields.reserve(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) fields.push_back({i, std::string(texts[i])});
  return fields;
}

std::optional<std::string> text_of(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "1" : "0";
  if (value.is_number()) return json_text(value);
  return std::nullopt;
}

void check_rows(const Table& table) {
  if (table.rows.empty()) fail<FormatError>("{}: names its columns but has no texts under them", table.path);
}

}  // namespace

std::optional<size_t> Table::find(std::span<const std::string_view> wanted) const {
  const std::vector<std::string_view> columns(names.begin(), names.end());
  return find_column(columns, wanted, fmt::format("{}: line {}", path, names_line));
}

const std::string& Table::field(size_t row, size_t column) const {
  const std::vector<Field>& fields = rows.at(row);
  const auto found = std::ranges::lower_bound(fields, column, {}, &Field::column);
  if (found == fields.end() || found->column != column)
    fail<FormatError>("{}: line {} has no text or number in '{}'", path, lines[row], excerpt(names.at(column)));
  return found->text;
}

Table parse_csv(std::string_view text, const std::string& path) {
  CsvReader reader(text, path);
  Table table;
  table.path = path;
  while (!reader.at_end()) {
    const size_t line = reader.line();
    std::vector<std::string> row = reader.row();
    if (row.size() == 1 && row.front().empty()) continue;
    if (table.names.empty()) {
      table.names = std::move(row);
      table.names_line = line;
      continue;
    }
    if (row.size() != table.names.size()) {
      fail<FormatError>("{}: line {} has {} columns, line {} has {}", path, line, row.size(), table.names_line,
                        table.names.size());
    }
    table.rows.push_back(fields_of(row));
    table.lines.push_back(line);
  }
  if (table.names.empty()) fail<FormatError>("{}: the file is empty", path);
  check_rows(table);
  return table;
}

Table parse_json_rows(std::string_view text, const std::string& path) {
  Table table;
  table.path = path;
  const std::vector<std::string_view> lines = split_lines(text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string source = fmt::format("{}: line {}", path, i + 1);
    const nlohmann::json object = parse_json(lines[i], source);
    if (!object.is_object()) fail<FormatError>("{}: a JSON object {{…}} is needed, not {}", source, object.type_name());
    if (table.rows.empty()) {
      for (const auto& item : object.items()) table.names.push_back(item.key());  // ascending
      table.names_line = i + 1;
    }
    std::vector<Table::Field> fields;
    for (const auto& item : object.items()) {
      const auto column = std::ranges::lower_bound(table.names, item.key());
      if (column == table.names.end() || *column != item.key()) continue;
      if (std::optional<std::string> field = text_of(item.value()))
        fields.push_back({static_cast<size_t>(column - table.names.begin()), *std::move(field)});
    }
    table.rows.push_back(std::move(fields));
    table.lines.push_back(i + 1);
  }
  if (table.rows.empty()) fail<FormatError>("{}: the file is empty", path);
  return table;
}

Table table_of(const TsvFile& file, std::vector<std::string> names) {
  const size_t first_row = names.empty() ? 1 : 0;
  Table table;
  table.path = file.path();
  if (names.empty()) {
    for (const std::string_view name : file.fields(0)) names.emplace_back(name);
  }
  table.names = std::move(names);
  file.check_rows();
  for (size_t i = first_row; i < file.lines(); ++i) {
    table.rows.push_back(fields_of(file.fields(i)));
    table.lines.push_back(i + 1);
  }
  check_rows(table);
  return table;
}

bool is_tab_separated(const std::filesystem::path& path) {
  const std::filesystem::path extension = path.extension();
  return extension != ".csv" && extension != ".jsonl" && extension != ".json";
}

Table read_table(const std::filesystem::path& path) {
  if (is_tab_separated(path)) return table_of(TsvFile(path));
  const std::string text = read_plain_text(path);
  return path.extension() == ".csv" ? parse_csv(text, path.string()) : parse_json_rows(text, path.string());
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/data/labelled_texts.h"

#include <array>
#include <string_view>
#include <utility>

#include <fmt/ranges.h>

#include "octet/base/error.h"
#include "octet/data/table.h"
#include "octet/data/tsv.h"

namespace octet {
namespace {

struct Columns {
  std::optional<size_t> first, second, label;
};

// CoLA's files do not name their columns.
bool is_cola(const TsvFile& file) {
  return file.fields(0).size() == 4 && (file.field(0, 1) == "0" || file.field(0, 1) == "1");
}

Table read_with_cola(const std::filesystem::path& path) {
  if (!is_tab_separated(path)) return read_table(path);
  const TsvFile file(path);
  return is_cola(file) ? table_of(file, {"source", "label", "mark", "sentence"}) : table_of(file);
}

std::string list_columns(const Table& table) {
  std::vector<std::string> names;
  for (size_t i = 0; i < table.names.size() && i < 10; ++i) names.push_back(excerpt(table.names[i]));
  return fmt::format("'{}'{}", fmt::join(names, "', '"), names.size() < table.names.size() ? ", …" : "");
}

size_t named_column(const Table& table, std::string_view name) {
  if (const std::optional<size_t> column = table.find({&name, 1})) return *column;
  fail<FormatError>("{}: line {} names no column '{}'; it names {}", table.path, table.names_line, name,
                    list_columns(table));
}

using Names = std::vector<std::string_view>;

void find_texts(const Table& table, Columns& columns) {
  static constexpr std::array<std::pair<const char*, const char*>, 5> kPairs = {{{"sentence1", "sentence2"},
                                                                                 {"#1 String", "#2 String"},
                                                                                 {"question1", "question2"},
                                                                                 {"question", "sentence"},
                                                                                 {"premise", "hypothesis"}}};
  for (const auto& [one, other] : kPairs) {
    columns.first = table.find(Names{one});
    columns.second = table.find(Names{other});
    if (columns.first && columns.second) return;
  }
  columns = {table.find(Names{"sentence", "sentence1", "text"}), std::nullopt, columns.label};
}

// MNLI's files have the labels of single judges before the one that counts.
std::optional<size_t> find_label(const Table& table) {
  for (const std::string_view name : {"gold_label", "label", "Quality", "is_duplicate", "score"}) {
    if (const std::optional<size_t> column = table.find({&name, 1})) return column;
  }
  return std::nullopt;
}

Columns choose_columns(const Table& table, const ColumnNames& names) {
  Columns columns;
  columns.label = names.label ? named_column(table, *names.label) : find_label(table);
  if (names.first) {
    columns.first = named_column(table, *names.first);
  } else {
    find_texts(table, columns);
  }
  if (names.second) columns.second = named_column(table, *names.second);
  if (columns.first && columns.label) return columns;
  fail<FormatError>(
      "{}: line {} names no column for {}. It names {}. Usual names are 'text' or 'sentence', or 'sentence1' and "
      "'sentence2', and 'label', as in the files of GLUE; say which columns are meant where they have others.",
      table.path, table.names_line, columns.first ? "the label" : "the text", list_columns(table));
}

}  // namespace

LabelledTexts read_labelled_texts(const std::filesystem::path& path, const ColumnNames& names) {
  const Table table = read_with_cola(path);
  const Columns columns = choose_columns(table, names);
  LabelledTexts texts;
  for (size_t i = 0; i < table.rows.size(); ++i) {
    texts.first.push_back(table.field(i, *columns.first));
    if (columns.second) texts.second.push_back(table.field(i, *columns.second));
    texts.labels.push_back(table.field(i, *columns.label));
    if (texts.labels.back().empty()) {
      fail<FormatError>("{}: line {} has no label; the test files of GLUE have none", table.path, table.lines[i]);
    }
  }
  texts.lines = table.lines;
  return texts;
}

}  // namespace octet

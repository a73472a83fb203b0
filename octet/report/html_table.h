// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "octet/report/markup.h"

namespace octet {

/// A table of a page: it scrolls by itself where the page is too narrow, numbers line up on the decimal point, and the
/// page's script lets columns be sorted.
class HtmlTable {
 public:
  enum class Kind {
    kText,
    kName,    ///< text in letters of one width
    kNumber,  ///< "27.07", "27.07 ± 0.17", "12.3 MB"
    kBar,     ///< a number, and how long a bar it is
  };
  struct Column {
    std::string header, unit = {};
    Kind kind = Kind::kNumber;
  };
  struct Cell {
    std::string text;
    std::optional<double> value = {};  ///< what sorting goes by; none: the text, or, of numbers, last
    double bar = 0;                    ///< from 0 to 1
    bool best = false;                 ///< shown in bold
    std::string note = {};             ///< a tooltip
  };

  /// `caption` says what it holds.
  HtmlTable(std::string caption, std::vector<Column> columns);

  /// Throws Error unless there is a cell for every column.
  void add_row(std::vector<Cell> cells);
  /// What others are compared with: stays on top when sorted.
  void add_reference_row(std::vector<Cell> cells);
  bool is_empty() const noexcept { return rows_.empty(); }

  Markup to_markup() const;

 private:
  struct Row {
    std::vector<Cell> cells;
    bool reference;
  };
  void add(Row row);

  std::string caption_;
  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace octet {

/// A table for the terminal, in UTF-8:
///
///   recipe          size   load  agreement
///                     MB     ms          %
///   ────────────────────────────────────────
///   float           45.4  120.3
///   w8a8_dynamic    22.9   80         99.71
///
/// A column of numbers lines up on the decimal point. A cell's number may be signed, have thousands separated and carry
/// a unit of its own ("45.4 MB"), and the units line up too; a cell that begins with no number stands at the right
/// edge. Widths count code points, so East Asian text comes out too wide. Control characters, which would steer the
/// terminal, are shown as �.
class Table {
 public:
  enum class Align { kLeft, kDecimal };
  enum class Ink {
    kPlain,     ///< text only
    kTerminal,  ///< the same text, with escape sequences that print units, rules and dim rows faintly
  };
  struct Column {
    std::string header;
    Align align = Align::kDecimal;
    std::string unit;  ///< stands under the header; the line is left out where no column has one
  };

  /// Throws Error without columns.
  explicit Table(std::vector<Column> columns);

  /// Throws Error unless there is one cell for every column; "" leaves one empty.
  void add_row(std::vector<std::string> cells);
  /// A row of lesser weight: what is compared with, what was skipped.
  void add_dim_row(std::vector<std::string> cells);
  void add_rule();

  /// Whole lines, each ended and without blanks at its end.
  std::string to_string(Ink ink = Ink::kPlain) const;

 private:
  enum class Kind { kPlain, kDim, kRule };
  struct Row {
    Kind kind;
    std::vector<std::string> cells;
  };
  void add(Kind kind, std::vector<std::string> cells);

  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace octet

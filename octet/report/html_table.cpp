// SPDX-License-Identifier: Apache-2.0
#include "octet/report/html_table.h"

#include <algorithm>

#include <fmt/format.h>

#include "octet/base/error.h"

namespace octet {
namespace {

// Where the fraction of the number that `text` begins with lies: its point and digits. Empty at the end of the digits
// where it has none.
struct Fraction {
  size_t begin = 0, length = 0;

  explicit Fraction(std::string_view text) {
    const auto is_digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
    while (is_digit(begin) || (begin < text.size() && (text[begin] == ',' || text[begin] == '-'))) ++begin;
    if (begin < text.size() && text[begin] == '.') {
      ++length;
      while (is_digit(begin + length)) ++length;
    }
  }
};

// The number with as many blanks as digits after its point that are missing to `longest`. U+2007 is as wide as a digit
// where these are all alike, U+2008 as a point.
std::string padded(const std::string& text, size_t longest) {
  const Fraction fraction(text);
  if (fraction.begin == 0 || fraction.length >= longest) return text;
  std::string blanks;
  for (size_t i = fraction.length; i < longest; ++i) blanks += i == 0 ? "\u2008" : "\u2007";
  return std::string(text).insert(fraction.begin + fraction.length, blanks);
}

bool is_number(HtmlTable::Kind kind) { return kind == HtmlTable::Kind::kNumber || kind == HtmlTable::Kind::kBar; }

const char* css_class(HtmlTable::Kind kind) {
  switch (kind) {
    case HtmlTable::Kind::kText:
      return "text";
    case HtmlTable::Kind::kName:
      return "name";
    case HtmlTable::Kind::kNumber:
      return "number";
    case HtmlTable::Kind::kBar:
      return "number with-bar";
  }
  return "";
}

}  // namespace

HtmlTable::HtmlTable(std::string caption, std::vector<Column> columns)
    : caption_(std::move(caption)), columns_(std::move(columns)) {
  if (columns_.empty()) fail("a table needs at least one column");
}

void HtmlTable::add_row(std::vector<Cell> cells) { add({std::move(cells), false}); }
void HtmlTable::add_reference_row(std::vector<Cell> cells) { add({std::move(cells), true}); }

void HtmlTable::add(Row row) {
  if (row.cells.size() != columns_.size())
    fail("a row of {} cells for a table of {} columns", row.cells.size(), columns_.size());
  rows_.push_back(std::move(row));
}

Markup HtmlTable::to_markup() const {
  std::vector<size_t> fractions(columns_.size(), 0);
  for (const Row& row : rows_) {
    for (size_t i = 0; i < columns_.size(); ++i)
      fractions[i] = std::max(fractions[i], Fraction(row.cells[i].text).length);
  }
  Markup out;
  if (!caption_.empty()) out.element("p", {{"class", "caption"}}, caption_);
  // Reached by the keyboard, so that it can be scrolled.
  out.open("div", {{"class", "scroll"}, {"tabindex", "0"}, {"role", "region"}, {"aria-label", caption_}});
  out.open("table");
  out.open("thead").open("tr");
  for (const Column& column : columns_) {
    out.open("th", {{"scope", "col"}, {"class", css_class(column.kind)}}).text(column.header);
    if (!column.unit.empty()) out.text(" ").element("span", {{"class", "unit"}}, column.unit);
    out.close();
  }
  out.close().close().open("tbody");
  for (const Row& row : rows_) {
    if (row.reference) {
      out.open("tr", {{"class", "reference"}});
    } else {
      out.open("tr");
    }
    for (size_t i = 0; i < columns_.size(); ++i) {
      const Cell& cell = row.cells[i];
      const Column& column = columns_[i];
      const std::string classes = fmt::format("{}{}", css_class(column.kind), cell.best ? " best" : "");
      const std::string value = cell.value               ? fmt::format("{}", *cell.value)
                                : is_number(column.kind) ? std::string()
                                                         : cell.text;
      const char* tag = i == 0 ? "th" : "td";
      if (cell.note.empty()) {
        out.open(tag, {{"class", classes}, {"data-value", value}});
      } else {
        out.open(tag, {{"class", classes}, {"data-value", value}, {"title", cell.note}});
      }
      if (column.kind == Kind::kBar && cell.value) {
        const std::string width = fmt::format("width:{:.1f}%", std::clamp(cell.bar, 0.0, 1.0) * 100);
        Markup bar;
        bar.element("span", {{"class", "bar"}, {"style", width}}, "");
        out.element("span", {{"class", "track"}, {"aria-hidden", "true"}}, bar);
      }
      const std::string text = is_number(column.kind) ? padded(cell.text, fractions[i]) : cell.text;
      if (column.kind == Kind::kBar) {
        out.element("span", {{"class", "amount"}}, text);
      } else {
        out.text(text);
      }
      out.close();
    }
    out.close();
  }
  out.close().close().close();
  return out;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/report/table.h"

#include <algorithm>
#include <string_view>

#include "octet/base/error.h"

namespace octet {
namespace {

constexpr std::string_view kReplacement = "\uFFFD", kGap = "  ", kDimOn = "\x1b[2m", kDimOff = "\x1b[0m";

// Code points: every byte of UTF-8 but the continuation bytes 10xxxxxx starts one.
size_t width(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string blanks(size_t count) { return std::string(count, ' '); }

std::string without_controls(std::string_view text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, C2 80 to C2 9F in UTF-8, are control characters as well.
    const bool second_set = byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (byte >= 0x20 && byte != 0x7F && !second_set) {
      shown += text[i];
    } else {
      shown += kReplacement;
      i += second_set ? 1 : 0;
    }
  }
  return shown;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "-1,234.50 MB" as "-1,234", ".50", " MB". Where the text does not begin with a number all of it is the suffix.
struct Number {
  std::string_view whole, fraction, suffix;
  bool is_number = false;

  explicit Number(std::string_view text) : suffix(text) {
    size_t place = 0;
    for (const std::string_view sign : {"+", "-", "−", "±", "<", ">", "≈", "~"}) {
      if (text.starts_with(sign)) place = sign.size();
    }
    const size_t digits = place;
    while (place < text.size() && (is_digit(text[place]) || (place > digits && text[place] == ','))) ++place;
    if (place == digits) return;
    is_number = true;
    const size_t point = place;
    if (place + 1 < text.size() && text[place] == '.' && is_digit(text[place + 1])) {
      ++place;
      while (place < text.size() && is_digit(text[place])) ++place;
    }
    whole = text.substr(0, point);
    fraction = text.substr(point, place - point);
    suffix = text.substr(place);
  }
};

// The widths of a column's parts, over all of its rows.
struct Extent {
  size_t whole = 0, fraction = 0, suffix = 0, total = 0;
};

std::string place_right(std::string_view text, size_t columns) {
  return blanks(columns - width(text)) + std::string(text);
}
std::string place_left(std::string_view text, size_t columns) {
  return std::string(text) + blanks(columns - width(text));
}

std::string place_number(std::string_view text, const Extent& extent) {
  const Number number(text);
  if (!number.is_number) return place_right(text, extent.total);
  return blanks(extent.total - extent.whole - extent.fraction - extent.suffix) +
         place_right(number.whole, extent.whole) + place_left(number.fraction, extent.fraction) +
         place_left(number.suffix, extent.suffix);
}

void trim_end(std::string& line) { line.erase(line.find_last_not_of(' ') + 1); }

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  if (columns_.empty()) fail("a table needs at least one column");
  for (Column& column : columns_) {
    column.header = without_controls(column.header);
    column.unit = without_controls(column.unit);
  }
}

void Table::add_row(std::vector<std::string> cells) { add(Kind::kPlain, std::move(cells)); }
void Table::add_dim_row(std::vector<std::string> cells) { add(Kind::kDim, std::move(cells)); }
void Table::add_rule() { rows_.push_back({Kind::kRule, {}}); }

void Table::add(Kind kind, std::vector<std::string> cells) {
  if (cells.size() != columns_.size())
    fail("a row of {} cells for a table of {} columns", cells.size(), columns_.size());
  for (std::string& cell : cells) cell = without_controls(cell);
  rows_.push_back({kind, std::move(cells)});
}

std::string Table::to_string(Ink ink) const {
  std::vector<Extent> extents;
  size_t all = kGap.size() * (columns_.size() - 1);
  bool units = false;
  for (size_t i = 0; i < columns_.size(); ++i) {
    Extent extent;
    for (const Row& row : rows_) {
      if (row.kind == Kind::kRule) continue;
      const Number number(row.cells[i]);
      extent.total = std::max(extent.total, width(row.cells[i]));
      if (!number.is_number) continue;
      extent.whole = std::max(extent.whole, width(number.whole));
      extent.fraction = std::max(extent.fraction, width(number.fraction));
      extent.suffix = std::max(extent.suffix, width(number.suffix));
    }
    if (columns_[i].align == Align::kDecimal) {
      extent.total = std::max(extent.total, extent.whole + extent.fraction + extent.suffix);
    }
    extent.total = std::max({extent.total, width(columns_[i].header), width(columns_[i].unit)});
    units = units || !columns_[i].unit.empty();
    all += extent.total;
    extents.push_back(extent);
  }

  std::string text;
  const auto add_line = [&](std::string line, bool dim) {
    trim_end(line);
    const bool faint = dim && ink == Ink::kTerminal && !line.empty();
    if (faint) text += kDimOn;
    text += line;
    if (faint) text += kDimOff;
    text += '\n';
  };
  const auto line_of = [&](auto&& cell_of) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (i > 0) line += kGap;
      line += cell_of(i);
    }
    return line;
  };
  const auto heading = [&](const std::string& cell, size_t i) {
    return columns_[i].align == Align::kLeft ? place_left(cell, extents[i].total) : place_right(cell, extents[i].total);
  };
  std::string rule;
  for (size_t i = 0; i < all; ++i) rule += "─";

  add_line(line_of([&](size_t i) { return heading(columns_[i].header, i); }), false);
  if (units) add_line(line_of([&](size_t i) { return heading(columns_[i].unit, i); }), true);
  add_line(rule, true);
  for (const Row& row : rows_) {
    if (row.kind == Kind::kRule) {
      add_line(rule, true);
      continue;
    }
    const std::string line = line_of([&](size_t i) {
      return columns_[i].align == Align::kLeft ? place_left(row.cells[i], extents[i].total)
                                               : place_number(row.cells[i], extents[i]);
    });
    add_line(line, row.kind == Kind::kDim);
  }
  return text;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "octet/base/error.h"
#include "octet/report/charts.h"
#include "octet/report/plot_frame.h"
#include "octet/report/svg.h"

namespace octet {
namespace {

constexpr int kSteps = 10;  // of colour, "heat-0" to "heat-9" in the style sheet

// 0 at the low end, 1 at the high end.
double depth(const HeatChart& chart, double value) {
  if (!(chart.high > chart.low)) return 1;
  if (value <= chart.low) return 0;
  const double share = chart.scale == Axis::Scale::kLogarithmic && chart.low > 0
                           ? std::log(value / chart.low) / std::log(chart.high / chart.low)
                           : (value - chart.low) / (chart.high - chart.low);
  return std::min(share, 1.0);
}

double value_at(const HeatChart& chart, double share) {
  return chart.scale == Axis::Scale::kLogarithmic && chart.low > 0 ? chart.low * std::pow(chart.high / chart.low, share)
                                                                   : chart.low + share * (chart.high - chart.low);
}

std::string step_class(double share) {
  return fmt::format("heat-{}", std::clamp(static_cast<int>(share * kSteps), 0, kSteps - 1));
}

double widest(const std::vector<std::string>& texts) {
  double width = 0;
  for (const std::string& text : texts) width = std::max(width, text_width(text));
  return width;
}

HeatChart turned(const HeatChart& chart) {
  HeatChart out = chart;
  std::swap(out.rows, out.columns);
  std::swap(out.row_title, out.column_title);
  for (size_t r = 0; r < out.rows.size(); ++r) {
    for (size_t c = 0; c < out.columns.size(); ++c)
      out.cells[r * out.columns.size() + c] = chart.cells[c * out.rows.size() + r];
  }
  return out;
}

struct Layout {
  double left, cell_width;
};

Layout layout(const HeatChart& chart, double width) {
  const double left = std::max(widest(chart.rows), text_width(chart.row_title)) + 8;
  return {left, std::min(44.0, (width - left - 2) / static_cast<double>(chart.columns.size()))};
}

void draw_legend(Svg& svg, const HeatChart& chart, double left, double top) {
  constexpr double kStep = 18, kHeight = 12;
  svg.text(left, top, chart.value.to_string(), Svg::Anchor::kStart, "axis-title");
  for (int i = 0; i < kSteps; ++i) svg.rectangle(left + i * kStep, top + 8, kStep, kHeight, fmt::format("heat-{}", i));
  const double base = top + 8 + kHeight + 14;
  using enum Svg::Anchor;
  const bool one_value = !(chart.high > chart.low);
  svg.text(left, base, chart.format(chart.low), kStart, "tick");
  if (one_value) return;
  svg.text(left + kStep * kSteps / 2, base, chart.format(value_at(chart, 0.5)), kMiddle, "tick");
  svg.text(left + kStep * kSteps, base, chart.format(chart.high), kEnd, "tick");
}

}  // namespace

Markup draw(const HeatChart& given, double width) {
  if (given.cells.empty() || given.cells.size() != given.rows.size() * given.columns.size())
    fail("a heat chart of {} × {} has {} cells", given.rows.size(), given.columns.size(), given.cells.size());
  // A finger or a pointer meets a cell of nine units.
  const bool turn = layout(given, width).cell_width < 9 && given.rows.size() < given.columns.size();
  const HeatChart chart = turn ? turned(given) : given;

  const auto [left, cell_width] = layout(chart, width);
  const auto rows = static_cast<double>(chart.rows.size());
  const double cell_height = rows > 16 ? 16 : 22;
  // Names of columns lie down where they are wider than these.
  const bool slanted = widest(chart.columns) > cell_width * (chart.columns.size() > 8 ? 2 : 1);
  const bool are_numbers = std::ranges::all_of(
      chart.columns, [](const std::string& name) { return name.find_first_not_of("0123456789") == std::string::npos; });
  const double heading = slanted && !are_numbers ? widest(chart.columns) * 0.82 + 16 : 18;
  const double top = 18 + heading, bottom = top + rows * cell_height, height = bottom + 56;

  Svg svg(width, height, chart.label, "chart");
  using enum Svg::Anchor;
  svg.text(0, top - 6, chart.row_title, kStart, "axis-title");
  svg.text(left, 12, chart.column_title, kStart, "axis-title");
  // Every fifth number is enough where not all have room.
  const size_t stride = are_numbers && widest(chart.columns) + 4 > cell_width ? 5 : 1;
  for (size_t c = 0; c < chart.columns.size(); c += stride) {
    const double x = left + (static_cast<double>(c) + 0.5) * cell_width;
    if (slanted && !are_numbers) {
      svg.turned_text(x + 3, top - 6, -55, chart.columns[c], kStart, "tick");
    } else {
      svg.text(x, top - 6, chart.columns[c], kMiddle, "tick");
    }
  }
  const size_t worst = static_cast<size_t>(
      std::max_element(chart.cells.begin(), chart.cells.end(),
                       [](const auto& a, const auto& b) { return (a ? a->value : -1) < (b ? b->value : -1); }) -
      chart.cells.begin());
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    const double y = top + static_cast<double>(r) * cell_height;
    svg.text(left - 8, y + cell_height / 2 + 4, chart.rows[r], kEnd, "tick");
    for (size_t c = 0; c < chart.columns.size(); ++c) {
      const std::optional<HeatChart::Cell>& cell = chart.cells[r * chart.columns.size() + c];
      const double x = left + static_cast<double>(c) * cell_width;
      if (cell) {
        svg.rectangle(x + 0.5, y + 0.5, cell_width - 1, cell_height - 1, step_class(depth(chart, cell->value)),
                      cell->tooltip);
      } else {
        svg.rectangle(x + 0.5, y + 0.5, cell_width - 1, cell_height - 1, "heat-none");
      }
    }
  }
  if (chart.cells[worst]) {
    const size_t row = worst / chart.columns.size(), column = worst % chart.columns.size();
    svg.rectangle(left + static_cast<double>(column) * cell_width, top + static_cast<double>(row) * cell_height,
                  cell_width, cell_height, "worst");
  }
  draw_legend(svg, chart, std::max(0.0, std::min(left, width - 190)), bottom + 20);
  return svg.finish();
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/report/charts.h"
#include "octet/report/plot_frame.h"
#include "octet/report/svg.h"

namespace octet {
namespace {

// The outline of bins [first, last) down to the axis.
std::string outline(const HistogramChart& chart, const PlotFrame& frame, size_t first, size_t last, double floor) {
  PathData path;
  const double step = (chart.high - chart.low) / static_cast<double>(chart.shares.size());
  bool down = true;  // at the axis
  const auto x_of = [&](size_t bin) { return frame.at_x(chart.low + step * static_cast<double>(bin)); };
  for (size_t i = first; i < last; ++i) {
    if (chart.shares[i] <= floor) {
      if (!down) path.line(x_of(i), frame.bottom).close();
      down = true;
      continue;
    }
    if (down) path.move(x_of(i), frame.bottom);
    down = false;
    path.line(x_of(i), frame.at_y(chart.shares[i])).line(x_of(i + 1), frame.at_y(chart.shares[i]));
  }
  if (!down) path.line(x_of(last), frame.bottom).close();
  return path.to_string();
}

}  // namespace

Markup draw(const HistogramChart& chart, double width) {
  if (chart.shares.empty()) fail("a histogram of no bins");
  const bool logarithmic = chart.y_scale == Axis::Scale::kLogarithmic;
  double largest = 0, smallest = INFINITY;
  for (const double share : chart.shares) {
    largest = std::max(largest, share);
    if (share > 0) smallest = std::min(smallest, share);
  }
  if (largest == 0) largest = 1, smallest = 0.5;
  // On a logarithmic axis even the smallest bin stands a little above the ground.
  const Axis y = logarithmic ? Axis(smallest / 2, largest * 1.3, chart.y_scale, Axis::Ends::kAsGiven, 4)
                             : Axis(0, largest * 1.05, chart.y_scale, Axis::Ends::kAsGiven, 4);
  const double height = std::clamp(width * 0.6, 180.0, 240.0);
  const PlotFrame frame(width, height, chart.marks.empty() ? 0 : 14,
                        Axis(chart.low, chart.high, Axis::Scale::kLinear, Axis::Ends::kAsGiven, width > 500 ? 10 : 5),
                        y);
  Svg svg(width, height, chart.label, "chart");
  frame.draw(svg, chart.x, chart.y, /*upright_lines=*/false);
  for (const double value : chart.grid) {
    if (value >= chart.low && value <= chart.high)
      svg.line(frame.at_x(value), frame.top, frame.at_x(value), frame.bottom, "code");
  }
  const double floor = logarithmic ? y.low() : 0;
  const double step = (chart.high - chart.low) / static_cast<double>(chart.shares.size());
  const auto bin_of = [&](double value) {
    return static_cast<size_t>(
        std::clamp(std::round((value - chart.low) / step), 0.0, static_cast<double>(chart.shares.size())));
  };
  const size_t first = chart.range ? bin_of(chart.range->first) : 0,
               last = chart.range ? bin_of(chart.range->second) : chart.shares.size();
  const auto draw_bins = [&](size_t from, size_t to, std::string_view css_class) {
    if (const std::string path = outline(chart, frame, from, to, floor); !path.empty()) svg.path(path, css_class);
  };
  draw_bins(0, first, "clipped");
  draw_bins(first, last, "bins");
  draw_bins(last, chart.shares.size(), "clipped");
  double free_from = -1e9;
  std::vector<HistogramChart::Mark> marks = chart.marks;
  std::sort(marks.begin(), marks.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
  for (const HistogramChart::Mark& mark : marks) {
    if (mark.x < chart.low || mark.x > chart.high) continue;
    const double x = frame.at_x(mark.x), half = text_width(mark.name) / 2;
    svg.line(x, frame.top - 2, x, frame.bottom, "mark");
    const double middle = std::clamp(x, half, std::max(half, width - half));
    if (middle - half < free_from) continue;
    svg.text(middle, frame.top - 6, mark.name, Svg::Anchor::kMiddle, "mark-name");
    free_from = middle + half + 6;
  }
  return svg.finish();
}

}  // namespace octet

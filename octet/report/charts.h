// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "octet/report/axis.h"
#include "octet/report/markup.h"

/// Charts as SVG of a width in the page's own units, so that letters are as large on a narrow page as on a wide one.
/// The page's style sheet (html_page.h) has the colours. Nothing is told by colour alone: points have shapes and names,
/// cells have tooltips and stand beside a table.
namespace octet {

struct AxisTitle {
  std::string title, unit;  ///< "checkpoint", "MB"; no unit: ""

  /// "checkpoint, MB"
  std::string to_string() const { return unit.empty() ? title : title + ", " + unit; }
};

/// Points of two measures of which less is better. Those that no other beats in both are joined: the Pareto front.
/// Where there is not room for all names, others go without.
struct ScatterChart {
  struct Point {
    double x = 0, y = 0;
    std::string name = {}, tooltip = {};
    bool marked = false;  ///< drawn larger: what the page is about
  };
  struct Line {
    double x = 0;
    std::string name;
  };

  std::string label;  ///< what it shows, for those who cannot see it
  AxisTitle x, y;
  Axis::Scale y_scale = Axis::Scale::kLinear;
  std::vector<Point> points;
  /// Points without names, what was predicted; a line joins those that no other beats.
  std::vector<std::pair<double, double>> curve = {};
  std::string curve_name = {};
  std::optional<Line> line = {};  ///< upright: what has no y, as the reference on a logarithmic axis
};

/// Which points no other beats: none is as low in both measures and lower in one. Of equal points all.
std::vector<bool> pareto_front(const std::vector<ScatterChart::Point>& points);

/// Throws Error without points.
Markup draw(const ScatterChart& chart, double width);

/// A value for each of rows × columns as the depth of a colour, in ten steps between `low` and `high`, and their
/// legend.
struct HeatChart {
  std::string label;
  std::string row_title, column_title;
  std::vector<std::string> rows, columns;
  struct Cell {
    double value = 0;
    std::string tooltip;
  };
  std::vector<std::optional<Cell>> cells;  ///< row after row
  double low = 0, high = 1;
  Axis::Scale scale = Axis::Scale::kLogarithmic;
  AxisTitle value;
  std::function<std::string(double)> format;  ///< of values in the legend
};

/// With rows and columns exchanged where columns would be too thin to see. Throws Error unless there are as many cells
/// as rows × columns, and some.
Markup draw(const HeatChart& chart, double width);

/// Shares of values by bins of one width.
struct HistogramChart {
  struct Mark {
    double x = 0;
    std::string name;  ///< written beside the line where there is room
  };

  std::string label;
  AxisTitle x, y;
  double low = 0, high = 1;    ///< of the first and the last bin's ends
  std::vector<double> shares;  ///< a bin's share of all values
  Axis::Scale y_scale = Axis::Scale::kLinear;
  /// What a quantizer can represent: outside of it values are clipped, and drawn so.
  std::optional<std::pair<double, double>> range = {};
  std::vector<double> grid = {};  ///< the values of codes, where they are few enough to be seen
  std::vector<Mark> marks = {};
};

/// Throws Error without bins.
Markup draw(const HistogramChart& chart, double width);

}  // namespace octet

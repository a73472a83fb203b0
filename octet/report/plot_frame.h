// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "octet/report/axis.h"
#include "octet/report/charts.h"
#include "octet/report/svg.h"

namespace octet {

/// Letters of the page's charts are 12 units high; so wide is one in the mean, a little more than most fonts have it.
constexpr double kLetterWidth = 6.6, kLetterHeight = 12;

/// About as wide as `text` is drawn.
double text_width(std::string_view text);

/// The part of a drawing that two axes enclose, with their lines, ticks and titles.
struct PlotFrame {
  double left = 0, top = 0, right = 0, bottom = 0;  ///< of the enclosed part
  Axis x, y;

  /// Room is left for the ticks of `y` and both titles; `top` is free above.
  PlotFrame(double width, double height, double top, Axis x_axis, Axis y_axis);

  double at_x(double value) const { return left + x.share(value) * (right - left); }
  double at_y(double value) const { return bottom - y.share(value) * (bottom - top); }
  /// Lines through the ticks, their labels, and the titles: x below, y lying at the top.
  void draw(Svg& svg, const AxisTitle& x_title, const AxisTitle& y_title, bool upright_lines) const;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/report/plot_frame.h"

#include <algorithm>

namespace octet {

double text_width(std::string_view text) {
  // Code points, as in Table.
  const auto letters =
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  return kLetterWidth * static_cast<double>(letters);
}

PlotFrame::PlotFrame(double width, double height, double top_room, Axis x_axis, Axis y_axis)
    : x(std::move(x_axis)), y(std::move(y_axis)) {
  double widest = 0;
  for (const double tick : y.ticks()) widest = std::max(widest, text_width(y.label(tick)));
  constexpr double kGap = 6, kTitle = 16;
  left = widest + kGap + 2;
  top = top_room + kTitle + kGap;
  // Half of the last tick's label may stand beyond the end.
  right = width - std::max(8.0, x.ticks().empty() ? 0.0 : text_width(x.label(x.ticks().back())) / 2);
  bottom = height - kTitle - kLetterHeight - 2 * kGap;
}

void PlotFrame::draw(Svg& svg, const AxisTitle& x_title, const AxisTitle& y_title, bool upright_lines) const {
  using enum Svg::Anchor;
  for (const double tick : y.ticks()) {
    svg.line(left, at_y(tick), right, at_y(tick), "grid");
    svg.text(left - 6, at_y(tick) + 4, y.label(tick), kEnd, "tick");
  }
  double free_from = -1e9;  // labels that would run into the one before are left out
  for (const double tick : x.ticks()) {
    const double place = at_x(tick), half = text_width(x.label(tick)) / 2;
    if (upright_lines) svg.line(place, top, place, bottom, "grid");
    svg.line(place, bottom, place, bottom + 4, "axis");
    if (place - half < free_from) continue;
    svg.text(place, bottom + 17, x.label(tick), kMiddle, "tick");
    free_from = place + half + 5;
  }
  svg.line(left, bottom, right, bottom, "axis");
  svg.text((left + right) / 2, bottom + 35, x_title.to_string(), kMiddle, "axis-title");
  svg.text(0, 12, y_title.to_string(), kStart, "axis-title");
}

}  // namespace octet

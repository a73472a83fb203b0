// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "octet/report/markup.h"

namespace octet {

/// A drawing of SVG for a page of HTML, in its own units, y downwards. Colours are left to the page's style sheet:
/// every shape has a class. It is one image to a screen reader, called by its label; a tooltip is shown by a shape of
/// its own. Coordinates are written to hundredths; throws NumericError for those that are not finite.
class Svg {
 public:
  enum class Anchor { kStart, kMiddle, kEnd };

  Svg(double width, double height, std::string_view label, std::string_view css_class = "");

  void rectangle(double x, double y, double width, double height, std::string_view css_class,
                 std::string_view tooltip = "");
  void line(double x1, double y1, double x2, double y2, std::string_view css_class);
  void circle(double x, double y, double radius, std::string_view css_class, std::string_view tooltip = "");
  /// A square on its corner, `radius` from centre to corner.
  void diamond(double x, double y, double radius, std::string_view css_class, std::string_view tooltip = "");
  /// `data` as made by PathData.
  void path(const std::string& data, std::string_view css_class);
  void text(double x, double y, std::string_view text, Anchor anchor, std::string_view css_class);
  /// Turned by `degrees`, clockwise, around (x, y).
  void turned_text(double x, double y, double degrees, std::string_view text, Anchor anchor,
                   std::string_view css_class);

  Markup finish();

 private:
  void shape(std::string_view tag, Markup::Attributes attributes, std::string_view tooltip);

  Markup markup_;
};

/// The line of a path: absolute moves and lines.
class PathData {
 public:
  PathData& move(double x, double y);
  PathData& line(double x, double y);
  PathData& close();
  const std::string& to_string() const noexcept { return data_; }

 private:
  std::string data_;
};

/// To hundredths, without zeros at the end: "12.5", "-3". Throws NumericError for NaN and infinity.
std::string svg_number(double value);

}  // namespace octet

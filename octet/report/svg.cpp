// SPDX-License-Identifier: Apache-2.0
#include "octet/report/svg.h"

#include <cmath>

#include <fmt/format.h>

#include "octet/base/error.h"

namespace octet {
namespace {

std::string anchor_name(Svg::Anchor anchor) {
  return anchor == Svg::Anchor::kStart ? "start" : anchor == Svg::Anchor::kMiddle ? "middle" : "end";
}

}  // namespace

std::string svg_number(double value) {
  if (!std::isfinite(value)) fail<NumericError>("a coordinate of a drawing is {}", value);
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

Svg::Svg(double width, double height, std::string_view label, std::string_view css_class) {
  markup_.open("svg", {{"xmlns", "http://www.w3.org/2000/svg"},
                       {"class", std::string(css_class)},
                       {"role", "img"},
                       {"aria-label", std::string(label)},
                       {"viewBox", fmt::format("0 0 {} {}", svg_number(width), svg_number(height))},
                       {"width", svg_number(width)},
                       {"height", svg_number(height)}});
}

void Svg::shape(std::string_view tag, Markup::Attributes attributes, std::string_view tooltip) {
  if (tooltip.empty()) {
    markup_.empty(tag, attributes);
  } else {
    markup_.open(tag, attributes).element("title", {}, tooltip).close();
  }
}

void Svg::rectangle(double x, double y, double width, double height, std::string_view css_class,
                    std::string_view tooltip) {
  shape("rect",
        {{"class", std::string(css_class)},
         {"x", svg_number(x)},
         {"y", svg_number(y)},
         {"width", svg_number(width)},
         {"height", svg_number(height)}},
        tooltip);
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  shape("line",
        {{"class", std::string(css_class)},
         {"x1", svg_number(x1)},
         {"y1", svg_number(y1)},
         {"x2", svg_number(x2)},
         {"y2", svg_number(y2)}},
        "");
}

void Svg::circle(double x, double y, double radius, std::string_view css_class, std::string_view tooltip) {
  shape("circle",
        {{"class", std::string(css_class)}, {"cx", svg_number(x)}, {"cy", svg_number(y)}, {"r", svg_number(radius)}},
        tooltip);
}

void Svg::diamond(double x, double y, double radius, std::string_view css_class, std::string_view tooltip) {
  const PathData path =
      PathData().move(x - radius, y).line(x, y - radius).line(x + radius, y).line(x, y + radius).close();
  shape("path", {{"class", std::string(css_class)}, {"d", path.to_string()}}, tooltip);
}

void Svg::path(const std::string& data, std::string_view css_class) {
  shape("path", {{"class", std::string(css_class)}, {"d", data}}, "");
}

void Svg::text(double x, double y, std::string_view text, Anchor anchor, std::string_view css_class) {
  markup_.element("text",
                  {{"class", std::string(css_class)},
                   {"x", svg_number(x)},
                   {"y", svg_number(y)},
                   {"text-anchor", anchor_name(anchor)}},
                  text);
}

void Svg::turned_text(double x, double y, double degrees, std::string_view text, Anchor anchor,
                      std::string_view css_class) {
  markup_.element(
      "text",
      {{"class", std::string(css_class)},
       {"transform", fmt::format("translate({} {}) rotate({})", svg_number(x), svg_number(y), svg_number(degrees))},
       {"text-anchor", anchor_name(anchor)}},
      text);
}

Markup Svg::finish() {
  markup_.close();
  return std::move(markup_);
}

PathData& PathData::move(double x, double y) {
  data_ += fmt::format("M{} {}", svg_number(x), svg_number(y));
  return *this;
}

PathData& PathData::line(double x, double y) {
  data_ += fmt::format("L{} {}", svg_number(x), svg_number(y));
  return *this;
}

PathData& PathData::close() {
  data_ += 'Z';
  return *this;
}

}  // namespace octet

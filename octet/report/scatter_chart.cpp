// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "octet/base/error.h"
#include "octet/report/charts.h"
#include "octet/report/plot_frame.h"
#include "octet/report/svg.h"

namespace octet {
namespace {

struct Box {
  double left, top, right, bottom;

  double overlap(const Box& other) const {
    const double across = std::min(right, other.right) - std::max(left, other.left);
    const double down = std::min(bottom, other.bottom) - std::max(top, other.top);
    return across > 0 && down > 0 ? across * down : 0;
  }
  double area() const { return (right - left) * (bottom - top); }
};

struct NamePlace {
  double x, y;  ///< of the text's base line
  Svg::Anchor anchor;
  Box box;
  double away;  ///< from the place beside the point
};

// Where a point's name may stand: beside it, above, below, and further up and down, from where a line leads to it.
std::vector<NamePlace> places(double x, double y, double width) {
  constexpr double kOff = 10;
  std::vector<NamePlace> out;
  const auto add = [&](double left, double base, double at, Svg::Anchor anchor, double away) {
    out.push_back({at, base, anchor, {left, base - kLetterHeight + 1, left + width, base + 4}, away});
  };
  using enum Svg::Anchor;
  for (const double away : {0.0, 10.0, 18.0, 26.0, 34.0, 42.0}) {
    for (const double up : {-1.0, 1.0}) {
      add(x + kOff, y + 4 + up * away, x + kOff, kStart, away);
      add(x - kOff - width, y + 4 + up * away, x - kOff, kEnd, away);
      if (away >= 18) add(x - width / 2, y + 4 + up * away, x, kMiddle, away);
    }
  }
  return out;
}

// The share of a name that others may cover.
constexpr double kReadable = 0.1;

double covered(const Box& box, const std::vector<Box>& taken) {
  double sum = 0;
  for (const Box& other : taken) sum += box.overlap(other);
  return sum;
}

// The place that covers least of what is there already and sticks out least.
NamePlace free_place(const std::vector<NamePlace>& offered, const std::vector<Box>& taken, const Box& inside) {
  const auto cost = [&](const NamePlace& place) {
    // A name that is 10 away is as bad as one of which a letter is covered.
    return 3 * (place.box.area() - place.box.overlap(inside)) + 8 * place.away + covered(place.box, taken);
  };
  return *std::min_element(offered.begin(), offered.end(),
                           [&](const NamePlace& a, const NamePlace& b) { return cost(a) < cost(b); });
}

std::vector<bool> not_beaten(const std::vector<std::pair<double, double>>& points) {
  std::vector<bool> front;
  for (const auto& [x, y] : points) {
    front.push_back(std::none_of(points.begin(), points.end(), [x = x, y = y](const auto& other) {
      return other.first <= x && other.second <= y && (other.first < x || other.second < y);
    }));
  }
  return front;
}

}  // namespace

std::vector<bool> pareto_front(const std::vector<ScatterChart::Point>& points) {
  std::vector<std::pair<double, double>> both;
  for (const ScatterChart::Point& point : points) both.emplace_back(point.x, point.y);
  return not_beaten(both);
}

Markup draw(const ScatterChart& chart, double width) {
  if (chart.points.empty()) fail("a scatter chart of no points");
  double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
  for (const ScatterChart::Point& point : chart.points) {
    x_low = std::min(x_low, point.x), x_high = std::max(x_high, point.x);
    y_low = std::min(y_low, point.y), y_high = std::max(y_high, point.y);
  }
  for (const auto& [x, y] : chart.curve) {
    x_low = std::min(x_low, x), x_high = std::max(x_high, x);
    y_low = std::min(y_low, y), y_high = std::max(y_high, y);
  }
  if (chart.line) x_low = std::min(x_low, chart.line->x), x_high = std::max(x_high, chart.line->x);
  const double height = std::clamp(width * 0.55, 240.0, 380.0);
  const PlotFrame frame(width, height, 0,
                        Axis(x_low, x_high, Axis::Scale::kLinear, Axis::Ends::kPadded, width > 500 ? 8 : 4),
                        Axis(y_low, y_high, chart.y_scale, Axis::Ends::kPadded));
  Svg svg(width, height, chart.label, "chart");
  frame.draw(svg, chart.x, chart.y, /*upright_lines=*/true);

  const Box inside{frame.left, frame.top, frame.right, frame.bottom};
  std::vector<Box> taken;
  if (chart.line) {
    const double x = frame.at_x(chart.line->x), name = text_width(chart.line->name);
    svg.line(x, frame.top, x, frame.bottom, "mark");
    const bool to_the_left = x + name + 8 > frame.right;
    svg.text(to_the_left ? x - 6 : x + 6, frame.top + 12, chart.line->name,
             to_the_left ? Svg::Anchor::kEnd : Svg::Anchor::kStart, "mark-name");
    taken.push_back({x - 2, frame.top, x + 2, frame.bottom});
    taken.push_back(
        {to_the_left ? x - 6 - name : x + 6, frame.top, to_the_left ? x - 6 : x + 6 + name, frame.top + 15});
  }

  std::vector<std::pair<double, double>> curve = chart.curve;
  std::sort(curve.begin(), curve.end());
  // What was searched for by another measure than x is no front here: what others beat is not joined.
  const std::vector<bool> on_curve = not_beaten(curve);
  PathData joined;
  bool begun = false;
  for (size_t i = 0; i < curve.size(); ++i) {
    const double x = frame.at_x(curve[i].first), y = frame.at_y(curve[i].second);
    svg.rectangle(x - 1.5, y - 1.5, 3, 3, "predicted-point");
    if (!on_curve[i]) continue;
    begun ? joined.line(x, y) : joined.move(x, y);
    begun = true;
  }
  if (curve.size() > 1) svg.path(joined.to_string(), "predicted");

  const std::vector<bool> front = pareto_front(chart.points);
  std::vector<std::pair<double, double>> corners;
  for (size_t i = 0; i < chart.points.size(); ++i) {
    if (front[i]) corners.emplace_back(frame.at_x(chart.points[i].x), frame.at_y(chart.points[i].y));
  }
  std::sort(corners.begin(), corners.end());
  // Between two points of the front nothing is known to be better than the left one: steps, not slopes.
  PathData steps;
  for (size_t i = 0; i < corners.size(); ++i) {
    if (i == 0) {
      steps.move(corners[i].first, corners[i].second);
    } else {
      steps.line(corners[i].first, corners[i - 1].second).line(corners[i].first, corners[i].second);
    }
  }
  if (corners.size() > 1) svg.path(steps.to_string(), "front");

  for (const ScatterChart::Point& point : chart.points) {
    const double x = frame.at_x(point.x), y = frame.at_y(point.y);
    taken.push_back({x - 7, y - 7, x + 7, y + 7});
  }
  // Of names that have no room those of the front stand; the others' points have their tooltips.
  std::vector<size_t> order(chart.points.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto must_be_named = [&](size_t i) { return front[i] || chart.points[i].marked; };
  std::stable_partition(order.begin(), order.end(), must_be_named);
  for (const size_t i : order) {
    const ScatterChart::Point& point = chart.points[i];
    const double x = frame.at_x(point.x), y = frame.at_y(point.y);
    const NamePlace place = free_place(places(x, y, text_width(point.name)), taken, inside);
    if (must_be_named(i) || covered(place.box, taken) < kReadable * place.box.area()) {
      if (place.away > 12) svg.line(x, y, place.x, place.y < y ? place.y + 4 : place.y - kLetterHeight + 2, "leader");
      svg.text(place.x, place.y, point.name, place.anchor, point.marked ? "point-name marked" : "point-name");
      taken.push_back(place.box);
    }
    if (front[i]) {
      svg.circle(x, y, point.marked ? 7 : 5.5, "point on-front", point.tooltip);
    } else {
      svg.diamond(x, y, point.marked ? 8 : 6.5, "point off-front", point.tooltip);
    }
  }
  // Beside whichever of the curve's points has most room left.
  std::vector<NamePlace> beside_curve;
  for (size_t i = 0; i < curve.size(); ++i) {
    if (!on_curve[i]) continue;
    const double x = frame.at_x(curve[i].first), y = frame.at_y(curve[i].second);
    for (const NamePlace& place : places(x, y, text_width(chart.curve_name))) beside_curve.push_back(place);
  }
  if (!beside_curve.empty()) {
    const NamePlace place = free_place(beside_curve, taken, inside);
    svg.text(place.x, place.y, chart.curve_name, place.anchor, "mark-name");
  }
  return svg.finish();
}

}  // namespace octet

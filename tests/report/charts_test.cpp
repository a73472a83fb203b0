// SPDX-License-Identifier: Apache-2.0
#include "octet/report/charts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/report/format.h"
#include "octet/report/svg.h"
#include "tests/report/well_formed.h"

namespace octet {
namespace {

using testing::Contains;

const std::string kHostile = "</text><script>alert(1)</script>\" onload=\"x";

std::vector<std::string> texts(const PageReader& page) {
  std::vector<std::string> out;
  for (const PageElement& element : page.all("text")) out.push_back(element.text);
  return out;
}

size_t count_class(const PageReader& page, const std::string& name) {
  return static_cast<size_t>(std::count_if(page.elements.begin(), page.elements.end(), [&](const PageElement& element) {
    const auto found = element.attributes.find("class");
    return found != element.attributes.end() && (" " + found->second + " ").find(" " + name + " ") != std::string::npos;
  }));
}

// What every chart has: one image with a name, no script, all shapes inside of it.
PageReader read_chart(const Markup& chart, const std::string& label) {
  PageReader page(chart.to_string());
  EXPECT_EQ(page.error, "");
  EXPECT_EQ(page.elements.front().tag, "svg");
  EXPECT_EQ(page.elements.front().attributes["role"], "img");
  EXPECT_EQ(page.elements.front().attributes["aria-label"], escape_markup(label));
  EXPECT_TRUE(page.all("script").empty());
  double width = 0, height = 0;
  EXPECT_EQ(std::sscanf(page.elements.front().attributes["viewBox"].c_str(), "0 0 %lf %lf", &width, &height), 2);
  for (const PageElement& rect : page.all("rect")) {
    EXPECT_GE(std::stod(rect.attributes.at("x")), 0);
    EXPECT_LE(std::stod(rect.attributes.at("x")) + std::stod(rect.attributes.at("width")), width + 0.01);
    EXPECT_LE(std::stod(rect.attributes.at("y")) + std::stod(rect.attributes.at("height")), height + 0.01);
  }
  return page;
}

ScatterChart scatter() {
  return {.label = "Size and loss",
          .x = {"checkpoint", "MB"},
          .y = {"KL divergence", "nats"},
          .y_scale = Axis::Scale::kLogarithmic,
          .points = {{163, 0.0029, "w8a16", "163 MB"},
                     {163, 0.0292, "w8a8_dynamic", ""},
                     {116, 0.488, "w4a16_g128", ""},
                     {123, 0.334, kHostile, kHostile}},
          .line = ScatterChart::Line{269, "float"}};
}

TEST(ScatterChart, HasTitlesUnitsNamesAndAFront) {
  const PageReader page = read_chart(draw(scatter(), 720), "Size and loss");
  for (const char* text : {"checkpoint, MB", "KL divergence, nats", "w8a16", "w8a8_dynamic", "float", "0.01"})
    EXPECT_THAT(texts(page), Contains(text));
  EXPECT_THAT(texts(page), Contains(escape_markup(kHostile)));
  EXPECT_EQ(count_class(page, "on-front"), 3u);
  EXPECT_EQ(count_class(page, "off-front"), 1u);
  EXPECT_EQ(count_class(page, "front"), 1u);
}

TEST(ScatterChart, NoPointOfTheFrontIsBeatenByAnother) {
  const std::vector<ScatterChart::Point> points = {{1, 5}, {2, 4}, {2, 4}, {2, 5}, {3, 4}, {4, 1}, {1, 6}};
  EXPECT_THAT(pareto_front(points), testing::ElementsAre(true, true, true, false, false, true, false));
}

TEST(ScatterChart, NamesOfNeighboursDoNotCoverEachOther) {
  ScatterChart chart = scatter();
  chart.points.clear();
  for (int i = 0; i < 6; ++i)
    chart.points.push_back({100 + i * 3.0, 0.1 + 0.01 * i, "recipe number " + std::to_string(i), ""});
  const PageReader page = read_chart(draw(chart, 720), chart.label);
  std::vector<double> lines;
  for (const PageElement& text : page.all("text")) {
    if (text.text.starts_with("recipe number")) lines.push_back(std::stod(text.attributes.at("y")));
  }
  ASSERT_EQ(lines.size(), 6u);
}

TEST(ScatterChart, InACrowdTheFrontKeepsItsNames) {
  ScatterChart chart = scatter();
  chart.points.clear();
  for (int i = 0; i < 40; ++i)
    chart.points.push_back({100 + i * 0.5, 0.1 + 0.001 * i, "a recipe with a long name " + std::to_string(i), ""});
  const PageReader page = read_chart(draw(chart, 330), chart.label);
  EXPECT_THAT(texts(page), Contains("a recipe with a long name 0"));
  EXPECT_LT(page.all("text").size(), 30u);
  EXPECT_EQ(count_class(page, "off-front"), 39u);
}

TEST(ScatterChart, APredictionThatAnotherBeatsIsNotJoined) {
  ScatterChart chart = scatter();
  chart.curve = {{100, 0.4}, {120, 0.2}, {130, 0.3}, {140, 0.1}};
  const PageReader page = read_chart(draw(chart, 720), chart.label);
  EXPECT_EQ(count_class(page, "predicted-point"), 4u);
  for (const PageElement& path : page.all("path")) {
    if (path.attributes.at("class") != "predicted") continue;
    EXPECT_EQ(std::ranges::count_if(path.attributes.at("d"), [](char c) { return c == 'M' || c == 'L'; }), 3);
  }
}

TEST(ScatterChart, OnePointAndEqualPointsAreDrawnToo) {
  ScatterChart chart = scatter();
  chart.points = {{5, 0.1, "a", ""}};
  chart.line.reset();
  read_chart(draw(chart, 330), chart.label);
  chart.points.push_back({5, 0.1, "b", ""});
  read_chart(draw(chart, 330), chart.label);
  chart.points.clear();
  EXPECT_THROW(draw(chart, 330), Error);
}

HeatChart heat(size_t rows, size_t columns) {
  HeatChart chart;
  chart.label = "Errors";
  chart.row_title = "layer";
  chart.column_title = "block";
  for (size_t r = 0; r < rows; ++r) chart.rows.push_back("kind_" + std::to_string(r));
  for (size_t c = 0; c < columns; ++c) chart.columns.push_back(std::to_string(c));
  for (size_t i = 0; i < rows * columns; ++i)
    chart.cells.push_back(HeatChart::Cell{0.01 * static_cast<double>(i + 1), "tip"});
  chart.low = 0.01;
  chart.high = 0.01 * static_cast<double>(rows * columns);
  chart.value = {"relative error", "%"};
  chart.format = [](double value) { return format_number(value * 100); };
  return chart;
}

TEST(HeatChart, HasACellForEveryValueAndALegend) {
  HeatChart chart = heat(7, 30);
  chart.cells[4].reset();
  const PageReader page = read_chart(draw(chart, 1020), "Errors");
  EXPECT_EQ(page.all("title").size(), 7u * 30 - 1);
  EXPECT_EQ(count_class(page, "heat-none"), 1u);
  EXPECT_EQ(count_class(page, "worst"), 1u);
  for (const char* text : {"layer", "block", "relative error, %", "kind_0", "29", "210"})
    EXPECT_THAT(texts(page), Contains(text));
}

TEST(HeatChart, ANarrowOneIsTurnedRatherThanThin) {
  const PageReader page = read_chart(draw(heat(7, 30), 330), "Errors");
  EXPECT_GE(std::stod(page.all("rect").front().attributes.at("width")), 8);
}

TEST(HeatChart, AnyNumberOfRowsAndColumnsCanBeDrawn) {
  for (const size_t rows : {1, 2, 40}) {
    for (const size_t columns : {1, 12, 126}) {
      for (const double width : {330.0, 1020.0}) {
        HeatChart chart = heat(rows, columns);
        read_chart(draw(chart, width), "Errors");
        chart.high = chart.low;
        read_chart(draw(chart, width), "Errors");
      }
    }
  }
  HeatChart wrong = heat(2, 2);
  wrong.cells.pop_back();
  EXPECT_THROW(draw(wrong, 330), Error);
}

TEST(Histogram, WhatIsClippedIsDrawnApart) {
  HistogramChart chart{.label = "Weights",
                       .x = {"weight", "steps"},
                       .y = {"share", "%"},
                       .low = -10,
                       .high = 10,
                       .shares = std::vector<double>(20, 5),
                       .range = {{-8, 8}},
                       .grid = {-8, 0, 7},
                       .marks = {{-8, "-8"}, {8, kHostile}}};
  PageReader page = read_chart(draw(chart, 320), "Weights");
  EXPECT_EQ(count_class(page, "clipped"), 2u);
  EXPECT_EQ(count_class(page, "bins"), 1u);
  EXPECT_EQ(count_class(page, "code"), 3u);
  EXPECT_EQ(count_class(page, "mark"), 2u);
  for (const char* text : {"weight, steps", "share, %"}) EXPECT_THAT(texts(page), Contains(text));
  chart.y_scale = Axis::Scale::kLogarithmic;
  chart.shares[3] = 0;
  chart.shares[4] = 1e-7;
  page = read_chart(draw(chart, 320), "Weights");
  chart.shares.assign(20, 0);
  read_chart(draw(chart, 320), "Weights");
  chart.shares.clear();
  EXPECT_THROW(draw(chart, 320), Error);
}

TEST(Svg, CoordinatesAreShortAndFinite) {
  EXPECT_EQ(svg_number(12.5), "12.5");
  EXPECT_EQ(svg_number(-3), "-3");
  EXPECT_EQ(svg_number(-0.001), "0");
  EXPECT_EQ(svg_number(1.0 / 3), "0.33");
  EXPECT_THROW(svg_number(std::nan("")), NumericError);
}

}  // namespace
}  // namespace octet

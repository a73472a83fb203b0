// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "octet/report/html_page.h"
#include "octet/report/html_table.h"
#include "tests/report/well_formed.h"

namespace octet {
namespace {

using testing::HasSubstr;

const std::string kHostile = "<img src=x onerror=alert(1)>\"'&";

TEST(HtmlPage, IsOneWellFormedFileThatFetchesNothing) {
  HtmlPage page(kHostile, kHostile);
  page.add_section("first", kHostile, paragraph(kHostile));
  page.add_section("second", "Second",
                   warning_list({kHostile})
                       .add(folded(kHostile, code_block(kHostile)))
                       .add(fact_list({{kHostile, kHostile, kHostile}}))
                       .add(fact_tiles({{kHostile, kHostile, kHostile}}))
                       .add(figure_grid({{kHostile, kHostile, paragraph(kHostile)}}))
                       .add(for_width(remark("wide"), remark("narrow"))));
  page.set_footer(kHostile);
  const std::string text = page.to_string();
  const PageReader read(text);
  EXPECT_EQ(read.error, "");
  EXPECT_TRUE(read.all("img").empty());
  EXPECT_EQ(read.all("script").size(), 1u);
  EXPECT_EQ(read.all("title").size(), 1u);
  EXPECT_EQ(read.elements.front().attributes.at("lang"), "en");
  for (const char* fetched : {"link", "iframe", "object", "img", "base"}) EXPECT_TRUE(read.all(fetched).empty());
  for (const PageElement& element : read.elements) {
    EXPECT_FALSE(element.attributes.contains("src"));
    if (element.attributes.contains("href")) {
      EXPECT_TRUE(element.attributes.at("href").starts_with("#"));
    }
  }
  EXPECT_THAT(read.all("style").front().text, testing::Not(testing::AnyOf(HasSubstr("url("), HasSubstr("@import"))));
  EXPECT_THAT(text, HasSubstr("default-src &#39;none&#39;"));
  EXPECT_THAT(text, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(text, HasSubstr("@media print"));
  EXPECT_EQ(text, page.to_string());
}

TEST(HtmlTable, NumbersLineUpOnTheDecimalPoint) {
  HtmlTable table("caption", {{"recipe", "", HtmlTable::Kind::kName}, {"size", "MB"}});
  table.add_reference_row({{"float"}, {.text = "269", .value = 269}});
  table.add_row({{"a"}, {.text = "45.25", .value = 45.25, .best = true}});
  table.add_row({{"b"}, {.text = "1.5 ± 0.2", .value = 1.5}});
  table.add_row({{"c"}, {""}});
  const PageReader page(table.to_markup().to_string());
  EXPECT_EQ(page.error, "");
  const std::vector<PageElement> cells = page.all("td");
  ASSERT_EQ(cells.size(), 4u);
  EXPECT_EQ(cells[0].text, "269\u2008\u2007\u2007");
  EXPECT_EQ(cells[1].text, "45.25");
  EXPECT_EQ(cells[2].text, "1.5\u2007 ± 0.2");
  EXPECT_EQ(cells[3].text, "");
  EXPECT_EQ(cells[1].attributes.at("data-value"), "45.25");
  EXPECT_EQ(cells[3].attributes.at("data-value"), "");
  EXPECT_THAT(cells[1].attributes.at("class"), HasSubstr("best"));
}

TEST(HtmlTable, HeadsHaveUnitsAndScopes) {
  HtmlTable table(kHostile, {{kHostile, "", HtmlTable::Kind::kName}, {"error", "%", HtmlTable::Kind::kBar}});
  table.add_row({{kHostile}, {.text = "5", .value = 5, .bar = 2, .note = kHostile}});
  const PageReader page(table.to_markup().to_string());
  EXPECT_EQ(page.error, "");
  for (const PageElement& head : page.all("th")) {
    EXPECT_TRUE(head.parent == "tr");
  }
  EXPECT_EQ(page.all("th").front().attributes.at("scope"), "col");
  EXPECT_THAT(table.to_markup().to_string(), HasSubstr("width:100.0%"));
  EXPECT_TRUE(page.all("img").empty());
  EXPECT_THROW(table.add_row({{"one"}}), Error);
  EXPECT_THROW(HtmlTable("", {}), Error);
}

}  // namespace
}  // namespace octet

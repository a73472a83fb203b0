// SPDX-License-Identifier: Apache-2.0
#include "octet/report/markup.h"

#include <gtest/gtest.h>

#include "octet/base/error.h"
#include "tests/report/well_formed.h"

namespace octet {
namespace {

TEST(Markup, EscapesWhatWouldWriteTags) {
  EXPECT_EQ(escape_markup("<script>alert('1' & \"2\")</script>"),
            "&lt;script&gt;alert(&#39;1&#39; &amp; &quot;2&quot;)&lt;/script&gt;");
  EXPECT_EQ(escape_markup("größe 模型 🙂\n\t"), "größe 模型 🙂\n\t");
}

TEST(Markup, WhatIsNoTextBecomesAReplacement) {
  EXPECT_EQ(escape_markup(std::string_view("a\0b\x1b[2J\x7f", 8)), "a�b�[2J�");
  // Continuation without a start, overlong, surrogate, above U+10FFFF, cut off, C1, direction overrides.
  EXPECT_EQ(escape_markup("\x80"), "�");
  EXPECT_EQ(escape_markup("\xC0\xAF"), "��");
  EXPECT_EQ(escape_markup("\xE0\x80\xAF"), "���");
  EXPECT_EQ(escape_markup("\xED\xA0\x80"), "���");
  EXPECT_EQ(escape_markup("\xF4\x90\x80\x80"), "����");
  EXPECT_EQ(escape_markup("\xE2\x82"), "��");
  EXPECT_EQ(escape_markup("\xC2\x9B"), "�");
  EXPECT_EQ(escape_markup("a\u202Egnp.exe\u2066"), "a�gnp.exe�");
}

TEST(Markup, ElementsNestAndAreClosed) {
  Markup page;
  page.open("p", {{"class", "a\"b"}, {"title", "<&>"}}).text("x < y").empty("br", {}).element("b", {}, "&").close();
  EXPECT_EQ(page.to_string(), "<p class=\"a&quot;b\" title=\"&lt;&amp;&gt;\">x &lt; y<br/><b>&amp;</b></p>");
  EXPECT_EQ(PageReader(page.to_string()).error, "");
  EXPECT_THROW(page.close(), Error);
  page.open("p");
  EXPECT_THROW(page.to_string(), Error);
  EXPECT_THROW(Markup().add(page), Error);
}

TEST(Markup, TheReaderOfTheseTestsSeesWhatIsNotWellFormed) {
  for (const char* page : {"<p>", "</p>", "<p></b>", "a & b", "<p class=x></p>", "<p a=\"1\" a=\"2\"></p>", "<>",
                           "<p title=\"<\"></p>", "<b><i></b></i>", "1 > 0"}) {
    EXPECT_NE(PageReader(page).error, "") << page;
  }
}

}  // namespace
}  // namespace octet

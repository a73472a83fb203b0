// SPDX-License-Identifier: Apache-2.0
#include "octet/report/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using Align = Table::Align;

TEST(Table, NumbersLineUpOnTheDecimalPoint) {
  Table table({{"recipe", Align::kLeft, ""}, {"size", Align::kDecimal, "MB"}, {"load", Align::kDecimal, "ms"}});
  table.add_row({"float", "45.4", "1,120.25"});
  table.add_row({"w8a8_dynamic", "22.9", "80"});
  table.add_row({"w8a16", "", "-0.5"});
  EXPECT_EQ(table.to_string(),
            "recipe        size      load\n"
            "                MB        ms\n"
            "────────────────────────────\n"
            "float         45.4  1,120.25\n"
            "w8a8_dynamic  22.9     80\n"
            "w8a16                  -0.5\n");
}

TEST(Table, UnitsInCellsLineUpToo) {
  Table table({{"tensor", Align::kLeft, ""}, {"bytes", Align::kDecimal, ""}, {"share", Align::kDecimal, ""}});
  table.add_row({"weights", "22.9 MB", "99.2 %"});
  table.add_row({"scales", "129 kB", "0.6 %"});
  table.add_row({"rest", "812 B", "skipped"});
  EXPECT_EQ(table.to_string(),
            "tensor      bytes    share\n"
            "──────────────────────────\n"
            "weights   22.9 MB   99.2 %\n"
            "scales   129   kB    0.6 %\n"
            "rest     812   B   skipped\n");
}

TEST(Table, WidthsCountCharactersNotBytes) {
  Table table({{"größe", Align::kLeft, ""}, {"Δ", Align::kDecimal, "µs"}});
  table.add_row({"é", "≈1.5"});
  table.add_row({"eeeeee", "−10"});
  EXPECT_EQ(table.to_string(),
            "größe       Δ\n"
            "           µs\n"
            "─────────────\n"
            "é        ≈1.5\n"
            "eeeeee  −10\n");
}

TEST(Table, ALongHeaderOrANarrowColumnKeepsNumbersAtTheRight) {
  Table table({{"agreement with float", Align::kDecimal, "%"}});
  table.add_row({"99.5"});
  table.add_rule();
  table.add_row({"100"});
  EXPECT_EQ(table.to_string(),
            "agreement with float\n"
            "                   %\n"
            "────────────────────\n"
            "                99.5\n"
            "────────────────────\n"
            "               100\n");
}

TEST(Table, InkAddsNothingButEscapeSequences) {
  Table table({{"a", Align::kLeft, ""}, {"b", Align::kDecimal, "ms"}});
  table.add_row({"x", "1"});
  table.add_dim_row({"y", "2"});
  const std::string plain = table.to_string();
  std::string inked = table.to_string(Table::Ink::kTerminal);
  EXPECT_THAT(inked, testing::HasSubstr("\x1b[2my   2\x1b[0m\n"));
  EXPECT_THAT(inked, testing::HasSubstr("\nx   1\n"));
  for (const std::string sequence : {"\x1b[2m", "\x1b[0m"}) {
    for (size_t at = inked.find(sequence); at != std::string::npos; at = inked.find(sequence)) {
      inked.erase(at, sequence.size());
    }
  }
  EXPECT_EQ(inked, plain);
}

TEST(Table, ANameFromAFileCannotSteerTheTerminal) {
  Table table({{"layer\n", Align::kLeft, ""}});
  table.add_row({"a\x1b[2J\nb\x7f\xC2\x9B"});
  EXPECT_EQ(table.to_string(), "layer�\n─────────\na�[2J�b��\n");
  Table broken({{"x", Align::kDecimal, ""}});
  broken.add_row({"\xC2"});
  broken.add_row({"\x80\xFF"});
  EXPECT_FALSE(broken.to_string().empty());
}

TEST(Table, RowsMustFitTheColumns) {
  EXPECT_THROW(Table({}), Error);
  Table table({{"a", Align::kLeft, ""}, {"b", Align::kLeft, ""}});
  EXPECT_THROW(table.add_row({"1"}), Error);
  EXPECT_THROW(table.add_dim_row({"1", "2", "3"}), Error);
  EXPECT_EQ(table.to_string(), "a  b\n────\n");
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/stop_strings.h"

#include <optional>
#include <random>

#include <gmock/gmock.h>

#include "octet/base/error.h"

namespace octet {
namespace {

struct Cut {
  std::string text;
  std::optional<std::string> stop;
};

// The plainest reading: the end of a text that is first that of a stop string.
Cut cut_plainly(const std::string& text, const std::vector<std::string>& strings) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<std::string> longest;
    for (const std::string& string : strings) {
      if (std::string_view(text).substr(0, end).ends_with(string) && (!longest || string.size() > longest->size()))
        longest = string;
    }
    if (longest) return {text.substr(0, end - longest->size()), longest};
  }
  return {text, {}};
}

Cut cut_in_pieces(const std::vector<std::string>& pieces, const std::vector<std::string>& strings) {
  StopStrings stops(strings);
  std::string text;
  for (const std::string& piece : pieces) {
    text += stops.push(piece);
    if (stops.found()) break;
  }
  text += stops.finish();
  return {text, stops.found() ? std::optional(stops.which()) : std::nullopt};
}

TEST(StopStrings, EndTheTextBeforeTheFirstOfThem) {
  StopStrings stops({"\nUser:", "###"});
  EXPECT_EQ(stops.push("Hello"), "Hello");
  EXPECT_EQ(stops.push(" there#"), " there");
  EXPECT_EQ(stops.push("1\n"), "#1");
  EXPECT_EQ(stops.push("Use"), "");
  EXPECT_FALSE(stops.found());
  EXPECT_EQ(stops.push("r: more"), "");
  ASSERT_TRUE(stops.found());
  EXPECT_EQ(stops.which(), "\nUser:");
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, WhatIsHeldBackComesWhenTheTextEnds) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("the EN"), "the ");
  EXPECT_EQ(stops.finish(), "EN");
  EXPECT_EQ(stops.push("D"), "D") << "a new text";
  StopStrings none;
  EXPECT_EQ(none.push("anything"), "anything");
  EXPECT_FALSE(none.found());
}

TEST(StopStrings, OfThoseThatEndTogetherTheLongestCounts) {
  EXPECT_EQ(cut_in_pieces({"a x", "yz b"}, {"z", "xyz", "yz"}).text, "a ");
  EXPECT_EQ(cut_in_pieces({"a xyz b"}, {"xyz b", "y"}).text, "a x") << "y is complete first";
}

TEST(StopStrings, WholeCharactersGiveWholeCharacters) {
  // U+00E9, U+00E8 and U+00EA share their first byte.
  StopStrings stops({"é!"});
  EXPECT_EQ(stops.push("è"), "è");
  EXPECT_EQ(stops.push("é"), "");
  EXPECT_EQ(stops.push("ê"), "éê");
  EXPECT_EQ(stops.push("é!"), "");
  EXPECT_TRUE(stops.found());
}

TEST(StopStrings, AnySplitGivesWhatSearchingTheWholeTextGives) {
  std::mt19937 random(3);
  // Few letters, so that strings overlap each other and themselves.
  const std::vector<std::string> letters = {"a", "b", "é", "è"};
  const auto text_of = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += letters[random() % letters.size()];
    return text;
  };
  int found = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::string> strings(random() % 4);
    for (std::string& string : strings) string = text_of(1 + random() % 6);
    std::vector<std::string> pieces(random() % 12);
    std::string whole;
    for (std::string& piece : pieces) whole += piece = text_of(random() % 5);
    const Cut expected = cut_plainly(whole, strings), got = cut_in_pieces(pieces, strings);
    ASSERT_EQ(got.text, expected.text) << whole << " and " << testing::PrintToString(strings);
    ASSERT_EQ(got.stop, expected.stop) << whole << " and " << testing::PrintToString(strings);
    found += got.stop ? 1 : 0;
    // Byte by byte, too.
    std::vector<std::string> bytes;
    for (const char byte : whole) bytes.emplace_back(1, byte);
    ASSERT_EQ(cut_in_pieces(bytes, strings).text, expected.text) << whole;
  }
  EXPECT_GT(found, 5'000);
}

TEST(StopStrings, NoMoreIsHeldBackThanCouldBegin) {
  std::mt19937 random(5);
  const std::vector<std::string> strings = {"aab", "abaa", "bbb"};
  for (int round = 0; round < 2'000; ++round) {
    StopStrings stops(strings);
    std::string whole, given;
    while (whole.size() < 20) {
      const std::string piece(1, random() % 2 == 0 ? 'a' : 'b');
      given += stops.push(piece);
      whole += piece;
      if (stops.found()) break;
      size_t begun = 0;
      for (const std::string& string : strings) {
        for (size_t length = 1; length < string.size(); ++length)
          if (whole.ends_with(string.substr(0, length))) begun = std::max(begun, length);
      }
      ASSERT_EQ(given, whole.substr(0, whole.size() - begun));
    }
  }
}

TEST(StopStrings, ThatCannotBeAreRefused) {
  EXPECT_THROW(StopStrings({"a", ""}), UsageError);
  EXPECT_THROW(StopStrings({"\xFF"}), UsageError);
  EXPECT_THROW(StopStrings({"\xC3"}), UsageError) << "half a character";
  EXPECT_NO_THROW(StopStrings({"\xEF\xBF\xBD"})) << "U+FFFD itself may stand in a text";
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/text/unicode.h"

#include <gtest/gtest.h>

#include "octet/text/aligned_text.h"
#include "octet/text/unicode_normalization.h"

namespace octet {
namespace {

std::u32string decode(std::string_view bytes) {
  std::u32string codes;
  for (const AlignedChar& c : align(bytes)) codes.push_back(c.code);
  return codes;
}

TEST(Unicode, EveryCodePointSurvivesUtf8) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string bytes;
    unicode::append_utf8(bytes, c);
    size_t position = 0;
    ASSERT_EQ(unicode::decode_utf8(bytes, position), c);
    ASSERT_EQ(position, bytes.size());
  }
}

// The expected strings are those of Python's bytes.decode(errors="replace").
TEST(Unicode, BytesThatAreNotUtf8BecomeReplacementCharacters) {
  EXPECT_EQ(decode("a\xFFz"), U"a\uFFFDz");
  EXPECT_EQ(decode("\xC0\x80"), U"\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(decode("\xE0\x80\x80"), U"\uFFFD\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(decode("\xED\xA0\x80"), U"\uFFFD\uFFFD\uFFFD");            // a surrogate
  EXPECT_EQ(decode("\xF4\x90\x80\x80"), U"\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  EXPECT_EQ(decode("\xF0\x9F\xA4"), U"\uFFFD");                        // cut off: one, not three
  EXPECT_EQ(decode("\xF0\x9F\xA4z\xE2\x82"), U"\uFFFDz\uFFFD");
  EXPECT_EQ(decode("\x80\xBF"), U"\uFFFD\uFFFD");
}

TEST(Unicode, ReplacementKeepsTheBytesPlace) {
  const AlignedText text = align("é\xF0\x9F\xA4z");
  ASSERT_EQ(text.size(), 3u);
  EXPECT_EQ(text[1].begin, 2u);
  EXPECT_EQ(text[1].end, 5u);
  EXPECT_EQ(text[2].begin, 5u);
}

TEST(Unicode, ClassesAreThoseOfTheLibrary) {
  EXPECT_TRUE(unicode::is_whitespace(0x3000));
  EXPECT_FALSE(unicode::is_whitespace(0x200B));
  EXPECT_TRUE(unicode::is_control(0x200B));
  EXPECT_FALSE(unicode::is_control('\t'));
  EXPECT_FALSE(unicode::is_control(0x378));  // unassigned
  EXPECT_TRUE(unicode::is_punctuation('$'));
  EXPECT_TRUE(unicode::is_punctuation(0x166D));   // punctuation in Unicode 8, a symbol since
  EXPECT_FALSE(unicode::is_punctuation(0x2E52));  // assigned in Unicode 14
  EXPECT_FALSE(unicode::is_nonspacing_mark(0x903));
  EXPECT_TRUE(unicode::is_mark(0x903));
  EXPECT_TRUE(unicode::is_word('_'));
  EXPECT_FALSE(unicode::is_word('-'));
  EXPECT_TRUE(unicode::is_cjk(0x4E00));
  EXPECT_FALSE(unicode::is_cjk(0x3042));
  EXPECT_FALSE(unicode::is_mark(0xFFFFFFFF));
}

std::u32string normalized(std::u32string_view codes, NormalizationForm form) {
  AlignedText text;
  for (size_t i = 0; i < codes.size(); ++i)
    text.push_back({codes[i], static_cast<uint32_t>(i), static_cast<uint32_t>(i + 1)});
  normalize(text, form);
  std::u32string result;
  for (const AlignedChar& c : text) result.push_back(c.code);
  return result;
}

// Cases of UAX #15 and its conformance test: reordering, blocking, exclusions, Hangul.
TEST(UnicodeNormalization, ComposesAndReordersByTheStandard) {
  using enum NormalizationForm;
  EXPECT_EQ(normalized(U"s\u0307\u0323", kNfc), U"\u1E69");
  EXPECT_EQ(normalized(U"\u1E9B\u0323", kNfc), U"\u1E9B\u0323");
  EXPECT_EQ(normalized(U"\u1E9B\u0323", kNfd), U"\u017F\u0323\u0307");
  EXPECT_EQ(normalized(U"\u1E9B\u0323", kNfkc), U"\u1E69");
  EXPECT_EQ(normalized(U"a\u0305\u0315\u0300\u05AE b", kNfc), U"a\u05AE\u0305\u0300\u0315 b");
  EXPECT_EQ(normalized(U"\u0958", kNfc), U"\u0915\u093C");  // excluded from composition
  EXPECT_EQ(normalized(U"\u212B", kNfc), U"\u00C5");
  EXPECT_EQ(normalized(U"\u1100\u1161\u11A8", kNfc), U"\uAC01");
  EXPECT_EQ(normalized(U"\uAC01", kNfd), U"\u1100\u1161\u11A8");
  EXPECT_EQ(normalized(U"\u0301\u0301a", kNfc), U"\u0301\u0301a");
  EXPECT_EQ(normalized(U"\uFDFA", kNfkd).size(), 18u);
}

TEST(UnicodeNormalization, InsertedCharactersTakeThePlaceOfTheirSource) {
  AlignedText text = align("xé½");
  normalize(text, NormalizationForm::kNfkd);
  ASSERT_EQ(text.size(), 6u);  // x e ´ 1 ⁄ 2
  EXPECT_EQ(text[2].begin, 1u);
  EXPECT_EQ(text[2].end, 3u);
  EXPECT_EQ(text[5].begin, 3u);
  EXPECT_EQ(text[5].end, 5u);
}

}  // namespace
}  // namespace octet

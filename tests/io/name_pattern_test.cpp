// SPDX-License-Identifier: Apache-2.0
#include "octet/io/name_pattern.h"

#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::HasSubstr;

TEST(NamePattern, MatchesWhatPythonsReMatchMatches) {
  struct Case {
    const char* pattern;
    const char* name;
    bool matches;  // bool(re.match(pattern, name))
  };
  const std::vector<Case> cases = {
      {"", "anything", true},
      {"lm_head", "lm_head", true},
      {"lm_head", "lm_head.0", true},
      {"lm_head$", "lm_head.0", false},
      {"head", "lm_head", false},
      {".*head", "lm_head", true},
      {"^lm", "lm_head", true},
      {"a^b", "ab", false},
      {"a$b", "ab", false},
      {".*\\.(q|k|v)_proj$", "model.layers.3.self_attn.k_proj", true},
      {".*\\.(q|k|v)_proj$", "model.layers.3.self_attn.o_proj", false},
      {".*\\.(q|k|v)_proj$", "model.layers.3.self_attnXk_proj", false},
      {"model\\.layers\\.\\d+\\.mlp", "model.layers.17.mlp.up", true},
      {"model\\.layers\\.\\d+\\.mlp", "model.layers.x.mlp.up", false},
      {"(?:ab)+c", "ababc", true},
      {"(?:ab)+c", "c", false},
      {"(ab)*c", "c", true},
      {"ab?c", "ac", true},
      {"ab?c", "abbc", false},
      {"a.c", "abc", true},
      {"a.c", "a\nc", false},
      {"a\\.c", "abc", false},
      {"[0-4]x", "3x", true},
      {"[0-4]x", "5x", false},
      {"[^0-4]x", "5x", true},
      {"[^0-4]x", "3x", false},
      {"[]a]x", "]x", true},
      {"[a-]x", "-x", true},
      {"[-a]x", "-x", true},
      {"[\\d_]x", "_x", true},
      {"[\\]]x", "]x", true},
      {"\\w\\W\\s\\S\\D", "a- bc", true},
      {"\\w\\W\\s\\S\\D", "a- b1", false},
      {"a|b|c$", "cx", false},
      {"a|b|c$", "bx", true},
      {"x(a|)y", "xy", true},
      {"(a|b)(c|d)*e", "bcdcde", true},
      {"a+?b", "aab", true},
      {"(a*)*b", "aaab", true},
      {"(a*)*b", "aaac", false},
      {"((a|b)+x)+y", "abxbaxy", true},
      {"}x", "}x", true},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(NamePattern(c.pattern, "config.json").matches(c.name), c.matches) << c.pattern << " on " << c.name;
  }
}

TEST(NamePattern, WhatIsNotUnderstoodIsRefused) {
  for (const char* pattern : {"(?!a).*", "(?=a)", "(?P<n>a)", "(?i)a", "a{2}",    "\\1",     "\\bx", "\\Ax", "(a",
                              "a)",      "[a",    "[",        "*a",    "+",       "?",       "a**",  "a+*",  "a?+",
                              "^*",      "$?",    "\\",       "[z-a]", "[\\d-x]", "[a-\\d]", "(?",   "ä"}) {
    EXPECT_THAT(message_of([&] { NamePattern(pattern, "config.json"); }), HasSubstr("config.json: the layer pattern '"))
        << pattern;
  }
}

TEST(NamePattern, LongAndDeepPatternsAreRefused) {
  EXPECT_THAT(message_of([] { NamePattern(std::string(1001, 'a'), "c"); }), HasSubstr("too long"));
  EXPECT_THAT(message_of([] { NamePattern(std::string(500, '(') + std::string(500, ')'), "c"); }),
              HasSubstr("too deeply"));
}

TEST(NamePattern, APatternThatBacktrackersTakeYearsForTakesNone) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "a?";
  pattern += std::string(100, 'a');
  EXPECT_TRUE(NamePattern(pattern, "c").matches(std::string(100, 'a')));
  EXPECT_FALSE(NamePattern("(a+)+$", "c").matches(std::string(10'000, 'a') + "!"));
}

}  // namespace
}  // namespace octet

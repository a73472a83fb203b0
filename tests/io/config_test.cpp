// SPDX-License-Identifier: Apache-2.0
#include "octet/io/config.h"

#include <nlohmann/json.hpp>

#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kText =
    R"({"model_type": "bert", "hidden_size": 384, "eps": 1e-12, "use_cache": true, "nothing": null,
  "huge": 18446744073709551615, "negative": -3, "whole": 2.0, "architectures": ["BertModel", "Other"],
  "rope_scaling": {"factor": 8, "inner": {"deep": "yes"}}, "mixed": ["a", 1]})";

Config config() { return Config::parse(kText, "config.json"); }

TEST(Config, ValuesAreReadByType) {
  EXPECT_EQ(config().text("model_type"), "bert");
  EXPECT_EQ(config().integer("hidden_size"), 384);
  EXPECT_EQ(config().number("eps"), 1e-12);
  EXPECT_EQ(config().number("hidden_size"), 384.0);
  EXPECT_TRUE(config().flag("use_cache"));
  EXPECT_THAT(config().texts("architectures"), ElementsAre("BertModel", "Other"));
  EXPECT_EQ(config().json().at("hidden_size"), 384);
}

TEST(Config, AFallbackStandsForAMissingKeyAndForNull) {
  for (const char* key : {"absent", "nothing"}) {
    EXPECT_FALSE(config().has(key));
    EXPECT_EQ(config().text(key, "x"), "x");
    EXPECT_EQ(config().integer(key, 7), 7);
    EXPECT_EQ(config().number(key, 0.5), 0.5);
    EXPECT_TRUE(config().flag(key, true));
    EXPECT_THAT(config().texts(key), IsEmpty());
    EXPECT_THAT(message_of([&] { config().integer(key); }),
                HasSubstr("config.json: '" + std::string(key) + "' is missing"));
  }
  EXPECT_EQ(config().integer("hidden_size", 7), 384);
  EXPECT_TRUE(config().has("hidden_size"));
}

TEST(Config, AnotherTypeIsAnErrorEvenWithAFallback) {
  EXPECT_THAT(message_of([] { config().integer("model_type", 1); }),
              HasSubstr("config.json: 'model_type' must be a whole number, not \"bert\""));
  EXPECT_THAT(message_of([] { config().integer("whole"); }), HasSubstr("not 2.0"));
  EXPECT_THAT(message_of([] { config().text("hidden_size"); }), HasSubstr("must be text, not 384"));
  EXPECT_THAT(message_of([] { config().number("use_cache"); }), HasSubstr("must be a number, not true"));
  EXPECT_THAT(message_of([] { config().flag("hidden_size"); }), HasSubstr("must be true or false"));
  EXPECT_THAT(message_of([] { config().texts("mixed"); }), HasSubstr("must be a list of texts, not [\"a\",1]"));
  EXPECT_THAT(message_of([] { config().object("eps"); }), HasSubstr("must be an object"));
}

TEST(Config, NumbersOutOfRangeAreErrors) {
  EXPECT_EQ(config().integer("hidden_size", IntegerRange{1, 384}), 384);
  EXPECT_THAT(message_of([] {
                config().integer("hidden_size", IntegerRange{1, 383});
              }),
              HasSubstr("'hidden_size' is 384; it must lie in [1, 383]"));
  EXPECT_THAT(message_of([] { config().integer("negative", IntegerRange{0, 5}); }), HasSubstr("'negative' is -3"));
  EXPECT_THAT(message_of([] { config().integer("huge"); }), HasSubstr("'huge' is 18446744073709551615"));
  EXPECT_THAT(message_of([] { config().integer("huge", 1, IntegerRange{}); }), HasSubstr("must lie in"));
}

TEST(Config, AnObjectInsideOutlivesTheWholeAndSaysWhereItIs) {
  const Config inner = config().object("rope_scaling").object("inner");
  EXPECT_EQ(inner.text("deep"), "yes");
  EXPECT_THAT(message_of([&] { inner.text("other"); }),
              HasSubstr("config.json: 'rope_scaling.inner.other' is missing"));
}

TEST(Config, TextThatIsNoObjectIsRefused) {
  for (const char* text : {"", "[]", "3", "{", "{\"a\": 1e999}", "{\"a\": NaN}", "{\"a\": \"\xff\"}"}) {
    EXPECT_THAT(message_of([&] { Config::parse(text, "config.json"); }), HasSubstr("config.json: ")) << text;
  }
  const std::string bomb = "{\"a\":" + std::string(100'000, '[');
  EXPECT_THAT(message_of([&] { Config::parse(bomb, "config.json"); }), HasSubstr("nested more than"));
}

}  // namespace
}  // namespace octet

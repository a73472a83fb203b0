// SPDX-License-Identifier: Apache-2.0
#include "octet/quant/recipe.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/base/error.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const Scheme kWeightOnly{.weight = {.bits = 8}, .activations = ActivationMode::kFloat};
const Scheme kDynamic{.weight = {.bits = 8}, .activations = ActivationMode::kDynamicPerToken};

template <class E = FormatError>
std::string refusal(const std::string& text, const std::vector<std::string>& settings = {}) {
  try {
    Recipe::parse(text, "mine.json", settings);
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted, or another error: " << text;
  return "";
}

TEST(Recipe, BuiltInsSayWhatTheirNamesSay) {
  EXPECT_THAT(Recipe::built_in_names(), ElementsAre("w8a16", "w8a8_dynamic"));
  EXPECT_EQ(Recipe::load("w8a16", {}).scheme_for("any.layer"), kWeightOnly);
  EXPECT_EQ(Recipe::load("w8a8_dynamic", {}).scheme_for("any.layer"), kDynamic);
  for (const std::string& name : Recipe::built_in_names()) EXPECT_EQ(Recipe::load(name, {}).name(), name);
}

TEST(Recipe, DefaultsAreAllLayersAndFloatActivations) {
  const Recipe recipe = Recipe::parse(R"({"weights": {}})", "some/folder/mine.json");
  EXPECT_EQ(recipe.name(), "mine");
  EXPECT_EQ(recipe.scheme_for("a"), kWeightOnly);
  EXPECT_EQ(Recipe::parse(R"({"weights": {}, "activations": null})", "m").scheme_for("a"), kWeightOnly);
  EXPECT_EQ(Recipe::parse(R"({"weights": {}, "activations": {}})", "m").scheme_for("a"), kDynamic);
}

TEST(Recipe, ExcludeCountsMoreThanInclude) {
  const Recipe recipe = Recipe::parse(R"({"weights": {}, "include": ["a.*", "b.x"], "exclude": ["*.x"]})", "m");
  EXPECT_EQ(recipe.scheme_for("a.y"), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("a.x"), std::nullopt);
  EXPECT_EQ(recipe.scheme_for("b.x"), std::nullopt);
  EXPECT_EQ(recipe.scheme_for("b.y"), std::nullopt);
}

TEST(Recipe, TheLastOverrideThatMatchesCountsAndChangesOnlyWhatItSays) {
  const Recipe recipe = Recipe::parse(R"({"weights": {"bits": 8}, "activations": {"bits": 8}, "overrides": [
      {"match": "a.*", "activations": null},
      {"match": "a.b", "activations": {"bits": 8}},
      {"match": "a.c", "weights": {"bits": 8}},
      {"match": "f.*", "weights": null}]})",
                                      "m");
  EXPECT_EQ(recipe.scheme_for("z"), kDynamic);
  EXPECT_EQ(recipe.scheme_for("a.x"), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("a.b"), kDynamic);
  EXPECT_EQ(recipe.scheme_for("a.c"), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("f.x"), std::nullopt);
}

TEST(Recipe, AnOverrideDoesNotBringBackAnExcludedLayer) {
  const Recipe recipe =
      Recipe::parse(R"({"weights": {}, "exclude": ["a"], "overrides": [{"match": "a", "weights": {}}]})", "m");
  EXPECT_EQ(recipe.scheme_for("a"), std::nullopt);
}

TEST(Recipe, OverridesAloneCanQuantize) {
  const Recipe recipe = Recipe::parse(R"({"overrides": [{"match": "a", "weights": {}}]})", "m");
  EXPECT_EQ(recipe.scheme_for("a"), kWeightOnly);
  EXPECT_EQ(recipe.scheme_for("b"), std::nullopt);
}

TEST(Recipe, SettingsChangeTheJsonBeforeItIsRead) {
  const std::vector<std::string> settings = {"activations.mode=dynamic", "exclude=[\"a\"]", "name=other"};
  const Recipe recipe = Recipe::load("w8a16", settings);
  EXPECT_EQ(recipe.scheme_for("b"), kDynamic);
  EXPECT_EQ(recipe.scheme_for("a"), std::nullopt);
  EXPECT_EQ(recipe.name(), "other");
  EXPECT_EQ(Recipe::load("w8a8_dynamic", std::vector<std::string>{"activations=null"}).scheme_for("b"), kWeightOnly);
}

TEST(Recipe, ALaterSettingCountsMore) {
  const std::vector<std::string> settings = {"exclude=[\"a\"]", "exclude=[\"b\"]"};
  EXPECT_EQ(Recipe::load("w8a16", settings).scheme_for("a"), kWeightOnly);
}

TEST(Recipe, SettingsThatCannotBeHonouredAreErrors) {
  EXPECT_THAT(refusal<UsageError>("{}", {"weights"}), HasSubstr("--set 'weights': write key=value"));
  EXPECT_THAT(refusal<UsageError>("{}", {"=8"}), HasSubstr("write key=value"));
  EXPECT_THAT(refusal<UsageError>(R"({"name": "x"})", {"name.deeper=8"}), HasSubstr("is not an object"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights.bit=8"}), HasSubstr("unknown key 'bit'. Did you mean 'bits'?"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights.bits=eight"}), HasSubstr("'bits' is \"eight\""));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights..bits=8"}), HasSubstr("unknown key ''"));
}

TEST(Recipe, SettingsOfAnyDepthOrFormAreSafe) {
  std::string deep = "weights.bits";
  for (int i = 0; i < 100'000; ++i) deep += ".a";
  EXPECT_THAT(refusal<UsageError>(R"({"weights": {}})", {deep + "=1"}), HasSubstr("no recipe nests so deeply"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"weights=" + std::string(4000, '[')}), HasSubstr("weights"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"x\xff=1"}), HasSubstr("unknown key"));
  EXPECT_THAT(refusal(R"({"weights": {}})", {"name=[\"\xff\"]", "weights.bits=\xff"}), HasSubstr("bits"));
}

TEST(Recipe, UnknownKeysAreNamedWithTheNearestKnownOne) {
  EXPECT_THAT(refusal(R"({"weight": {}})"),
              AllOf(HasSubstr("recipe 'mine.json'"), HasSubstr("unknown key 'weight'"), HasSubstr("'weights'")));
  EXPECT_THAT(refusal(R"({"weights": {"granulrity": "per_channel"}})"),
              AllOf(HasSubstr("weights: unknown key 'granulrity'"), HasSubstr("'granularity'")));
  EXPECT_THAT(refusal(R"({"weights": {}, "overrides": [{"match": "a", "activation": null}]})"),
              AllOf(HasSubstr("override 1"), HasSubstr("'activations'")));
}

TEST(Recipe, ValuesNotOfferedAreNamed) {
  struct Case {
    const char* text;
    const char* said;
  };
  const std::vector<Case> cases = {
      {R"({"weights": {"bits": 4}})", "'bits' is 4; 8 is what can be had here"},
      {R"({"weights": {"bits": 8.5}})", "'bits' is 8.5"},
      {R"({"weights": {"bits": "8"}})", "'bits' is \"8\""},
      {R"({"weights": {"granularity": "per_tensor"}})", "'granularity' is \"per_tensor\""},
      {R"({"weights": {"symmetric": false}})", "'symmetric' is false"},
      {R"({"weights": 8})", "an object {…} is needed, not number"},
      {R"({"weights": {}, "activations": {"mode": "static"}})", "'mode' is \"static\""},
      {R"({"weights": {}, "activations": {"granularity": "per_tensor"}})", "'granularity' is \"per_tensor\""},
      {R"({"weights": {}, "activations": {"bits": 4}})", "'bits' is 4"},
      {R"({"weights": {}, "include": "a"})", "'include' must be a list"},
      {R"({"weights": {}, "exclude": [1]})", "'exclude' must be a list"},
      {R"({"weights": {}, "name": 1})", "'name' must be text"},
      {R"({"weights": {}, "overrides": {}})", "'overrides' must be a list"},
      {R"({"weights": {}, "overrides": [1]})", "override 1: an object {…} is needed"},
      {R"({"weights": {}, "overrides": [{}]})", "override 1: says no 'match'"},
      {"[]", "an object {…} is needed, not array"},
      {"{", "not valid JSON"},
  };
  for (const Case& c : cases) EXPECT_THAT(refusal(c.text), HasSubstr(c.said)) << c.text;
}

TEST(Recipe, ImpossibleCombinationsAreRefused) {
  EXPECT_THAT(refusal(R"({"activations": {}})"), HasSubstr("quantizes activations but not weights"));
  EXPECT_THAT(refusal(R"({"weights": null, "activations": {}})"), HasSubstr("quantizes activations but not weights"));
  EXPECT_THAT(refusal("{}"), HasSubstr("quantizes nothing"));
  EXPECT_THAT(refusal(R"({"overrides": [{"match": "a", "weights": null}]})"), HasSubstr("quantizes nothing"));
}

TEST(Recipe, ADepthBombIsRefused) {
  EXPECT_THAT(refusal(std::string(1'000'000, '[')), HasSubstr("nested more than 16"));
  EXPECT_THAT(refusal("{\"weights\":" + std::string(20, '[') + std::string(20, ']') + "}"),
              HasSubstr("nested more than 16"));
}

TEST(Recipe, ANameThatIsNeitherBuiltInNorAFileSuggestsOne) {
  try {
    Recipe::load("w8a8_dynamik", {});
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("Did you mean 'w8a8_dynamic'?"));
  }
}

TEST(Recipe, AFileIsRead) {
  const auto path = std::filesystem::path(testing::TempDir()) / "octet_recipe_test.json";
  std::ofstream(path) << R"({"weights": {"bits": 8}, "exclude": ["a"]})";
  const Recipe recipe = Recipe::load(path.string(), {});
  std::filesystem::remove(path);
  EXPECT_EQ(recipe.name(), "octet_recipe_test");
  EXPECT_EQ(recipe.scheme_for("a"), std::nullopt);
}

TEST(Recipe, PatternsThatMatchNothingAreListed) {
  const Recipe recipe = Recipe::parse(
      R"({"weights": {}, "include": ["a.*", "q"], "exclude": ["a.x"], "overrides": [{"match": "*z", "weights": null}]})",
      "m");
  const std::vector<std::string> layers = {"a.x", "a.y"};
  EXPECT_THAT(recipe.unmatched_patterns(layers), ElementsAre("q", "*z"));
}

TEST(GlobMatch, StarAndQuestionMark) {
  struct Case {
    const char* pattern;
    const char* text;
    bool matches;
  };
  const std::vector<Case> cases = {
      {"", "", true},
      {"", "a", false},
      {"*", "", true},
      {"*", "a.b.c", true},
      {"?", "", false},
      {"?", "a", true},
      {"a*", "abc", true},
      {"a*", "ba", false},
      {"*c", "abc", true},
      {"*c", "abcd", false},
      {"a*c", "ac", true},
      {"a?c", "ac", false},
      {"a?c", "abc", true},
      {"*b*d", "abcd", true},
      {"*b*d", "abdc", false},
      {"**", "x", true},
      {"a*b*c", "aXbXbXc", true},
      {"*.output.dense", "encoder.layer.0.attention.output.dense", true},
      {"[a]", "a", false},
      {"a.b", "aXb", false},
  };
  for (const Case& c : cases) EXPECT_EQ(glob_match(c.pattern, c.text), c.matches) << c.pattern << " on " << c.text;
}

TEST(GlobMatch, ManyStarsTakeNoTime) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "a*";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(5000, 'a')));
}

}  // namespace
}  // namespace octet

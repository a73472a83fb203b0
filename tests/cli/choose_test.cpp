// SPDX-License-Identifier: Apache-2.0
#include <set>

#include <gmock/gmock.h>

#include "tests/cli/cli.h"
#include "tests/sanitized.h"

// What chooses how to quantize: octet sensitivity and octet autoquant.
namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kDemo = "'" OCTET_DEMO_DECODER "'";
const std::string kText = "--data '" OCTET_DEMO_DECODER "/README.md' --tokens 96 --window 48";

class Choose : public Cli {};

TEST_F(Choose, SensitivityRanksLayersAndSchemes) {
  const json report = run_json("sensitivity " + kDemo + " " + kText + " --schemes w8a16,w4a16_g32");
  EXPECT_EQ(report["measure"], "kl");
  EXPECT_EQ(report["tokens"], 96);
  ASSERT_EQ(report["entries"].size(), 2 * 4 * 7);
  double eight = 0, four = 0;
  for (const json& entry : report["entries"]) {
    (entry["scheme"] == "w8a16" ? eight : four) += entry["kl"].get<double>();
    EXPECT_GT(entry["output_error"], 0);
  }
  EXPECT_GT(four, 20 * eight);

  ASSERT_EQ(run("sensitivity " + kDemo + " " + kText + " --schemes w8a16,w4a16_g32 --per block --top 3"), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("one block at a time"));
  EXPECT_THAT(out_, HasSubstr("model.layers."));
  EXPECT_THAT(out_, HasSubstr("and 5 more; --top 0 shows all"));
}

TEST_F(Choose, SensitivityOfAnEncoderIsTheErrorOfItsSentenceVectors) {
  write("lines.txt", "one\n\ntwo words\nand a third line\n");
  const json report = run_json("sensitivity '" OCTET_DEMO_ENCODER "' --data lines.txt --schemes w8a8_dynamic --exact");
  EXPECT_EQ(report["measure"], "sentence_vectors");
  for (const json& entry : report["entries"]) EXPECT_FALSE(entry.contains("kl"));
}

TEST_F(Choose, SensitivityRefusesWhatItCannotTry) {
  EXPECT_EQ(run("sensitivity " + kDemo + " " + kText + " --schemes w8a17"), 2);
  EXPECT_THAT(err_, HasSubstr("w8a16"));
  EXPECT_EQ(run("sensitivity " + kDemo + " --data none.txt"), 1);
  EXPECT_THAT(err_, HasSubstr("none.txt"));
  write("empty.txt", "");
  EXPECT_EQ(run("sensitivity " + kDemo + " --data empty.txt"), 1);
  EXPECT_EQ(run("sensitivity " + kDemo + " " + kText + " --per token"), 2);
}

TEST_F(Choose, AutoquantWritesARecipeThatOthersTake) {
  const std::string cache = "XDG_CACHE_HOME='" + (folder_ / "cache").string() + "'";
  const std::string arguments = "autoquant " + kDemo + " " + kText +
                                " --budget 'bytes<60%' --schemes w8a8_dynamic,w4a16_g32 --prompt 16 --decode-tokens 2 "
                                "--out found.json";
  const json report = run_json(arguments, cache);
  EXPECT_EQ(report["objective"], "kl");
  EXPECT_TRUE(report["winner"]["within_budget"].get<bool>());
  EXPECT_LE(report["winner"]["measured"]["bytes"].get<double>(),
            0.6 * report["float"]["measured"]["bytes"].get<double>());
  EXPECT_GT(report["timed_products"].get<int>(), 0);
  EXPECT_EQ(parse_json(contents(folder_ / "found.json"), "the test"), report["winner"]["recipe"]);
  ASSERT_EQ(run("quantize " + kDemo + " --recipe found.json --out quantized"), 0) << err_;
  EXPECT_THAT(err_, Not(HasSubstr("warning")));
  const json compared =
      run_json("compare " + kDemo + " quantized --data '" OCTET_DEMO_DECODER "/README.md' --window 48");
  EXPECT_EQ(compared["b"]["bytes"], report["winner"]["measured"]["bytes"]);

  // The second time all times are known; a cache that is damaged is not used, and that is said.
  EXPECT_EQ(run_json(arguments, cache)["timed_products"].get<int>(), 0);
  write("cache/octet/product_timings.json", "{");
  ASSERT_EQ(run(arguments, cache), 0) << err_;
  EXPECT_THAT(err_, HasSubstr("warning: the cache of timings is damaged"));
  EXPECT_THAT(out_, HasSubstr("Pareto front"));
  EXPECT_THAT(out_, HasSubstr("the best kl within the budget → found.json"));
}

TEST_F(Choose, AutoquantFindsARecipeThatQuantizeAppliesWithData) {
  if (kSanitized) GTEST_SKIP() << "sanitizer build: the search itself is tested by ptq_test";
  const std::string text = "'" OCTET_DEMO_DECODER "/README.md'";
  const std::string arguments = "autoquant " + kDemo + " " + kText +
                                " --budget 'bytes<45%' --schemes w4a16_g128,w4a16_g128_gptq,w8a16,w8a8_smoothquant "
                                "--samples 2 --prompt 16 --decode-tokens 2 --no-cache --out found.json";
  const json report = run_json(arguments);
  ASSERT_EQ(report["recipes"].size(), 4);
  for (const json& recipe : report["recipes"]) {
    const bool loads = recipe["name"] == "w8a16" || recipe["name"] == "w4a16_g128";
    EXPECT_EQ(recipe["while_loading"], loads) << recipe["name"];
    EXPECT_EQ(recipe["needs_data"], !loads) << recipe["name"];
  }
  const json& winner = report["winner"];
  EXPECT_TRUE(winner["needs_data"].get<bool>());
  EXPECT_EQ(winner["recipe"]["calibration"]["samples"], 2);
  EXPECT_EQ(parse_json(contents(folder_ / "found.json"), "the test"), winner["recipe"]);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);

  EXPECT_EQ(run("quantize " + kDemo + " --recipe found.json --out quantized"), 2);
  EXPECT_THAT(err_, HasSubstr("GPTQ needs calibration data"));
  ASSERT_EQ(run("quantize " + kDemo + " --recipe found.json --data " + text + " --out quantized"), 0) << err_;
  const json compared = run_json("compare " + kDemo + " quantized --data " + text + " --window 48");
  EXPECT_EQ(compared["b"]["bytes"], winner["measured"]["bytes"]);

  // A report reads what was printed.
  write("printed.json", json_text(report));
  const json facts = run_json("report " + kDemo + " --results printed.json --no-speed --out page.html");
  ASSERT_EQ(facts["variants"].size(), 4 + (winner["name"] == "found" ? 1 : 0));
  EXPECT_EQ(facts["variants"][0]["bytes"], report["recipes"][0]["measured"]["bytes"]);

  ASSERT_EQ(run(arguments), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("octet quantize " OCTET_DEMO_DECODER " --recipe found.json --data " OCTET_DEMO_DECODER
                              "/README.md --out DIR"));
  EXPECT_THAT(err_, HasSubstr("tokens that models are compared on"));
}

TEST_F(Choose, RecipesThatNeedDataAreTriedUnlessToldOtherwise) {
  if (kSanitized) GTEST_SKIP() << "sanitizer build: the search itself is tested by ptq_test";
  const auto schemes = [&](const std::string& arguments) {
    const json report = run_json("sensitivity " + kDemo + " --tokens 40 --window 20 --per block " + arguments);
    std::set<std::string> names;
    for (const json& entry : report["entries"]) names.insert(entry["scheme"]);
    return names;
  };
  const std::string text = "--data '" OCTET_DEMO_DECODER "/README.md'";
  EXPECT_THAT(schemes(text + " --samples 2"), testing::IsSupersetOf({"w8a16", "w4a16_g32_gptq", "w4a16_g128_hqq"}));
  EXPECT_THAT(schemes(text + " --quick"), AllOf(testing::Contains("w8a16"), Not(testing::Contains("w4a16_g32_gptq")),
                                                Not(testing::Contains("w4a16_g128_hqq"))));
  // Too short to calibrate on: said, and done without.
  write("short.txt", "Once upon a time there was a small text. It was enough to compare models on, and no more.");
  EXPECT_THAT(schemes("--data short.txt"),
              AllOf(testing::Contains("w4a16_g128_hqq"), Not(testing::Contains("w4a16_g32_gptq"))));
  EXPECT_THAT(err_, HasSubstr("warning: recipes that need data are left out: short.txt: "));
  EXPECT_THAT(schemes("--data short.txt --samples 2 --calibration '" OCTET_DEMO_DECODER "/README.md'"),
              testing::Contains("w4a16_g32_gptq"));
  EXPECT_EQ(run("sensitivity " + kDemo + " --data short.txt --schemes w4a16_g32_gptq"), 1);
  EXPECT_EQ(run("sensitivity " + kDemo + " " + text + " --schemes w8a8_smoothquant"), 2);
  EXPECT_THAT(err_, HasSubstr("says 'fold'"));
  EXPECT_NE(run("sensitivity " + kDemo + " " + text + " --schemes w8a16 --quick"), 0);
}

TEST_F(Choose, AutoquantThatFailsLeavesTheFileAlone) {
  write("found.json", "mine");
  const std::string arguments = "autoquant " + kDemo + " " + kText +
                                " --schemes w8a16 --prompt 8 --decode-tokens 1 "
                                "--no-cache --out found.json --budget ";
  EXPECT_EQ(run(arguments + "'bytes<60%,kl'"), 2);
  EXPECT_THAT(err_, HasSubstr("budget, term 2 'kl': no limit"));
  EXPECT_EQ(run(arguments + "'kl<1e-9,bytes<10%'"), 2);
  EXPECT_THAT(err_, HasSubstr("nothing is within this budget. What can be had:\n  bytes<10%: "));
  EXPECT_EQ(contents(folder_ / "found.json"), "mine");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

}  // namespace
}  // namespace octet

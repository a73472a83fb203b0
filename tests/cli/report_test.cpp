// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "tests/cli/cli.h"
#include "tests/report/well_formed.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kGolden = OCTET_GOLDEN, kDecoder = OCTET_DEMO_DECODER,
                  kEncoder = fs::path(OCTET_PROGRAM).parent_path().parent_path() / "share/octet/demo_encoder";

class ReportCommand : public Cli {
 protected:
  // A text that both demo models can read, of some hundred tokens.
  std::string text() {
    std::string lines;
    for (int i = 0; i < 60; ++i) lines += "Once upon a time there was a little girl who had a red ball and a dog.\n";
    return write("text.txt", lines);
  }
  PageReader read(const std::string& file) {
    PageReader page(contents(folder_ / file));
    EXPECT_EQ(page.error, "");
    return page;
  }
};

std::vector<std::string> headings(const PageReader& page) {
  std::vector<std::string> out;
  for (const PageElement& element : page.all("h2")) out.push_back(element.text);
  return out;
}

TEST_F(ReportCommand, OfADecoderShowsRecipesLayersAndActivations) {
  ASSERT_EQ(run("report " + kDecoder + " --recipe w8a16 --recipe w4a8_g32_dynamic --data " + text() +
                " --window 64 --limit 4 --no-speed --out page.html"),
            0)
      << err_;
  const std::string page = contents(folder_ / "page.html");
  const PageReader read_back = read("page.html");
  EXPECT_THAT(headings(read_back),
              testing::ElementsAre("At a glance", "Accuracy, size and speed", "Model", "Error of each layer",
                                   "Weights and their codes", "Activations", "Recipes"));
  EXPECT_THAT(page, AllOf(HasSubstr("w8a16"), HasSubstr("w4a8_g32_dynamic"), HasSubstr("perplexity"),
                          HasSubstr("KL divergence"), HasSubstr("text.txt: ")));
  const std::vector<PageElement> drawings = read_back.all("svg");
  EXPECT_GT(drawings.size(), 10u);
  for (const PageElement& drawing : drawings) {
    EXPECT_EQ(drawing.attributes.at("role"), "img");
    EXPECT_NE(drawing.attributes.at("aria-label"), "");
  }
  // The same command gives the same bytes.
  ASSERT_EQ(run("report " + kDecoder +
                " --recipe w8a16 --recipe w4a8_g32_dynamic --data text.txt --window 64 --limit 4 "
                "--no-speed --out again.html"),
            0);
  EXPECT_EQ(contents(folder_ / "again.html"), page);
}

TEST_F(ReportCommand, OfAnEncoderAndOfAWrittenCheckpoint) {
  ASSERT_EQ(run("quantize " + kEncoder + " --recipe w8a8_dynamic --out small"), 0) << err_;
  const json facts =
      run_json("report small --against " + kEncoder + " --data " + text() + " --limit 20 --out page.html");
  read("page.html");
  EXPECT_EQ(facts["reference"]["name"], "float");
  ASSERT_EQ(facts["variants"].size(), 1u);
  const json& small = facts["variants"][0];
  EXPECT_EQ(small["name"], "small");
  EXPECT_GT(small["output_error"], 0);
  EXPECT_GT(small["forward_ms"], 0);
  EXPECT_LT(small["bytes"], facts["reference"]["bytes"]);
  // What was written is what the recipe does while loading.
  const json loaded = run_json("report " + kEncoder + " --recipe w8a8_dynamic --no-speed");
  EXPECT_EQ(loaded["variants"][0]["layers"], small["layers"]);
}

TEST_F(ReportCommand, ShowsWhatOtherCommandsFound) {
  write("compare.json", json_text(run_json("compare " + kDecoder + " " + kDecoder + " --recipe w8a16 --data " + text() +
                                           " --window 64 --limit 4")));
  write("bench.json",
        json_text(run_json("bench " + kDecoder + " --recipe w8a16 --seq 16 --decode-tokens 4 --repetitions 1")));
  write("quantize.json", json_text(run_json("quantize " + kDecoder + " --recipe w8a16 --out small")));
  const json facts = run_json("report " + kDecoder +
                              " --results w8a16=compare.json --results w8a16=bench.json --results quantize.json "
                              "--no-speed --out page.html");
  ASSERT_EQ(facts["variants"].size(), 1u);
  const json &variant = facts["variants"][0], compared = parse_json(contents(folder_ / "compare.json"), "the test");
  EXPECT_EQ(variant["name"], "w8a16");
  EXPECT_EQ(variant["kl"]["value"], compared["kl_mean"]);
  EXPECT_EQ(variant["bytes"], compared["b"]["bytes"]);
  EXPECT_EQ(facts["reference"]["perplexity"]["value"], compared["a"]["perplexity"]);
  EXPECT_TRUE(variant.contains("decode_tokens_per_s"));
  EXPECT_FALSE(variant["layers"].empty());
  // Facts that a report printed make the same page again.
  write("facts.json", json_text(facts));
  EXPECT_EQ(run("report " + kDecoder + " --results facts.json --no-speed --out again.html"), 0) << err_;
  EXPECT_EQ(contents(folder_ / "again.html"), contents(folder_ / "page.html"));
}

TEST_F(ReportCommand, HostileNamesStayText) {
  const std::string hostile = "<img src=x onerror=alert(1)>&'\\\"";
  const std::string model = (folder_ / "<b>model&").string();
  fs::copy(kGolden + "/llama_base", model);
  const json facts = {{"name", hostile},
                      {"architecture", hostile},
                      {"blocks", 1},
                      {"width", 1},
                      {"vocabulary", 1},
                      {"max_positions", 1},
                      {"parameters", 1},
                      {"accuracy_data", hostile},
                      {"sample", hostile},
                      {"reference", {{"name", "float"}, {"notes", {hostile}}}},
                      {"variants",
                       {{{"name", hostile},
                         {"recipe", "{\"x\": \"</pre><script>\"}"},
                         {"notes", {hostile}},
                         {"kl", {{"value", 0.5}}},
                         {"bytes", 5},
                         {"calibration", {{{"name", hostile}, {"value", hostile}}}},
                         {"layers",
                          {{{"name", "m.0." + hostile},
                            {"block", 0},
                            {"kind", hostile},
                            {"scheme", hostile},
                            {"relative_error", 0.5}}}}}}}};
  write("facts.json", json_text(facts));
  ASSERT_EQ(run("report '" + model + "' --results facts.json --no-speed --out page.html"), 0) << err_;
  const PageReader page = read("page.html");
  EXPECT_EQ(page.all("script").size(), 1u);
  for (const char* tag : {"img", "b"}) EXPECT_TRUE(page.all(tag).empty());
  for (const PageElement& element : page.elements) {
    for (const auto& [name, value] : element.attributes) EXPECT_FALSE(name.starts_with("on")) << name;
  }
}

TEST_F(ReportCommand, BadInputIsToldAndLeavesNothing) {
  const std::string model = kGolden + "/llama_base";
  write("other.json", R"({"answer": 42})");
  write("half.json", R"({"kl_mean": 0.5, "a": {"bytes": 1, "perplexity": 2}})");
  write("text.json", "no JSON");
  write("empty.json", "[]");
  write("short.txt", "Hello.");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--results missing.json", "missing.json"},
      {"--results other.json", "'kl_mean' or 'cosine_mean'"},
      {"--results half.json", "half.json: 'b' is missing"},
      {"--results text.json", "text.json: not valid JSON"},
      {"--results empty.json", "empty list"},
      {"--out no/such/folder.html", "no/such/folder.html"},
      {"--against nowhere", "nowhere"},
  };
  for (const auto& [arguments, words] : cases) {
    const std::string out = arguments.starts_with("--out") ? "" : " --out page.html";
    EXPECT_EQ(run("report " + model + " --no-speed " + arguments + out), 1) << arguments;
    EXPECT_THAT(err_, AllOf(testing::StartsWith("octet: "), HasSubstr(words))) << arguments;
    EXPECT_EQ(out_, "");
    EXPECT_FALSE(fs::exists(folder_ / "page.html"));
  }
  EXPECT_EQ(run("report " + kDecoder + " --no-speed --data short.txt --out page.html"), 1);
  EXPECT_THAT(err_, HasSubstr("short.txt"));
  for (const std::string arguments : {"", "--out a.html --limit 5", "--out a.html --window 64",
                                      "--out a.html --set weights.bits=8", "--out a.html --recipe w8a17"}) {
    EXPECT_EQ(run("report " + model + " --no-speed " + arguments), 2) << arguments << err_;
  }
  // A page that is there stays as it was where something goes wrong.
  write("page.html", "before");
  EXPECT_EQ(run("report " + model + " --no-speed --results other.json --out page.html"), 1);
  EXPECT_EQ(contents(folder_ / "page.html"), "before");
}

}  // namespace
}  // namespace octet

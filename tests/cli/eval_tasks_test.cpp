// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/cli/cli.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kGolden = OCTET_GOLDEN;

// Tasks on golden models, which get a vocabulary of letters and their suffixes.
class EvalTasks : public Cli {
 protected:
  void copy_model(const std::string& golden) {
    fs::copy(kGolden + "/" + golden, folder_ / "model");
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (char word = 'a'; word <= 'z'; ++word) vocabulary += std::string(1, word) + "\n";
    write("model/vocab.txt", vocabulary);
  }
};

TEST_F(EvalTasks, GlueTasksAgreeWithClassification) {
  copy_model("bert_sequence_classification");  // its classes 0, 1, 2: contradiction, entailment, neutral
  fs::create_directories(folder_ / "GLUE/MNLI");
  const std::vector<std::string> labels = {"entailment", "neutral", "contradiction"};
  std::string table = "sentence1\tsentence2\tgold_label\n", csv = "label,premise,\"the other\"\n";
  for (int i = 0; i < 9; ++i) {
    table += fmt::format("{0} b\t{1}\t{2}\n", char('a' + i), char('z' - i), labels[i % 3]);
    csv += fmt::format("{2},\"{0} b\",{1}\n", char('a' + i), char('z' - i), i % 3);
  }
  write("GLUE/MNLI/dev_matched.tsv", table);
  write("some.csv", csv);
  const json expected = run_json("eval model --task classification --data GLUE/MNLI/dev_matched.tsv");
  const json file = run_json("eval model --task mnli --data GLUE/MNLI/dev_matched.tsv");
  EXPECT_EQ(file["accuracy"], expected["accuracy"]);
  EXPECT_EQ(file["task"], "mnli");
  // In a .csv, numbers are those of the task, not of the model.
  EXPECT_EQ(run_json("eval model --task mnli --data some.csv --text-column premise --pair-column 'the other'"), file);
  EXPECT_EQ(run_json("eval model --task mnli --data GLUE"), file);

  write("GLUE/MNLI/dev_mismatched.tsv", "sentence1\tsentence2\tgold_label\na\tb\tneutral\n");
  const json both = run_json("eval model --task mnli --data GLUE/MNLI");
  EXPECT_EQ(both["accuracy"], file["accuracy"]);
  EXPECT_EQ(both["examples"], 10);
  EXPECT_EQ(run("eval model --task mnli --data GLUE/MNLI --predictions said.jsonl"), 0);
  std::ifstream said(folder_ / "said.jsonl");
  std::vector<json> lines;
  for (std::string line; std::getline(said, line);) lines.push_back(parse_json(line, "the test"));
  ASSERT_EQ(lines.size(), 10u);
  const auto right = std::count_if(lines.begin(), lines.begin() + 9,
                                   [](const json& line) { return line["label"] == line["predicted"]; });
  EXPECT_DOUBLE_EQ(file["accuracy"], static_cast<double>(right) / 9);
  EXPECT_EQ(lines[9]["label"], 1);
  EXPECT_TRUE(both["accuracy_mismatched"] == 0 || both["accuracy_mismatched"] == 1);

  EXPECT_EQ(run("eval model --task rte --data GLUE"), 1);
  EXPECT_THAT(err_, HasSubstr("no dev.tsv there"));
  write("rte.tsv", "sentence1\tsentence2\tlabel\na\tb\tentailment\n");
  EXPECT_EQ(run("eval model --task rte --data rte.tsv"), 1);
  EXPECT_THAT(err_, HasSubstr("3 outputs; the task 'rte' needs 2"));
  EXPECT_EQ(run("eval model --task mnli --data some.csv --text-column premis"), 1);
  EXPECT_THAT(err_, AllOf(HasSubstr("some.csv: line 1 names no column 'premis'"), HasSubstr("'premise'")));
  EXPECT_EQ(run("eval model --task perplexity --data some.csv --label-column x"), 2);
  EXPECT_EQ(run("eval model --task mlm --data some.csv --predictions x"), 2);
  EXPECT_THAT(err_, HasSubstr("--predictions"));
}

TEST_F(EvalTasks, SquadAnswersFromItsContexts) {
  copy_model("bert_question_answering");
  json paragraphs = json::array();
  for (int i = 0; i < 5; ++i) {
    const std::string context = fmt::format("{} b c d e f g h i j k l m n o p q r s t u v w x y z", char('a' + i));
    paragraphs.push_back({{"context", context},
                          {"qas",
                           {{{"id", std::to_string(i)},
                             {"question", "j k ?"},
                             {"answers", {{{"text", "h i"}, {"answer_start", 14}}}}}}}});
  }
  write("squad.json", json_text(json({{"version", "1.1"}, {"data", {{{"paragraphs", paragraphs}}}}})));
  const json whole = run_json("eval model --task squad --data squad.json");
  EXPECT_EQ(whole["examples"], 5);
  EXPECT_EQ(whole["windows"], 5);
  EXPECT_EQ(whole["window"], 64);
  EXPECT_GE(whole["f1"], whole["exact_match"]);
  const json cut = run_json("eval model --task squad --data squad.json --limit 2 --window 20 --overlap 4");
  EXPECT_EQ(cut["examples"], 2);
  EXPECT_EQ(cut["windows"], 2 * 3) << "of 14, 14 and 6 tokens of 26";
  EXPECT_EQ(run("eval model --task squad --data squad.json --window 65"), 2);
  EXPECT_EQ(run("eval model --task squad --data squad.json --window 8 --overlap 7"), 2);
  EXPECT_THAT(err_, HasSubstr("question '0'"));
  EXPECT_EQ(run("eval model --task mnli --data squad.json --overlap 7"), 2);
  EXPECT_EQ(run("eval " + kGolden + "/bert_base --task squad --data squad.json"), 1);
  fs::remove_all(folder_ / "model");
  copy_model("bert_masked_lm");
  EXPECT_EQ(run("eval model --task squad --data squad.json"), 1);
  EXPECT_THAT(err_, HasSubstr("no head that finds answers"));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "tests/cli/cli.h"

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/tensor/npy.h"
#include "tests/sanitized.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kGolden = OCTET_GOLDEN;
const std::string kModel = fs::path(OCTET_PROGRAM).parent_path().parent_path() / "share/octet/demo_encoder";

TEST_F(Cli, HelpOfEveryCommandHasExamples) {
  EXPECT_EQ(run("--help"), 0);
  for (const std::string command : {"bench", "compare", "demo", "embed", "eval", "export", "generate", "info",
                                    "inspect", "logits", "quantize", "report", "tokenize"}) {
    EXPECT_THAT(out_, HasSubstr(command));
  }
  for (const std::string command : {"bench", "compare", "demo", "embed", "eval", "export", "generate", "info",
                                    "inspect", "logits", "quantize", "report", "tokenize"}) {
    EXPECT_EQ(run(command + " --help"), 0);
    EXPECT_THAT(out_, AllOf(HasSubstr("Examples:"), HasSubstr("--json"), HasSubstr("--threads"))) << command;
  }
}

TEST_F(Cli, UsageErrorsExitWithTwo) {
  for (const std::string arguments :
       {"", "frobnicate", "info --no-such-option", "quantize", "bench x --batch 0", "inspect x --set weights.bits=8",
        "inspect x --recipe w8a17", "inspect x --recipe w8a16 --set weights", "eval x --task similarty --data y"}) {
    EXPECT_EQ(run(arguments), 2) << arguments << "\n" << err_;
    EXPECT_EQ(out_, "");
    EXPECT_THAT(err_, testing::StartsWith("octet: ")) << arguments;
  }
  EXPECT_EQ(run("inspect x --recipe w8a8_dynamik"), 2);
  EXPECT_THAT(err_, HasSubstr("Did you mean 'w8a8_dynamic'?"));
  EXPECT_EQ(run("info", "OCTET_ISA=avx1024"), 2);
  EXPECT_THAT(err_, HasSubstr("avx1024"));
}

TEST_F(Cli, BadInputExitsWithOneAndOneMessage) {
  write("bad.json", R"({"weights": {"bits": 8, "groupsize": 32}})");
  write("nothing.json", "{}");
  fs::create_directory(folder_ / "empty");
  fs::create_directory(folder_ / "pickle");
  std::ofstream(folder_ / "pickle" / "pytorch_model.bin") << "x";
  fs::copy(kGolden + "/bert_base/config.json", folder_ / "pickle" / "config.json");
  const std::string model = kGolden + "/bert_base";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"inspect no-such-folder", "no-such-folder"},
      {"inspect empty", "empty"},
      {"inspect pickle", "pytorch_model.bin"},
      {"inspect " + model + " --recipe bad.json", "unknown key 'groupsize'"},
      {"inspect " + model + " --recipe nothing.json", "quantizes nothing"},
      {"inspect " + model + " --recipe w8a16 --set weights.bits=9", "'bits' is 9"},
      {"quantize " + model + " --recipe w8a16 --out empty", "exists already"},
      {"quantize " + model + " --recipe w8a16 --set 'include=[\"nowhere.*\"]' --out new", "quantizes none"},
      {"quantize " + model + " --recipe w8a16 --out no/such/parent", "no/such/parent"},
      {"quantize " + model + " --recipe w4a16_g32 --set weights.minima=true --out new", "Write zero points instead"},
      {"inspect " + model + " --recipe w8a16 --set weights.minima=true", "8-bit weights have no minima"},
      {"logits " + model + " --ids no.npy --out o.npy", "no.npy"},
      {"bench " + model + " --seq 65", "longest is 64"},
      {"embed " + model + " --file bad.json", "tokenizer"},
      {"eval " + kModel + " --task similarity --data bad.json", "bad.json"},
  };
  for (const auto& [arguments, words] : cases) {
    EXPECT_EQ(run(arguments), 1) << arguments << "\n" << err_;
    EXPECT_EQ(out_, "") << arguments;
    EXPECT_THAT(err_, AllOf(testing::StartsWith("octet: "), HasSubstr(words))) << arguments;
  }
  EXPECT_TRUE(fs::is_empty(folder_ / "empty"));
  EXPECT_FALSE(fs::exists(folder_ / "new"));
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    EXPECT_THAT(entry.path().filename().string(), testing::Not(HasSubstr("partial")));
  }
}

TEST_F(Cli, ADiskThatFillsLeavesNothingBehind) {
  // A limit on file size stands for the full disk: 64 blocks of 1,024 bytes.
  EXPECT_EQ(run("quantize " + kModel + " --recipe w8a16 --out new", "ulimit -f 64;"), 1);
  EXPECT_THAT(err_, AllOf(HasSubstr("octet: "), HasSubstr("cannot write")));
  EXPECT_TRUE(fs::is_empty(folder_));
  EXPECT_EQ(run("info", "", "/dev/full"), 1);
  EXPECT_THAT(err_, HasSubstr("cannot write"));
}

TEST_F(Cli, InfoSaysWhatWasChosen) {
  EXPECT_THAT(run_json("info", "OCTET_ISA=ref")["backend"].get<std::string>(), HasSubstr("ref"));
  EXPECT_THAT(run_json("info --threads 1")["backend"].get<std::string>(), HasSubstr("1 thread"));
}

TEST_F(Cli, AQuantizedDirectoryIsTheRecipeAppliedWhileLoading) {
  const std::string model = kGolden + "/bert_sequence_classification";
  for (const std::string recipe : {"w8a16", "w8a8_dynamic"}) {
    const json report = run_json("quantize " + model + " --recipe " + recipe + " --out " + recipe);
    EXPECT_EQ(report["layers"].size(), 6 + 2);
    EXPECT_LT(report["bytes"], report["bytes_before"]);
    EXPECT_EQ(run_json("inspect " + recipe)["bytes"], report["bytes"]) << "the report's bytes are not the file's";
    const std::string inputs = " --ids " + model + "/right.input_ids.npy --mask " + model +
                               "/right.attention_mask.npy --type-ids " + model + "/right.token_type_ids.npy";
    EXPECT_EQ(run("logits " + recipe + inputs + " --out stored.npy"), 0) << err_;
    EXPECT_EQ(run("logits " + model + inputs + " --recipe " + recipe + " --out loaded.npy"), 0) << err_;
    EXPECT_EQ(contents(folder_ / "stored.npy"), contents(folder_ / "loaded.npy")) << recipe;
    EXPECT_EQ(run("inspect " + recipe + " --recipe w8a16"), 2);
    EXPECT_THAT(err_, HasSubstr("quantized already"));
  }
}

TEST_F(Cli, AGgufFileIsReadWrittenAndRunWithQuantizedActivations) {
  const std::string model = kGolden + "/gguf/llama_base_codes.gguf";
  const json stored = run_json("inspect " + model + " --recipe a8_dynamic");
  EXPECT_EQ(stored["bytes"], run_json("inspect " + model)["bytes"]);
  EXPECT_EQ(
      run("logits " + model + " --ids " + kGolden + "/llama_base/right.input_ids.npy --recipe a8_dynamic --out a.npy"),
      0);
  EXPECT_THAT(err_, HasSubstr("are stored as float and stay so: model.layers.0.mlp.up_proj"));
  EXPECT_EQ(run("inspect " + model + " --recipe w8a16"), 2);
  EXPECT_THAT(err_, HasSubstr("quantized already"));
  EXPECT_EQ(run("inspect " + kGolden + "/llama_base --recipe a8_dynamic"), 2);
  EXPECT_THAT(err_, HasSubstr("activations but not weights"));
  EXPECT_EQ(run("quantize " + model + " --recipe a8_dynamic --out q"), 2);
  EXPECT_EQ(run_json("export " + model + " --to gguf --type q8_0 --out again.gguf")["architecture"], "llama");
  EXPECT_EQ(run("export " + model + " --to gguf --type q8_0 --out again.gguf"), 1);
  EXPECT_THAT(err_, HasSubstr("exists already"));
  EXPECT_EQ(run("export " + model + " --to onnx --type q8_0 --out x"), 2);
}

TEST_F(Cli, MixedSchemesAreWrittenAndReadBack) {
  const std::string model = kGolden + "/bert_base";
  write("mixed.json", R"({"weights": {"bits": 8}, "exclude": ["encoder.layer.0.output.dense"],
                          "overrides": [{"match": "encoder.layer.1.*", "activations": {"mode": "dynamic"}}]})");
  EXPECT_EQ(run("quantize " + model + " --recipe mixed.json --out mixed"), 0) << err_;
  const std::string inputs = " --ids " + model + "/full.input_ids.npy --out ";
  EXPECT_EQ(run("logits mixed" + inputs + "a.npy"), 0) << err_;
  EXPECT_EQ(run("logits " + model + " --recipe mixed.json" + inputs + "b.npy"), 0) << err_;
  EXPECT_EQ(contents(folder_ / "a.npy"), contents(folder_ / "b.npy"));
  EXPECT_EQ(run("inspect " + model + " --recipe mixed.json --set 'include=[\"*\", \"nobody\"]'"), 0);
}

TEST_F(Cli, EmbeddingsOfFourBitsAreNamedAndRunFromTheirFileAsWhileLoading) {
  for (const std::string name : {"llama_tied", "gpt2"}) {
    const std::string model = kGolden + "/" + name, recipe = " --recipe w8a16 --set embeddings=4";
    ASSERT_EQ(run("quantize " + model + recipe + " --out " + name), 0) << err_;
    EXPECT_THAT(
        out_, HasSubstr(name == "gpt2" ? "\ntransformer.wte → int4 weights " : "\nmodel.embed_tokens → int4 weights "));
    EXPECT_THAT(out_, HasSubstr(name == "gpt2" ? "\nkept in float: other embeddings, normalization\n"
                                               : "\nkept in float: normalization\n"));
    const std::string inputs = " --ids " + model + "/right.input_ids.npy --out ";
    ASSERT_EQ(run("logits " + name + inputs + "stored.npy"), 0) << err_;
    ASSERT_EQ(run("logits " + model + recipe + inputs + "loaded.npy"), 0) << err_;
    EXPECT_EQ(contents(folder_ / "stored.npy"), contents(folder_ / "loaded.npy")) << name;
    EXPECT_EQ(run_json("inspect " + name)["bytes"], run_json("inspect " + model + recipe)["bytes"]);
  }
}

TEST_F(Cli, MaskedPlacesAreZerosInLogits) {
  const std::string model = kGolden + "/bert_base";
  EXPECT_EQ(run("logits " + model + " --ids " + model + "/hole.input_ids.npy --mask " + model +
                "/hole.attention_mask.npy --out o.npy"),
            0);
  const Tensor out = read_npy(folder_ / "o.npy"), mask = read_npy(model + "/hole.attention_mask.npy");
  ASSERT_EQ(out.shape(), (Shape{2, 11, 32}));
  for (int64_t row = 0; row < 22; ++row) {
    const auto values = out.as<float>().subspan(row * 32, 32);
    const bool zero = std::all_of(values.begin(), values.end(), [](float x) { return x == 0; });
    EXPECT_EQ(zero, mask.as<int32_t>()[row] == 0) << row;
  }
}

// More tokens than run at once: the rows must come back to their places.
TEST_F(Cli, LogitsOfManySequencesAreThoseOfEach) {
  const std::string model = kGolden + "/bert_base";
  const Tensor full = read_npy(model + "/full.input_ids.npy");
  constexpr int64_t kCopies = 70;  // of 64 tokens: 4,480
  Tensor ids(DType::kI32, {kCopies, 64});
  for (int64_t i = 0; i < kCopies * 64; ++i) ids.mutable_as<int32_t>()[i] = (full.as<int32_t>()[i % 64] + i / 64) % 97;
  write_npy(folder_ / "ids.npy", ids.view());
  EXPECT_EQ(run("logits " + model + " --ids ids.npy --out all.npy"), 0) << err_;
  const Tensor all = read_npy(folder_ / "all.npy");
  ASSERT_EQ(all.shape(), (Shape{kCopies, 64, 32}));
  for (const int64_t row : {0, 63, 64, 69}) {
    Tensor one(DType::kI32, {1, 64});
    std::copy_n(ids.as<int32_t>().begin() + row * 64, 64, one.mutable_as<int32_t>().begin());
    write_npy(folder_ / "one.npy", one.view());
    EXPECT_EQ(run("logits " + model + " --ids one.npy --out alone.npy"), 0) << err_;
    const Tensor alone = read_npy(folder_ / "alone.npy");
    EXPECT_TRUE(std::equal(alone.as<float>().begin(), alone.as<float>().end(), all.as<float>().begin() + row * 64 * 32))
        << row;
  }
}

TEST_F(Cli, EmbedGivesTheSameVectorsAsNpyAndJson) {
  write("text.txt", "A dog ran home.\n\nThe market was closed, so they went back.\n");
  EXPECT_EQ(run("embed " + kModel + " --file text.txt --out v.npy"), 0) << err_;
  const json printed = run_json("embed " + kModel + " --file text.txt");
  const Tensor vectors = read_npy(folder_ / "v.npy");
  ASSERT_EQ(printed["embeddings"].size(), 3);
  const std::vector<float> row = printed["embeddings"][2];
  EXPECT_THAT(row, testing::ElementsAreArray(vectors.as<float>().subspan(2 * row.size(), row.size())));
}

TEST_F(Cli, TokenizeCountsOffsetsInCodePoints) {
  write("text.txt", "Ça va, hello\n");
  const json tokens = run_json("tokenize " + kModel + " --file text.txt");
  EXPECT_EQ(tokens["tokens"].front(), "[CLS]");
  EXPECT_EQ(tokens["ids"].size(), tokens["offsets"].size());
  EXPECT_EQ(tokens["offsets"][tokens["offsets"].size() - 2][1], 12);
}

TEST_F(Cli, EvalClassifiesTextsByTheNamesOrNumbersOfClasses) {
  fs::copy(kGolden + "/bert_sequence_classification", folder_ / "classifier");
  std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char word = 'a'; word <= 'z'; ++word) vocabulary += std::string(1, word) + "\n";
  write("classifier/vocab.txt", vocabulary);
  const std::string evaluate = "eval classifier --task classification --data ";
  const std::vector<std::string> names = {"contradiction", "entailment", "neutral"};  // of classes 0, 1, 2
  std::string all = "premise\thypothesis\tlabel\n";
  double right = 0;
  for (int i = 0; i < 6; ++i) {
    const std::string text = fmt::format("{} b {}\t{}\t", char('a' + i), char('h' + 2 * i), char('z' - i));
    int met = 0;
    for (int k = 0; k < 3; ++k) {
      for (const std::string& label : {names[k], std::to_string(k)}) {
        write("one.tsv", "premise\thypothesis\tlabel\n" + text + label + "\n" + text + label + "\n");
        const double accuracy = run_json(evaluate + "one.tsv")["accuracy"];
        met += accuracy == 1 ? 1 : 0;
        if (label == names[1]) right += accuracy;
      }
    }
    EXPECT_EQ(met, 2) << "one class is what the model says, by its name and by its number: " << text;
    all += text + "entailment\n";
  }
  write("all.tsv", all);
  const json result = run_json(evaluate + "all.tsv");
  EXPECT_DOUBLE_EQ(result["accuracy"], right / 6);
  EXPECT_EQ(result["examples"], 6);
  EXPECT_EQ(run_json(evaluate + "all.tsv --limit 2")["examples"], 2);
  EXPECT_TRUE(result.contains("matthews"));
  EXPECT_FALSE(result.contains("f1"));

  for (const auto& [label, words] : {std::pair{"maybe", "'maybe'"}, std::pair{"3", "classes 0 to 2"}}) {
    write("bad.tsv", all + "a\tb\t" + label + "\n");
    EXPECT_EQ(run(evaluate + "bad.tsv"), 1);
    EXPECT_THAT(err_, AllOf(testing::StartsWith("octet: "), HasSubstr("line 8"), HasSubstr(words)));
  }
  EXPECT_EQ(run("eval " + kModel + " --task classification --data all.tsv"), 1);
  EXPECT_THAT(err_, HasSubstr("no head"));
}

TEST_F(Cli, EvalCompareAndBenchReportTheirMetrics) {
  const std::string pairs = kModel + "/pairs.tsv";
  const json eval = run_json("eval " + kModel + " --task similarity --limit 60 --data " + pairs);
  EXPECT_EQ(eval["examples"], 60);
  for (const char* metric : {"accuracy", "f1", "auc"}) EXPECT_GT(eval[metric], 0.5) << metric;
  write("text.txt", "A dog ran home.\nThe market was closed.\n");
  const json same = run_json("compare " + kModel + " " + kModel + " --data text.txt");
  EXPECT_EQ(same["relative_error"], 0);
  const json quantized = run_json("compare " + kModel + " " + kModel + " --recipe w8a8_dynamic --data text.txt");
  EXPECT_GT(quantized["cosine_mean"], 0.99);
  EXPECT_LT(quantized["b"]["bytes"], quantized["a"]["bytes"]);
  const json minima =
      run_json("compare " + kModel + " " + kModel + " --recipe w4a16_g32 --set weights.minima=true --data text.txt");
  EXPECT_GT(minima["cosine_mean"], 0.97);
  const json bench = run_json("bench " + kModel + " --batch 2 --seq 16 --repetitions 3 --recipe w8a16");
  EXPECT_LE(bench["min_ms"], bench["median_ms"]);
  EXPECT_FALSE(bench.contains("profile"));
  const json profiled = run_json("bench " + kModel + " --batch 2 --seq 16 --repetitions 3 --profile");
  double share = 0;
  bool has_attention = false;
  for (const json& entry : profiled.at("profile")) {
    EXPECT_EQ(entry["rows"], 32);
    has_attention = has_attention || entry["operation"] == "attention";
    share += entry["share"].get<double>();
  }
  EXPECT_TRUE(has_attention);
  EXPECT_GT(share, 0.5);
  EXPECT_LE(share, 1);
}

TEST_F(Cli, DemoShowsEveryRecipe) {
  if (kSanitized) GTEST_SKIP() << "sanitizer build: the demo's many passes would take minutes";
  const json both = run_json("demo --threads 2");
  for (const char* half : {"encoder", "decoder"}) {
    const json& rows = std::string(half) == "encoder" ? both[half] : both[half]["recipes"];
    ASSERT_EQ(rows.size(), 7) << half;  // fp32 and the built-in recipes
    EXPECT_EQ(rows[0]["recipe"], "fp32");
  }
  for (const json& row : both["encoder"]) {
    EXPECT_GT(row["accuracy"], 0.7);
    EXPECT_LT(row["relative_error"], 0.1);
  }
  const json& rows = both["decoder"]["recipes"];
  for (const json& row : rows) {
    EXPECT_GT(row["top1_agreement"], 0.8) << row["recipe"];
    EXPECT_LT(row["kl"], 0.2) << row["recipe"];
    EXPECT_FALSE(row["text"].get<std::string>().empty());
  }
  EXPECT_EQ(rows[0]["kl"], 0.0);
  EXPECT_EQ(run("demo --model " + kGolden + "/bert_question_answering"), 1);
  EXPECT_THAT(err_, HasSubstr("tokenizer"));
}

}  // namespace
}  // namespace octet

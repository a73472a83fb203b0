// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>

#include "tests/cli/cli.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kGolden = OCTET_GOLDEN;

// A small Llama with random weights and a tokenizer of letters, "model".
class CliDecoder : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    take("llama_base", "model");
    write("text.txt", "the quick brown fox\njumps over the lazy dog\n\nand runs away from all of the others\n");
  }

  // A golden of 97 tokens, with that tokenizer, as `name`.
  void take(const std::string& golden, const std::string& name) {
    fs::create_directory(folder_ / name);
    for (const char* file : {"config.json", "model.safetensors"})
      fs::copy(kGolden + "/" + golden + "/" + file, folder_ / name);
    std::string vocabulary = "[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\n";
    for (char c = 'a'; c <= 'z'; ++c) vocabulary += std::string(1, c) + "\n##" + std::string(1, c) + "\n";
    for (int i = 57; i < 97; ++i) vocabulary += "é" + std::to_string(i) + "\n";
    write(name + "/vocab.txt", vocabulary);
  }
};

TEST_F(CliDecoder, GenerateStreamsTextAndReportsItsSpeed) {
  ASSERT_EQ(run("generate model --prompt 'a fox' --max-tokens 6 --ignore-eos"), 0) << err_;
  const std::string text = out_;
  EXPECT_THAT(text, testing::EndsWith("\n"));
  EXPECT_THAT(err_, AllOf(HasSubstr("prompt tokens, first token after"), HasSubstr("6 tokens at")));
  const json result = run_json("generate model --prompt 'a fox' --max-tokens 6 --ignore-eos");
  EXPECT_EQ(result["text"].get<std::string>() + "\n", text);
  EXPECT_EQ(result["prompt"], "a fox");
  EXPECT_EQ(result["ids"].size(), 6);
  EXPECT_EQ(result["generated_tokens"], 6);
  EXPECT_EQ(result["prompt_tokens"], 2 + 4);
  EXPECT_EQ(result["finish_reason"], "length");
  EXPECT_GT(result["time_to_first_token_ms"], 0);
  EXPECT_GT(result["decode_tokens_per_s"], 0);
}

TEST_F(CliDecoder, GenerateGivesEachPromptOfAFileItsOwnText) {
  write("prompts.txt", "a fox\n\nthe dog runs\nz\n");
  const std::string settings = " --max-tokens 7 --temperature 0.9 --top-p 0.9 --seed 5 --ignore-eos";
  const json all = run_json("generate model --prompt-file prompts.txt --batch 2" + settings);
  ASSERT_EQ(all.size(), 3);
  std::string texts;
  for (const json& one : all) {
    const std::string prompt = one["prompt"];
    const json alone = run_json("generate model --prompt '" + prompt + "' --threads 1" + settings);
    EXPECT_EQ(alone["ids"], one["ids"]) << prompt;
    texts += (texts.empty() ? "" : "\n") + one["text"].get<std::string>() + "\n";
  }
  EXPECT_EQ(run("generate model --prompt-file prompts.txt" + settings), 0) << err_;
  EXPECT_EQ(out_, texts);
  EXPECT_THAT(err_, HasSubstr("3 prompts"));
}

TEST_F(CliDecoder, GenerateEndsBeforeAStopString) {
  const std::string settings = "generate model --prompt 'a fox' --max-tokens 20 --ignore-eos";
  const json whole = run_json(settings);
  const std::string text = whole["text"];
  // A piece from its middle that does not stand before.
  size_t begin = text.size() / 2;
  std::string stop;
  for (size_t length = 1; text.find(stop = text.substr(begin, length)) < begin; ++length) ASSERT_LT(length, 30);
  ASSERT_EQ(stop.find('\''), std::string::npos);
  const json stopped = run_json(settings + " --stop '§§' --stop '" + stop + "'");
  EXPECT_EQ(stopped["text"], text.substr(0, begin));
  EXPECT_EQ(stopped["finish_reason"], "stop");
  EXPECT_EQ(stopped["stop_string"], stop);
  EXPECT_LT(stopped["ids"].size(), 20);
  EXPECT_EQ(run(settings + " --stop '" + stop + "'"), 0);
  EXPECT_EQ(out_, text.substr(0, begin) + "\n");
  const json later = run_json(settings + " --min-tokens 21 --stop '" + stop + "'");
  EXPECT_EQ(later["text"], text) << "no stop string counts in the first tokens";
}

TEST_F(CliDecoder, GenerateTakesLogitBiasesByIdAndByText) {
  const std::string settings = "generate model --prompt 'a fox' --max-tokens 5 --ignore-eos";
  EXPECT_THAT(run_json(settings + " --logit-bias 6=1e4")["ids"], testing::Each(6));
  EXPECT_THAT(run_json(settings + " --logit-bias '##a=1e4'")["ids"], testing::Each(6));
  EXPECT_THAT(run_json(settings + " --logit-bias '##a=1e4' --logit-bias 6=-inf")["ids"],
              testing::Not(testing::Contains(6)));
  EXPECT_THAT(run_json(settings + " --logit-bias b=1e4")["ids"], testing::Each(7));
  EXPECT_EQ(run(settings + " --logit-bias fox=1"), 2);
  EXPECT_THAT(err_, HasSubstr("'fox' is 3 tokens"));
  EXPECT_EQ(run(settings + " --logit-bias 97=1"), 2);
  EXPECT_THAT(err_, HasSubstr("0 to 96"));
  EXPECT_THAT(run_json(settings + " --no-repeat-ngram-size 1")["ids"].get<std::set<int>>(), testing::SizeIs(5));
}

TEST_F(CliDecoder, GenerateSamplesAsTheModelAsksOnlyWhereTold) {
  const std::string settings = "generate model --prompt 'a fox' --max-tokens 20 --ignore-eos --seed 4";
  const json greedy = run_json(settings);
  EXPECT_EQ(run(settings + " --generation-config"), 1);
  EXPECT_THAT(err_, HasSubstr("generation_config.json"));
  write("model/generation_config.json", R"({"do_sample": true, "temperature": 1.5, "top_k": 30, "num_beams": 2})");
  EXPECT_EQ(run_json(settings)["ids"], greedy["ids"]);
  const json sampled = run_json(settings + " --generation-config");
  EXPECT_THAT(err_, HasSubstr("num_beams 2"));
  EXPECT_EQ(sampled["ids"], run_json(settings + " --temperature 1.5 --top-k 30")["ids"]);
  EXPECT_NE(sampled["ids"], greedy["ids"]);
  EXPECT_EQ(run_json(settings + " --generation-config --temperature 0")["ids"], greedy["ids"]);
}

TEST_F(CliDecoder, EveryArchitectureGeneratesAndIsQuantizedToAFileThatGeneratesTheSame) {
  for (const std::string name : {"opt", "gptj", "gpt_neox", "phi"}) {
    take(name, name);
    const std::string settings = " --prompt 'a fox' --max-tokens 6 --ignore-eos", recipe = " --recipe w8a8_dynamic";
    EXPECT_EQ(run_json("generate " + name + settings)["ids"].size(), 6) << name;
    const json loading = run_json("generate " + name + settings + recipe);
    ASSERT_EQ(run("quantize " + name + recipe + " --out " + name + "_w8a8"), 0) << err_;
    EXPECT_EQ(run_json("generate " + name + "_w8a8" + settings)["ids"], loading["ids"]) << name;
    EXPECT_THAT(run_json("inspect " + name)["architecture"].get<std::string>(), testing::EndsWith("ForCausalLM"));
  }
}

TEST_F(CliDecoder, EveryArchitectureOfEncodersEmbedsAndIsEvaluated) {
  write("pairs.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta fox\ta fox ran\n0\t3\t4\tthe dog\tz\n");
  for (const std::string name : {"roberta", "distilbert", "electra"}) {
    take(name, name);
    const json vectors = run_json("embed " + name + " --file text.txt");
    EXPECT_EQ(vectors["width"], 24) << name;
    ASSERT_EQ(vectors["embeddings"].size(), 4) << name;
    EXPECT_NE(vectors["embeddings"][0], vectors["embeddings"][1]) << name;
    EXPECT_EQ(run_json("eval " + name + " --task similarity --data pairs.tsv")["examples"], 2) << name;
  }
}

TEST_F(CliDecoder, GenerateSaysWhenTheContextIsFull) {
  EXPECT_EQ(run("generate model --prompt 'a fox' --max-tokens 1000 --ignore-eos"), 0) << err_;
  EXPECT_THAT(err_, AllOf(HasSubstr("43 tokens at"), HasSubstr("longest context, 48 tokens")));
}

TEST_F(CliDecoder, BadInputToDecodersIsOneMessage) {
  const std::string fox = " --prompt 'a fox'";
  write("empty.txt", "\n\n");
  const std::vector<std::string> usage_errors = {"generate model",
                                                 "generate model --prompt-file empty.txt --prompt x",
                                                 "generate model --top-k -1" + fox,
                                                 "generate model --temperature -1" + fox,
                                                 "generate model --top-p 0" + fox,
                                                 "generate model --top-p 1.5" + fox,
                                                 "generate model --min-p 2" + fox,
                                                 "generate model --typical-p 0" + fox,
                                                 "generate model --frequency-penalty nan" + fox,
                                                 "generate model --no-repeat-ngram-size -1" + fox,
                                                 "generate model --stop ''" + fox,
                                                 "generate model --logit-bias 6" + fox,
                                                 "generate model --logit-bias =1" + fox,
                                                 "generate model --logit-bias 6=much" + fox,
                                                 "generate model --logit-bias 6=nan" + fox,
                                                 "generate model --logit-bias 6=inf" + fox,
                                                 "generate model --max-tokens 0" + fox,
                                                 "generate model --kv-dtype int8" + fox,
                                                 "generate model --kv-dtype int4" + fox,
                                                 "generate model --recipe w8a8_dynamic --set attention=8 --kv-dtype "
                                                 "fp16" +
                                                     fox,
                                                 "generate " + kGolden + "/bert_base" + fox,
                                                 "eval model --task perplexity --data text.txt --documents line",
                                                 "eval model --task perplexity --data text.txt --window 49",
                                                 "eval model --task perplexity --data text.txt --window 8 --stride 9",
                                                 "eval model --task similarity --data text.txt --window 8",
                                                 "eval " + kGolden + "/bert_base --task perplexity --data text.txt"};
  for (const std::string& arguments : usage_errors) {
    EXPECT_EQ(run(arguments), 2) << arguments << "\n" << err_;
    EXPECT_EQ(out_, "") << arguments;
    EXPECT_THAT(err_, testing::StartsWith("octet: ")) << arguments;
  }
  const std::string letters(47, 'a');
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"generate model --prompt " + letters, "longest context is 48"},
      {"generate model --prompt-file empty.txt", "no prompt"},
      {"generate model --prompt-file no.txt", "no.txt"},
      {"generate " + kGolden + "/llama_base" + fox, "tokenizer"},
      {"eval model --task perplexity --data no.txt", "no.txt"},
      {"eval model --task perplexity --documents lines --data empty.txt", "no text"},
      {"bench model --seq 40 --decode-tokens 9", "longest context is 48"},
  };
  for (const auto& [arguments, words] : cases) {
    EXPECT_EQ(run(arguments), 1) << arguments << "\n" << err_;
    EXPECT_EQ(out_, "") << arguments;
    EXPECT_THAT(err_, AllOf(testing::StartsWith("octet: "), HasSubstr(words))) << arguments;
  }
  EXPECT_EQ(run("generate model --max-tokens 3" + fox, "", "/dev/full"), 1);
  EXPECT_THAT(err_, HasSubstr("cannot write"));
}

TEST_F(CliDecoder, InvalidUtf8IsReadAsReplacementCharacters) {
  const json broken = run_json("generate model --max-tokens 4 --prompt \"$(printf 'a \\377 fox')\"");
  EXPECT_EQ(broken["prompt"], "a \uFFFD fox");
}

TEST_F(CliDecoder, EvalAnswersQuestionsAndPredictsLastWords) {
  // After "a b c" the model finds one letter the most likely; whichever it is, it is right once.
  std::string questions;
  for (char c = 'a'; c <= 'z'; ++c) {
    questions += "{\"context\": \"a b c\", \"choices\": [";
    for (char choice = 'a'; choice <= 'z'; ++choice)
      questions += std::string(choice == 'a' ? "\"" : ", \"") + choice + "\"";
    questions += "], \"answer\": " + std::to_string(c - 'a') + "}\n";
  }
  write("questions.jsonl", questions);
  const json answers = run_json("eval model --task multiple_choice --data questions.jsonl");
  EXPECT_EQ(answers["examples"], 26);
  EXPECT_EQ(answers["choices"], 26 * 26);
  EXPECT_NEAR(answers["accuracy"], 1.0 / 26, 1e-12);
  EXPECT_NEAR(answers["accuracy_by_bytes"], 1.0 / 26, 1e-12);
  EXPECT_NEAR(answers["accuracy_standard_error"], std::sqrt(1.0 / 26 * 25 / 26 / 25), 1e-12);
  EXPECT_EQ(run_json("eval model --task multiple_choice --data questions.jsonl --limit 5")["examples"], 5);

  write("texts.jsonl", "{\"text\": \"the quick fox\"}\n{\"text\": \"a lazy dog \"}\n");
  const json words = run_json("eval model --task last_word --data texts.jsonl");
  EXPECT_EQ(words["examples"], 2);
  EXPECT_GT(words["perplexity"], 1);
  EXPECT_GT(words["perplexity_standard_error"], 0);
  EXPECT_EQ(words["tokens"], 6);
  EXPECT_EQ(run("eval model --task last_word --data texts.jsonl"), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("last_word, 2 texts"), HasSubstr("accuracy"), HasSubstr(" ± ")));

  EXPECT_EQ(run("eval model --task last_word --data texts.jsonl --window 8"), 2);
  write("bad.jsonl", "{\"text\": \"two words\"}\n{\"text\": \"one \"}\n");
  EXPECT_EQ(run("eval model --task last_word --data bad.jsonl"), 1);
  EXPECT_THAT(err_, HasSubstr("bad.jsonl: line 2: 'text' has fewer than two words"));
  EXPECT_EQ(run("eval model --task multiple_choice --data bad.jsonl"), 1);
  EXPECT_THAT(err_, HasSubstr("bad.jsonl: line 1: has none of 'context'"));
  EXPECT_EQ(run("eval " + kGolden + "/bert_base --task last_word --data texts.jsonl"), 2);
}

TEST_F(CliDecoder, EvalGivesPerplexityByTokensWordsAndBytes) {
  const json whole = run_json("eval model --task perplexity --data text.txt --window 16");
  EXPECT_EQ(whole["window"], 16);
  EXPECT_NEAR(std::log(whole["perplexity"].get<double>()) * whole["tokens"].get<double>(),
              std::log(whole["byte_perplexity"].get<double>()) * whole["bytes"].get<double>(), 1e-6);
  EXPECT_NEAR(std::log2(whole["byte_perplexity"].get<double>()), whole["bits_per_byte"].get<double>(), 1e-9);
  for (const char* name : {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"})
    EXPECT_GT(whole[std::string(name) + "_standard_error"], 0) << name;
  // Text that is one document, whatever the threads.
  EXPECT_EQ(run_json("eval model --task perplexity --data text.txt --window 16 --threads 1"), whole);
  const json strided = run_json("eval model --task perplexity --data text.txt --window 16 --stride 4");
  EXPECT_GT(strided["tokens"], whole["tokens"]);
  const json lines = run_json("eval model --task perplexity --data text.txt --documents lines --truncate 10 --limit 2");
  EXPECT_EQ(lines["documents"], 2);
  EXPECT_EQ(lines["tokens"], 2 * 9);
  EXPECT_EQ(run("eval model --task perplexity --data text.txt"), 0) << err_;
  EXPECT_THAT(out_, AllOf(HasSubstr("word_perplexity"), HasSubstr("±")));
}

TEST_F(CliDecoder, CompareGivesTheDivergenceOfPredictions) {
  const std::string text = " --data text.txt --window 16";
  const json same = run_json("compare model model" + text);
  EXPECT_EQ(same["kl_max"], 0);
  EXPECT_EQ(same["top1_agreement"], 1);
  EXPECT_EQ(same["perplexity_ratio"], 1);
  const json perplexity = run_json("eval model --task perplexity" + text);
  EXPECT_EQ(same["a"]["perplexity"], perplexity["perplexity"]);
  EXPECT_EQ(same["tokens"], perplexity["tokens"]);
  const json other = run_json("compare model model --recipe w8a16" + text);
  EXPECT_GT(other["kl_mean"], 0);
  EXPECT_LT(other["kl_mean"], 0.01);
  EXPECT_LE(other["kl_p50"], other["kl_p90"]);
  EXPECT_LE(other["kl_p99"], other["kl_max"]);
  EXPECT_LT(other["b"]["bytes"], other["a"]["bytes"]);
  EXPECT_NEAR(other["perplexity_ratio"].get<double>(), 1, 0.05);
  EXPECT_EQ(run("compare model model --recipe w8a16" + text), 0) << err_;
  EXPECT_THAT(out_, AllOf(HasSubstr("KL divergence"), HasSubstr("perplexity")));
}

TEST_F(CliDecoder, BenchTimesPrefillAndDecoding) {
  const json bench = run_json("bench model --batch 3 --seq 12 --decode-tokens 8 --repetitions 2 --warm-up 0");
  EXPECT_GT(bench["prefill_tokens_per_s"], 0);
  EXPECT_GT(bench["decode_tokens_per_s"], 0);
  EXPECT_LE(bench["prefill_min_ms"], bench["prefill_median_ms"]);
  const json half = run_json("bench model --batch 3 --seq 12 --decode-tokens 8 --repetitions 2 --kv-dtype fp16");
  EXPECT_LT(half["kv_bytes"], bench["kv_bytes"]);
  EXPECT_EQ(bench["kv_dtype"], "fp32");
  const json int8 = run_json(
      "bench model --batch 3 --seq 12 --decode-tokens 8 --repetitions 2 --recipe w8a8_dynamic --set attention=8");
  EXPECT_EQ(int8["kv_dtype"], "int8");
  EXPECT_LT(int8["kv_bytes"], half["kv_bytes"]);
  EXPECT_EQ(run("bench model --seq 12 --decode-tokens 8 --repetitions 2"), 0) << err_;
  EXPECT_THAT(out_, AllOf(HasSubstr("prefill"), HasSubstr("decode"), HasSubstr("tokens/s"), HasSubstr("GB/s")));
}

TEST_F(CliDecoder, BenchTimesEveryCombinationOfItsLists) {
  const std::string settings = " --repetitions 1 --warm-up 0";
  const json runs = run_json("bench model --batch 1,3 --prompt 4,12 --generate 8" + settings);
  ASSERT_EQ(runs.size(), 4);
  for (size_t i = 0; i < 4; ++i) {
    const json& one = runs[i];
    const int64_t batch = i < 2 ? 1 : 3, seq = i % 2 == 0 ? 4 : 12;
    EXPECT_EQ(one["batch"], batch);
    EXPECT_EQ(one["seq"], seq);
    EXPECT_NEAR(one["decode_tokens_per_s"], one["decode_tokens_per_s_a_sequence"].get<double>() * batch, 1e-6);
    // Keys and values in fp32: what one token takes, for the tokens that a step sees in the mean.
    EXPECT_EQ(one["step_kv_bytes"].get<double>() / (batch * (seq + 4.5)), runs[0]["step_kv_bytes"].get<double>() / 8.5);
    EXPECT_EQ(one["step_weight_bytes"], one["packed_bytes"]);
    EXPECT_GT(one["decode_share_of_peak"], 0);
    EXPECT_GT(one["anonymous_bytes"], one["kv_bytes"]);
    EXPECT_GT(one["process_to_first_token_ms"], 0);
  }
  EXPECT_EQ(run("bench model --batch 1,3 --prompt 4 --generate 8" + settings), 0) << err_;
  EXPECT_THAT(out_, AllOf(HasSubstr("of peak"), HasSubstr("after the process began")));
  for (const char* bad : {"--batch 1,0", "--batch 1,x", "--prompt ,", "--batch 1,2 --profile"})
    EXPECT_EQ(run("bench model " + std::string(bad) + settings), 2) << bad;
  EXPECT_EQ(run("bench " + kGolden + "/bert_base --generate 8" + settings), 2);
  EXPECT_EQ(run_json("bench " + kGolden + "/bert_base --batch 1,2 --seq 5,7" + settings).size(), 4);
}

// Of the flow's only kind of block.
std::map<std::string, json> block_operations(const json& flow) {
  std::map<std::string, json> operations;
  EXPECT_EQ(flow["flow"].size(), 3) << "embedding, one kind of block, head";
  for (const json& operation : flow["flow"][1]["operations"]) operations[operation["name"]] = operation;
  return operations;
}

const std::string kQkv = "model.layers.*.self_attn.{q_proj,k_proj,v_proj}", kOut = "model.layers.*.self_attn.o_proj",
                  kAttention = "model.layers.*.self_attn.attention", kGateUp = "model.layers.*.mlp.{gate_proj,up_proj}",
                  kDown = "model.layers.*.mlp.down_proj";

TEST_F(CliDecoder, FlowIsFp32WhereNothingIsQuantized) {
  const json flow = run_json("inspect model --flow");
  EXPECT_EQ(flow["flow"][1]["blocks"], json({0, 1}));
  std::map<std::string, json> block = block_operations(flow);
  ASSERT_THAT(block, testing::SizeIs(7)) << "four products, rope, attention, gate";
  EXPECT_EQ(block[kQkv]["inputs"][0]["from"], json({"hidden states"}));
  EXPECT_EQ(block[kQkv]["inputs"][0]["steps"], json({"rms_norm"}));
  EXPECT_EQ(block[kQkv]["weights"], "fp32");
  EXPECT_EQ(block["rope"]["inputs"][0]["from"], json({kQkv}));
  EXPECT_EQ(block[kAttention]["inputs"][0]["from"], json({"rope"}));
  EXPECT_EQ(block[kAttention]["inputs"][1]["from"], json({"rope"}));
  EXPECT_EQ(block[kAttention]["inputs"][2]["from"], json({kQkv}));
  EXPECT_EQ(block[kAttention]["cache"], "fp32");
  EXPECT_EQ(block[kOut]["inputs"][0]["from"], json({kAttention}));
  EXPECT_EQ(block[kOut]["inputs"][1]["role"], "residual");
  EXPECT_EQ(block[kOut]["inputs"][1]["from"], json({"hidden states"}));
  EXPECT_EQ(block[kGateUp]["inputs"][0]["from"], json({kOut}));
  EXPECT_EQ(block["gated"]["inputs"][0]["from"], json({kGateUp}));
  EXPECT_EQ(block[kDown]["inputs"][0]["from"], json({"gated"}));
  EXPECT_EQ(block[kDown]["inputs"][1]["from"], json({kOut}));
  for (const auto& [name, operation] : block) {
    EXPECT_EQ(operation["output"], "fp32") << name;
    for (const json& input : operation["inputs"]) EXPECT_EQ(input["dtype"], "fp32") << name;
  }
  EXPECT_EQ(run("inspect model --flow --kv-dtype fp16"), 0);
  EXPECT_THAT(out_,
              AllOf(HasSubstr("blocks {0..1}, 2 alike"), HasSubstr("cache: fp16"), HasSubstr("self_attn.o_proj")));
  EXPECT_EQ(run("inspect model --kv-dtype fp16"), 2);
}

TEST_F(CliDecoder, FlowShowsWhereActivationsAreQuantized) {
  std::map<std::string, json> dynamic = block_operations(run_json("inspect model --flow --recipe w8a8_dynamic"));
  EXPECT_EQ(dynamic[kQkv]["inputs"][0]["steps"], json({"rms_norm", "int8, a scale a token"}));
  EXPECT_EQ(dynamic[kDown]["inputs"][0]["steps"], json({"int8, a scale a token"}));
  EXPECT_EQ(dynamic[kDown]["inputs"][0]["dtype"], "fp32");
  EXPECT_THAT(dynamic[kDown]["weights"].get<std::string>(), HasSubstr("int8 weights per channel"));
  EXPECT_EQ(dynamic[kAttention]["inputs"][0]["steps"], json::array());

  std::map<std::string, json> attention =
      block_operations(run_json("inspect model --flow --recipe w8a8_dynamic --set attention=8"));
  EXPECT_EQ(attention[kAttention]["inputs"][2]["steps"], json({"int8, a scale a token and head"}));
  EXPECT_EQ(attention[kAttention]["cache"], "int8, a scale a token and head");

  // The operation before makes the codes that a product with a static scale reads.
  std::string scales;
  for (int layer = 0; layer < 2; ++layer) {
    for (const char* name :
         {"self_attn.{q_proj,k_proj,v_proj}", "self_attn.o_proj", "mlp.{gate_proj,up_proj}", "mlp.down_proj"}) {
      scales += (scales.empty() ? "" : ", ") + ("\"model.layers." + std::to_string(layer)) + "." + name +
                "\": " + std::to_string(0.01 + 0.01 * layer);
    }
  }
  write("static.json",
        "{\"weights\": {\"bits\": 8, \"granularity\": \"per_channel\"}, \"activations\": {\"bits\": 8, \"mode\": "
        "\"static\", "
        "\"granularity\": \"per_tensor\"}, \"activation_scales\": {" +
            scales + "}}");
  std::map<std::string, json> fixed = block_operations(run_json("inspect model --flow --recipe static.json"));
  EXPECT_EQ(fixed[kQkv]["inputs"][0]["steps"], json({"rms_norm", "int8, static scale"}));
  EXPECT_EQ(fixed[kAttention]["output"], "int8, static scale");
  EXPECT_EQ(fixed[kOut]["inputs"][0]["dtype"], "int8, static scale");
  EXPECT_EQ(fixed[kOut]["inputs"][0]["steps"], json::array());
  EXPECT_EQ(fixed["gated"]["output"], "int8, static scale");
  EXPECT_EQ(fixed[kDown]["output"], "fp32");
}

TEST_F(CliDecoder, FlowTellsBlocksApartThatARecipeTreatsDifferently) {
  write("mixed.json",
        "{\"weights\": {\"bits\": 8, \"granularity\": \"per_channel\"}, \"exclude\": [\"*.0.mlp.*\", "
        "\"*.1.self_attn.k_proj\"]}");
  const json flow = run_json("inspect model --flow --recipe mixed.json");
  ASSERT_EQ(flow["flow"].size(), 4);
  EXPECT_EQ(flow["flow"][1]["blocks"], json::array({0}));
  EXPECT_EQ(flow["flow"][2]["blocks"], json({1}));
  // Query, key and value are three products then, and their input is normalized once.
  std::map<std::string, json> second;
  for (const json& operation : flow["flow"][2]["operations"]) second[operation["name"]] = operation;
  EXPECT_EQ(second.at("model.layers.*.self_attn.k_proj")["weights"], "fp32");
  EXPECT_EQ(second.at("model.layers.*.self_attn.k_proj")["inputs"][0]["from"], json({"rms_norm"}));
  EXPECT_EQ(second.at(kAttention)["inputs"][2]["from"], json({"model.layers.*.self_attn.v_proj"}));
  EXPECT_EQ(second.at("rope")["inputs"][0]["from"],
            json({"model.layers.*.self_attn.q_proj", "model.layers.*.self_attn.k_proj"}));
}

TEST_F(Cli, FlowOfAnEncoderHasNoCache) {
  const json flow = run_json("inspect " + kGolden + "/bert_base --flow");
  for (const json& section : flow["flow"]) {
    for (const json& operation : section["operations"]) EXPECT_FALSE(operation.contains("cache"));
  }
}

TEST_F(CliDecoder, AccumulatorsSaysHowWideTheSumsOfEachLayerAre) {
  const json result = run_json("accumulators model --recipe w8a8_dynamic --data text.txt --tokens 20");
  EXPECT_EQ(result["tokens"], 20);
  ASSERT_EQ(result["layers"].size(), 14);
  const json& layer = result["layers"][6];
  EXPECT_EQ(layer["layer"], "model.layers.0.mlp.down_proj");
  EXPECT_EQ(layer["sum_length"], layer["inputs"]);
  EXPECT_GT(layer["sums"], 0);
  EXPECT_LE(layer["widest_seen"], layer["guaranteed_width"]);
  EXPECT_LE(layer["guaranteed_width"], layer["data_type_width"]);
  for (const char* width : {"16", "20", "24", "32"}) {
    EXPECT_LE(layer["wrapped_share"][width], layer["saturated_share"][width]) << width;
  }
  EXPECT_EQ(layer["saturated_share"]["32"], 0);

  ASSERT_EQ(run("accumulators model --recipe w4a8_g32_dynamic --data text.txt --saturating"), 0) << err_;
  EXPECT_THAT(out_, AllOf(HasSubstr("guaranteed"), HasSubstr("model.layers.1.self_attn.o_proj"), HasSubstr("over 16"),
                          HasSubstr("does not fit N bits")));
}

TEST_F(CliDecoder, AccumulatorsNeedIntegerProductsAndText) {
  EXPECT_EQ(run("accumulators model --data text.txt"), 2);
  EXPECT_THAT(err_, HasSubstr("--recipe w8a8_dynamic"));
  write("empty.txt", "\n\n");
  EXPECT_EQ(run("accumulators model --recipe w8a8_dynamic --data empty.txt"), 1);
  EXPECT_THAT(err_, HasSubstr("empty.txt: holds no text"));
}

TEST_F(CliDecoder, RotateWritesAModelThatPredictsTheSame) {
  ASSERT_EQ(run("rotate model --out rotated"), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("tensors turned: hidden states"));
  const json result = run_json("compare model rotated --data text.txt --documents lines");
  EXPECT_LT(result["kl_mean"], 1e-9);
  EXPECT_EQ(result["top1_agreement"], 1);
  EXPECT_EQ(run("rotate model --out rotated"), 1);
  EXPECT_THAT(err_, HasSubstr("rotated"));
}

}  // namespace
}  // namespace octet

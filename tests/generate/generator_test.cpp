// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/generator.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/generate/generation_config.h"
#include "octet/tensor/npy.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using Prompts = std::vector<std::vector<int32_t>>;

const std::string kGolden = OCTET_GOLDEN;
constexpr int64_t kContext = 48;  // of the golden decoders

std::vector<int32_t> read_ids(const std::string& file) {
  const Tensor tensor = read_npy(file);
  const auto ids = tensor.as<int32_t>();
  return {ids.begin(), ids.end()};
}

std::vector<int32_t> prompt_of(int length, int first = 3) {
  std::vector<int32_t> ids;
  for (int i = 0; i < length; ++i) ids.push_back((first + i * 17) % 97);
  return ids;
}

std::vector<int32_t> ids_of(Session& session, const std::vector<int32_t>& prompt, const GenerateOptions& options) {
  return generate(session, Prompts{prompt}, options).front().ids;
}

class Decoders : public testing::TestWithParam<const char*> {
 protected:
  Session session_{kGolden + "/" + GetParam()};
};

TEST_P(Decoders, GreedyTextIsThatOfTransformers) {
  const std::vector<int32_t> ids = read_ids(kGolden + "/" + GetParam() + "/greedy.npy");
  const std::vector<int32_t> prompt(ids.begin(), ids.begin() + 8), expected(ids.begin() + 8, ids.end());
  EXPECT_EQ(ids_of(session_, prompt, {.max_tokens = 16}), expected);
}

TEST_P(Decoders, ABatchOfPromptsGivesTheTextsOfEachAlone) {
  Prompts prompts;
  for (const int length : {1, 20, 7, 31, 2, 13, 5}) prompts.push_back(prompt_of(length, length));
  for (const double temperature : {0.0, 1.0}) {
    GenerateOptions options{.sampling = {.temperature = temperature, .top_k = 40, .top_p = 0.95, .seed = 9},
                            .max_tokens = 12};
    std::vector<std::vector<int32_t>> alone;
    for (const std::vector<int32_t>& prompt : prompts) alone.push_back(ids_of(session_, prompt, options));
    // Of many sizes: those at work together, and the pieces that prompts are read in.
    for (const auto& [batch, prefill] : {std::pair{7, 512}, {3, 512}, {2, 5}, {4, 1}, {7, 16}}) {
      options.batch = batch;
      options.prefill_tokens = prefill;
      const std::vector<Generation> together = generate(session_, prompts, options);
      for (size_t i = 0; i < prompts.size(); ++i) {
        EXPECT_EQ(together[i].ids, alone[i]) << "prompt " << i << ", batch " << batch << ", pieces of " << prefill;
        EXPECT_EQ(together[i].prompt_tokens, std::ssize(prompts[i]));
      }
    }
  }
}

// What a cache keeps and what one pass over the whole text computes are the same bits.
TEST_P(Decoders, StepByStepGivesTheBitsOfOnePass) {
  const std::vector<int32_t> ids = prompt_of(kContext);
  TokenBatch whole;
  whole.add(ids);
  const Tensor expected = session_.run(whole);
  const int64_t vocabulary = session_.model().info().vocabulary;
  for (const int64_t prefill : {1, 5, 17, 40}) {
    KvCache cache = session_.make_cache();
    std::vector<Continuation> continuation = {{.sequence = cache.add_sequence(), .ids = ids}};
    std::vector<float> logits;
    for (int64_t row = prefill - 1; row < kContext; ++row) {
      const auto run = static_cast<size_t>(cache.length(continuation[0].sequence));
      continuation[0].ids = std::span(ids).subspan(run, static_cast<size_t>(row) + 1 - run);
      step_in_pieces(session_, cache, continuation, kContext, logits);
      EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.as<float>().begin() + row * vocabulary))
          << "row " << row << " after a first piece of " << prefill;
    }
  }
}

TEST_P(Decoders, AnFp16CacheGivesTheSameBitsInAnyPieces) {
  const GenerateOptions options{.max_tokens = 20, .kv_dtype = DType::kF16};
  GenerateOptions pieces = options;
  pieces.prefill_tokens = 3;
  EXPECT_EQ(ids_of(session_, prompt_of(20), options), ids_of(session_, prompt_of(20), pieces));
}

TEST_P(Decoders, StopsAtStopIdsAtTheLengthAndAtTheContext) {
  const std::vector<int32_t> ids = ids_of(session_, prompt_of(10), {.max_tokens = 10});
  ASSERT_EQ(ids.size(), 10);
  const auto first = std::find(ids.begin(), ids.end(), ids[4]);
  const Generation stopped = generate(session_, Prompts{prompt_of(10)}, {.max_tokens = 10, .stop_ids = {ids[4]}})[0];
  EXPECT_THAT(stopped.ids, testing::ElementsAreArray(ids.begin(), first + 1));
  EXPECT_EQ(to_string(stopped.finish_reason), "stop");
  EXPECT_EQ(to_string(generate(session_, Prompts{prompt_of(10)}, {.max_tokens = 10})[0].finish_reason), "length");
  const Generation full = generate(session_, Prompts{prompt_of(40)}, {.max_tokens = 100})[0];
  EXPECT_EQ(to_string(full.finish_reason), "context");
  EXPECT_EQ(full.ids.size(), kContext - 40 + 1) << "the last token needs no position of its own";
  EXPECT_EQ(generate(session_, Prompts{prompt_of(kContext)}, {})[0].ids.size(), 1);
}

TEST_P(Decoders, TokensAndEndsAreTold) {
  const Prompts prompts = {prompt_of(3), prompt_of(9), prompt_of(4)};
  std::vector<std::vector<int32_t>> told(prompts.size());
  std::vector<size_t> ended;
  const std::vector<Generation> texts = generate(session_, prompts, {.max_tokens = 5, .batch = 2},
                                                 {.on_token =
                                                      [&](size_t i, int32_t id) {
                                                        told[i].push_back(id);
                                                        return OnToken::kContinue;
                                                      },
                                                  .on_finish = [&](size_t i) { ended.push_back(i); }});
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(told[i], texts[i].ids);
  EXPECT_THAT(ended, testing::ElementsAre(0, 1, 2));
}

TEST_P(Decoders, ATokenToldMayEndItsText) {
  const Prompts prompts = {prompt_of(3), prompt_of(9)};
  const std::vector<Generation> all = generate(session_, prompts, {.max_tokens = 6});
  size_t seen = 0;
  const std::vector<Generation> ended = generate(
      session_, prompts, {.max_tokens = 6},
      {.on_token = [&](size_t i, int32_t) { return i == 0 && ++seen == 3 ? OnToken::kStop : OnToken::kContinue; }});
  EXPECT_THAT(ended[0].ids, testing::ElementsAreArray(all[0].ids.begin(), all[0].ids.begin() + 3));
  EXPECT_EQ(to_string(ended[0].finish_reason), "stop");
  EXPECT_EQ(ended[1].ids, all[1].ids) << "the other goes on";
}

TEST_P(Decoders, NoStopTokenComesBeforeTheLeastLength) {
  const std::vector<int32_t> ids = ids_of(session_, prompt_of(10), {.max_tokens = 10});
  GenerateOptions options{.max_tokens = 10, .stop_ids = {ids[0]}};
  options.sampling.min_tokens = 4;
  const std::vector<int32_t> longer = ids_of(session_, prompt_of(10), options);
  ASSERT_GE(longer.size(), 4);
  for (size_t i = 0; i < 4; ++i) EXPECT_NE(longer[i], ids[0]) << i;
}

TEST_P(Decoders, WhatCannotBeContinuedIsRefused) {
  try {
    generate(session_, Prompts{prompt_of(3), prompt_of(49)}, {});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("prompt 2 has 49 tokens"), testing::HasSubstr("48")));
  }
  EXPECT_THROW(generate(session_, Prompts{{}}, {}), Error);
  EXPECT_THROW(generate(session_, Prompts{{1, 97}}, {}), Error) << "an id beyond the vocabulary";
  EXPECT_THROW(generate(session_, Prompts{{1}}, {.max_tokens = 0}), UsageError);
  EXPECT_TRUE(generate(session_, {}, {}).empty());
}

INSTANTIATE_TEST_SUITE_P(Golden, Decoders, testing::Values("llama_base", "gpt2"),
                         [](const auto& model) { return std::string(model.param); });

TEST(Generate, RefusesModelsThatPredictNoToken) {
  for (const char* name : {"bert_base", "llama_model"}) {
    Session session(kGolden + "/" + name);
    EXPECT_THROW(generate(session, Prompts{{1, 2}}, {}), UsageError) << name;
  }
}

class GenerationConfig : public testing::Test {
 protected:
  GenerationConfig() {
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    fs::copy(kGolden + "/llama_base/model.safetensors", folder_);
    write("config.json", R"({"architectures": ["LlamaForCausalLM"], "eos_token_id": 2})");
  }
  ~GenerationConfig() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  SamplingConfig sampling(const std::string& json) {
    write("generation_config.json", json);
    return read_sampling(Checkpoint::open(folder_));
  }
  std::vector<int32_t> read() { return read_eos_ids(Checkpoint::open(folder_), 7); }

  fs::path folder_ = fs::path(testing::TempDir()) / (std::string("generation_config_") +
                                                     testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(GenerationConfig, EosIdsComeFromTheGenerationConfigThenTheConfigThenTheTokenizer) {
  EXPECT_THAT(read(), testing::ElementsAre(2));
  write("generation_config.json", R"({"eos_token_id": [3, 4]})");
  EXPECT_THAT(read(), testing::ElementsAre(3, 4));
  write("generation_config.json", R"({"eos_token_id": null})");
  write("config.json", R"({"architectures": ["LlamaForCausalLM"]})");
  EXPECT_THAT(read(), testing::ElementsAre(7));
}

TEST_F(GenerationConfig, EosIdsThatAreNoneAreAnError) {
  for (const char* value : {"-1", "\"2\"", "2.5", "[2, null]", "[[2]]", "4294967296", "18446744073709551615", "true"}) {
    write("generation_config.json", std::string(R"({"eos_token_id": )") + value + "}");
    EXPECT_THROW(read(), FormatError) << value;
  }
}

TEST_F(GenerationConfig, SamplingIsReadAsTransformersReadsIt) {
  const SamplingOptions all = sampling(R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.9,
      "min_p": 0.05, "typical_p": 0.95, "repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "min_new_tokens": 2,
      "num_beams": 1, "max_length": 4096})")
                                  .sampling;
  EXPECT_EQ(all.temperature, 0.6);
  EXPECT_EQ(all.top_k, 20);
  EXPECT_EQ(all.top_p, 0.9);
  EXPECT_EQ(all.min_p, 0.05);
  EXPECT_EQ(all.typical_p, 0.95);
  EXPECT_EQ(all.repetition_penalty, 1.1);
  EXPECT_EQ(all.no_repeat_ngram_size, 3);
  EXPECT_EQ(all.min_tokens, 2);
  const SamplingOptions sampled = sampling(R"({"do_sample": true, "top_p": null})").sampling;
  EXPECT_EQ(sampled.temperature, 1);
  EXPECT_EQ(sampled.top_k, 50);
  EXPECT_EQ(sampled.top_p, 1);
  const SamplingOptions greedy = sampling(R"({"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1})").sampling;
  EXPECT_EQ(greedy.temperature, 0);
  EXPECT_EQ(greedy.top_k, 0);
  EXPECT_EQ(greedy.repetition_penalty, 1.1);
}

TEST_F(GenerationConfig, SettingsThatOctetDoesNotHaveAreNamed) {
  EXPECT_THAT(sampling(R"({"num_beams": 4, "eta_cutoff": 0.0, "bad_words_ids": [[3]], "suppress_tokens": []})").ignored,
              testing::ElementsAre("num_beams 4", "bad_words_ids [[3]]"));
}

TEST_F(GenerationConfig, SamplingOutOfRangeIsAnErrorThatNamesTheFile) {
  EXPECT_THROW(read_sampling(Checkpoint::open(folder_)), FormatError) << "no file";
  for (const char* json : {R"({"do_sample": true, "temperature": -1})", R"({"do_sample": true, "top_p": 2})",
                           R"({"repetition_penalty": 0})", R"({"repetition_penalty": "1.1"})", R"({"do_sample": 1})",
                           R"({"no_repeat_ngram_size": 2.5})", R"({"do_sample": true, "top_k": -3})"}) {
    try {
      sampling(json);
      ADD_FAILURE() << json << " was taken";
    } catch (const FormatError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("generation_config.json"));
    }
  }
}

}  // namespace
}  // namespace octet

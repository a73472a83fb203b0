// SPDX-License-Identifier: Apache-2.0
#include "octet/generate/generator.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/generate/generation_config.h"
#include "octet/io/npy.h"

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

class EosIds : public testing::Test {
 protected:
  EosIds() {
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    fs::copy(kGolden + "/llama_base/model.safetensors", folder_);
    write("config.json", R"({"architectures": ["LlamaForCausalLM"], "eos_token_id": 2})");
  }
  ~EosIds() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  std::vector<int32_t> read() { return read_eos_ids(Checkpoint::open(folder_), 7); }

  fs::path folder_ = fs::path(testing::TempDir()) /
                     (std::string("eos_ids_") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(EosIds, ComeFromTheGenerationConfigThenTheConfigThenTheTokenizer) {
  EXPECT_THAT(read(), testing::ElementsAre(2));
  write("generation_config.json", R"({"eos_token_id": [3, 4]})");
  EXPECT_THAT(read(), testing::ElementsAre(3, 4));
  write("generation_config.json", R"({"eos_token_id": null})");
  write("config.json", R"({"architectures": ["LlamaForCausalLM"]})");
  EXPECT_THAT(read(), testing::ElementsAre(7));
}

TEST_F(EosIds, ThatAreNoneAreAnError) {
  for (const char* value : {"-1", "\"2\"", "2.5", "[2, null]", "[[2]]", "4294967296", "18446744073709551615", "true"}) {
    write("generation_config.json", std::string(R"({"eos_token_id": )") + value + "}");
    EXPECT_THROW(read(), FormatError) << value;
  }
}

}  // namespace
}  // namespace octet

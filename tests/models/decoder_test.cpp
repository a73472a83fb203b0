// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/eval/benchmark.h"
#include "octet/ptq/quantize_model.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

struct DecoderCase {
  const char* folder;
  const char* name;
};

void PrintTo(const DecoderCase& c, std::ostream* out) { *out << c.folder << ", " << c.name; }

class DecoderGolden : public testing::TestWithParam<DecoderCase> {};

// fp32 arithmetic against goldens computed in float64.
TEST_P(DecoderGolden, AgreesWithTransformers) {
  const DecoderCase& c = GetParam();
  const TokenBatch batch = golden_batch(golden(c.folder), c.name);
  Session session(golden(c.folder));
  const char* output = session.model().info().output == OutputKind::kTokenLogits ? "logits" : "last_hidden_state";
  const Tensor want = read_npy(golden(c.folder) / (std::string(c.name) + "." + output + ".npy"));
  const double share = error_share(session.run(batch), want, batch, /*per_token=*/true);
  RecordProperty("share", fmt::format("{:.1e}", share));
  EXPECT_LT(share, 2e-6);
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, DecoderGolden,
    testing::Values(DecoderCase{"llama_base", "right"}, DecoderCase{"llama_base", "full"},
                    DecoderCase{"llama_tied", "right"}, DecoderCase{"llama_bias", "right"},
                    DecoderCase{"llama_bias", "full"}, DecoderCase{"llama_model", "right"},
                    DecoderCase{"llama_model", "full"}, DecoderCase{"llama_sharded", "right"},
                    DecoderCase{"llama_rope_llama3", "full"}, DecoderCase{"llama_rope_linear", "full"},
                    DecoderCase{"llama_rope_yarn", "full"}, DecoderCase{"llama_rope_yarn_options", "full"},
                    DecoderCase{"llama_rope_dynamic", "full"}, DecoderCase{"qwen2", "right"},
                    DecoderCase{"mistral_window", "right"}, DecoderCase{"mistral_window", "full"},
                    DecoderCase{"gpt2", "right"}, DecoderCase{"gpt2", "full"}, DecoderCase{"gpt2_model", "right"},
                    DecoderCase{"gpt2_old_names", "right"}, DecoderCase{"opt", "right"}, DecoderCase{"opt", "full"},
                    DecoderCase{"opt_projected", "right"}, DecoderCase{"opt_projected", "full"},
                    DecoderCase{"opt_projected", "left"}, DecoderCase{"opt_no_biases", "right"},
                    DecoderCase{"opt_model", "right"}, DecoderCase{"gptj", "right"}, DecoderCase{"gptj", "full"},
                    DecoderCase{"gptj_model", "full"}, DecoderCase{"gpt_neox", "right"},
                    DecoderCase{"gpt_neox", "full"}, DecoderCase{"gpt_neox_sequential", "full"},
                    DecoderCase{"gpt_neox_model", "right"}, DecoderCase{"phi", "right"}, DecoderCase{"phi", "full"},
                    DecoderCase{"phi_model", "full"}));

std::vector<float> last_row(const Tensor& rows) {
  const auto all = rows.as<float>();
  return {all.end() - rows.shape()[1], all.end()};
}

const std::vector<std::string> kQuantizedEmbeddings = {"embeddings=8"};
const std::vector<std::string> kSmallEmbeddings = {"embeddings=4"};
const std::vector<std::string> kInt8Attention = {"attention=8"};

std::vector<std::optional<Recipe>> recipes(const std::filesystem::path& model) {
  std::vector<std::optional<Recipe>> all = {std::nullopt};
  for (const std::string& name : Recipe::built_in_names()) all.emplace_back(Recipe::load(name, {}));
  all.emplace_back(Recipe::load("w8a8_dynamic", kQuantizedEmbeddings));
  all.emplace_back(Recipe::load("w4a16_g32", kSmallEmbeddings));
  all.emplace_back(Recipe::load("w8a8_dynamic", kInt8Attention));
  all.emplace_back(Recipe::load("w4a16_g32", kInt8Attention));
  all.emplace_back(static_attention(model));
  return all;
}

// The longest batch of one sequence that these small models take.
TokenBatch one_sequence(const Session& session) {
  const ModelInfo& info = session.model().info();
  return random_batch(info, 1, std::min<int64_t>(info.max_positions, 40));
}

TEST(Decoder, StepByStepGivesTheBitsOfOnePass) {
  for (const char* folder : {"llama_tied", "mistral_window", "gpt2", "qwen2", "opt", "opt_projected", "gptj",
                             "gpt_neox", "gpt_neox_sequential", "phi"}) {
    for (const std::optional<Recipe>& recipe : recipes(golden(folder))) {
      Session session(golden(folder), {.recipe = recipe, .cpu = {}});
      const TokenBatch whole = one_sequence(session);
      for (const int64_t piece : {1, 7, 64}) {
        KvCache cache = session.make_cache();
        const std::vector<int> sequence = {cache.add_sequence()};
        for (int64_t done = 0; done < whole.tokens();) {
          const int64_t count = std::min(piece, whole.tokens() - done);
          TokenBatch step, so_far;
          step.add(std::span(whole.ids).subspan(done, count), {}, done);
          done += count;
          so_far.add(std::span(whole.ids).first(done));
          std::vector<float> logits(session.model().info().vocabulary);
          session.step(cache, sequence, step, logits);
          EXPECT_EQ(logits, last_row(session.run(so_far)))
              << folder << " " << (recipe ? recipe->name() : "fp32") << ", " << done << " in pieces of " << piece;
        }
        EXPECT_EQ(cache.length(sequence.front()), whole.tokens());
      }
    }
  }
}

// The continuation that transformers finds, token by token on a cache.
TEST(Decoder, TheLargestLogitsContinueAPromptAsTransformersDoes) {
  for (const char* folder : {"llama_base", "gpt2", "opt", "gptj", "gpt_neox", "phi"}) {
    Session session(golden(folder));
    const Tensor greedy = read_npy(golden(folder) / "greedy.npy");
    const std::span<const int32_t> want = greedy.as<int32_t>();
    constexpr int64_t kPrompt = 8;
    KvCache cache = session.make_cache();
    const std::vector<int> sequence = {cache.add_sequence()};
    std::vector<float> logits(session.model().info().vocabulary);
    TokenBatch step;
    step.add(want.first(kPrompt));
    std::vector<int32_t> got(want.begin(), want.begin() + kPrompt);
    while (got.size() < want.size()) {
      session.step(cache, sequence, step, logits);
      got.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
      step = {};
      step.add(std::span(got).last(1), {}, std::ssize(got) - 1);
    }
    EXPECT_TRUE(std::ranges::equal(got, want)) << folder << ": " << testing::PrintToString(got);
  }
}

TEST(Decoder, WithAnFp16CacheOnePassAndStepsGiveTheSameBits) {
  for (const char* folder : {"llama_base", "opt", "gptj", "gpt_neox"}) {
    Session session(golden(folder));
    const TokenBatch whole = one_sequence(session);
    std::vector<std::vector<float>> results;
    for (const int64_t piece : {1, 64}) {
      KvCache cache = session.make_cache(DType::kF16);
      const std::vector<int> sequence = {cache.add_sequence()};
      std::vector<float> logits(session.model().info().vocabulary);
      for (int64_t done = 0; done < whole.tokens(); done += piece) {
        TokenBatch step;
        step.add(std::span(whole.ids).subspan(done, std::min(piece, whole.tokens() - done)), {}, done);
        session.step(cache, sequence, step, logits);
      }
      results.push_back(logits);
    }
    EXPECT_EQ(results[0], results[1]) << folder;
    EXPECT_NE(results[0], last_row(session.run(whole))) << folder;  // it does round
  }
}

TEST(Decoder, SequencesOfACacheDoNotTouchEachOther) {
  Session session(golden("llama_base"), {.recipe = Recipe::load("w8a8_dynamic", {}), .cpu = {}});
  const TokenBatch a = random_batch(session.model().info(), 1, 30), b = random_batch(session.model().info(), 1, 11);
  const auto vocabulary = static_cast<size_t>(session.model().info().vocabulary);
  KvCache cache = session.make_cache();
  const std::vector<int> both = {cache.add_sequence(), cache.add_sequence()};
  TokenBatch first, second;
  first.add(std::span(a.ids).first(29));
  first.add(std::span(b.ids).first(5));
  second.add(std::span(a.ids).subspan(29), {}, 29);
  second.add(std::span(b.ids).subspan(5), {}, 5);
  std::vector<float> logits(2 * vocabulary);
  session.step(cache, both, first, logits);
  session.step(cache, both, second, logits);
  EXPECT_EQ(std::vector(logits.begin(), logits.begin() + vocabulary), last_row(session.run(a)));
  EXPECT_EQ(std::vector(logits.begin() + vocabulary, logits.end()), last_row(session.run(b)));
}

TEST(Decoder, ACacheIsInInt8WhereAttentionIs) {
  for (const char* folder : {"llama_base", "gpt2", "opt_projected", "gptj", "gpt_neox", "phi"}) {
    Session floats(golden(folder)),
        int8(golden(folder), {.recipe = Recipe::parse(R"({"attention": 8})", "m"), .cpu = {}});
    EXPECT_EQ(floats.make_cache().dtype(), DType::kF32);
    EXPECT_EQ(int8.make_cache().dtype(), DType::kI8);
    EXPECT_EQ(int8.make_cache(DType::kI8).dtype(), DType::kI8);
    EXPECT_THROW(int8.make_cache(DType::kF16), UsageError);
    EXPECT_THROW(floats.make_cache(DType::kI8), UsageError);
    // It does round, and not by much.
    const TokenBatch whole = one_sequence(floats);
    const Tensor exact = floats.run(whole), coded = int8.run(whole);
    const double share = error_share(coded, exact, whole, /*per_token=*/true);
    EXPECT_GT(share, 1e-6) << folder;
    EXPECT_LT(share, 0.05) << folder;
    const QuantSites& sites = int8.model().sites();
    EXPECT_TRUE(std::any_of(sites.all().begin(), sites.all().end(), [](const QuantSite& site) {
      return site.name.ends_with(".attention") && site.mode == ActivationMode::kDynamicPerToken;
    }));
  }
}

TEST(Decoder, ARecipeOfAttentionAloneCannotBeWritten) {
  const std::filesystem::path out = std::filesystem::path(testing::TempDir()) / "attention_alone";
  std::filesystem::remove_all(out);
  EXPECT_THROW(quantize_model(Checkpoint::open(golden("gpt2")), Recipe::parse(R"({"attention": 8})", "m"), out), Error);
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(Decoder, ATruncatedSequenceGoesOnFromWhereItWasCut) {
  Session session(golden("gpt2"));
  const TokenBatch whole = one_sequence(session);
  KvCache cache = session.make_cache();
  const std::vector<int> sequence = {cache.add_sequence()};
  std::vector<float> logits(session.model().info().vocabulary), again = logits;
  session.step(cache, sequence, whole, logits);
  cache.truncate(sequence.front(), 3);
  TokenBatch rest;
  rest.add(std::span(whole.ids).subspan(3), {}, 3);
  session.step(cache, sequence, rest, again);
  EXPECT_EQ(logits, again);
}

TEST(Decoder, PartsOfTheOutputAreThoseOfTheWhole) {
  Session session(golden("llama_base"));
  const TokenBatch batch = golden_batch(golden("llama_base"), "right");
  const Tensor whole = session.run(batch);
  std::vector<float> parts;
  session.run_in_parts(batch, 5, [&](int64_t first, std::span<const float> rows) {
    EXPECT_EQ(first * whole.shape()[1], static_cast<int64_t>(parts.size()));
    parts.insert(parts.end(), rows.begin(), rows.end());
  });
  EXPECT_TRUE(std::equal(parts.begin(), parts.end(), whole.as<float>().begin(), whole.as<float>().end()));
}

TEST(Decoder, AWrittenModelGivesTheBitsOfOneQuantizedWhileLoading) {
  for (const char* folder : {"llama_tied", "llama_base", "gpt2", "bert_masked_lm", "bert_base", "opt_projected",
                             "opt_no_biases", "gptj", "gpt_neox", "gpt_neox_sequential", "phi", "roberta_masked_lm",
                             "distilbert_masked_lm", "electra_masked_lm", "electra_pretraining"}) {
    for (const std::optional<Recipe>& recipe : recipes(golden(folder))) {
      if (!recipe) continue;
      const std::filesystem::path out = std::filesystem::path(testing::TempDir()) / "decoder_written";
      std::filesystem::remove_all(out);
      const QuantizeReport report = quantize_model(Checkpoint::open(golden(folder)), *recipe, out);
      Session loaded(golden(folder), {.recipe = recipe, .cpu = {}}), written(out);
      const TokenBatch batch = one_sequence(loaded);
      const Tensor a = loaded.run(batch), b = written.run(batch);
      EXPECT_TRUE(std::equal(a.as<float>().begin(), a.as<float>().end(), b.as<float>().begin()))
          << folder << " " << recipe->name();
      EXPECT_EQ(report.bytes_after, written.checkpoint().bytes()) << folder << " " << recipe->name();
      EXPECT_EQ(stored_bytes(loaded.checkpoint(), loaded.model()), report.bytes_after) << folder << recipe->name();
      std::filesystem::remove_all(out);
    }
  }
}

TEST(Decoder, QuantizedTiedEmbeddingsAreOneStoredTensorAndOnePackedWeight) {
  Session session(golden("llama_tied"), {.recipe = Recipe::load("w8a8_dynamic", kQuantizedEmbeddings), .cpu = {}});
  const std::vector<const Linear::Part*> parts = session.model().linear_parts();
  const auto over_vocabulary = [](const Linear::Part* part) { return part->weight.over_vocabulary; };
  ASSERT_EQ(std::count_if(parts.begin(), parts.end(), over_vocabulary), 1);
  EXPECT_EQ(parts.front()->weight.layer, "model.embed_tokens");
}

TEST(Decoder, ContextsPastTheLongestAndEmptySequencesAreErrors) {
  Session session(golden("llama_base"));
  const ModelInfo& info = session.model().info();
  KvCache cache = session.make_cache();
  const std::vector<int> sequence = {cache.add_sequence()};
  std::vector<float> logits(info.vocabulary);
  const TokenBatch longest = random_batch(info, 1, info.max_positions);
  session.step(cache, sequence, longest, logits);
  TokenBatch more, none;
  more.add(std::span(longest.ids).first(1), {}, info.max_positions);
  EXPECT_THROW(session.step(cache, sequence, more, logits), Error);
  EXPECT_EQ(cache.length(sequence.front()), info.max_positions);
  none.add({});
  EXPECT_THROW(session.step(cache, sequence, none, logits), Error);
  EXPECT_THROW(Session(golden("bert_base")).make_cache(), UsageError);
}

}  // namespace
}  // namespace octet

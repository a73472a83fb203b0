// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/models/golden.h"

namespace octet {
namespace {

struct EncoderCase {
  const char* folder;
  const char* name;
  const char* output;
};

void PrintTo(const EncoderCase& c, std::ostream* out) { *out << c.folder << ", " << c.name; }

class EncoderGolden : public testing::TestWithParam<EncoderCase> {};

// fp32 arithmetic against goldens computed in float64.
TEST_P(EncoderGolden, AgreesWithTransformers) {
  const EncoderCase& c = GetParam();
  const TokenBatch batch = golden_batch(golden(c.folder), c.name);
  Session session(golden(c.folder));
  const Tensor want = read_npy(golden(c.folder) / (std::string(c.name) + "." + c.output + ".npy"));
  const bool per_token = session.model().info().output != OutputKind::kSequenceLogits;
  const double share = error_share(session.run(batch), want, batch, per_token);
  RecordProperty("share", fmt::format("{:.1e}", share));
  EXPECT_LT(share, 2e-6);
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, EncoderGolden,
    testing::Values(
        EncoderCase{"bert_base", "right", "last_hidden_state"}, EncoderCase{"bert_base", "hole", "last_hidden_state"},
        EncoderCase{"bert_base", "left", "last_hidden_state"}, EncoderCase{"bert_base", "full", "last_hidden_state"},
        EncoderCase{"bert_gelu_new", "right", "last_hidden_state"},
        EncoderCase{"bert_relu_odd_sizes", "right", "last_hidden_state"},
        EncoderCase{"bert_relu_odd_sizes", "hole", "last_hidden_state"},
        EncoderCase{"bert_bf16", "right", "last_hidden_state"},
        EncoderCase{"bert_fp16_old_names", "right", "last_hidden_state"},
        EncoderCase{"bert_sharded", "right", "last_hidden_state"},
        EncoderCase{"bert_sequence_classification", "right", "logits"},
        EncoderCase{"bert_question_answering", "right", "start_end_logits"},
        EncoderCase{"bert_question_answering", "left", "start_end_logits"},
        EncoderCase{"bert_masked_lm", "right", "logits"}, EncoderCase{"bert_masked_lm", "left", "logits"},
        EncoderCase{"roberta", "right", "last_hidden_state"}, EncoderCase{"roberta", "hole", "last_hidden_state"},
        EncoderCase{"roberta", "left", "last_hidden_state"}, EncoderCase{"roberta", "full", "last_hidden_state"},
        EncoderCase{"xlm_roberta_sequence_classification", "right", "logits"},
        EncoderCase{"xlm_roberta_sequence_classification", "hole", "logits"},
        EncoderCase{"roberta_question_answering", "right", "start_end_logits"},
        EncoderCase{"roberta_question_answering", "left", "start_end_logits"},
        EncoderCase{"roberta_masked_lm", "right", "logits"}, EncoderCase{"roberta_masked_lm", "left", "logits"},
        EncoderCase{"distilbert", "right", "last_hidden_state"}, EncoderCase{"distilbert", "hole", "last_hidden_state"},
        EncoderCase{"distilbert", "left", "last_hidden_state"}, EncoderCase{"distilbert", "full", "last_hidden_state"},
        EncoderCase{"distilbert_sequence_classification", "right", "logits"},
        EncoderCase{"distilbert_sequence_classification", "hole", "logits"},
        EncoderCase{"distilbert_question_answering", "right", "start_end_logits"},
        EncoderCase{"distilbert_question_answering", "left", "start_end_logits"},
        EncoderCase{"distilbert_masked_lm", "right", "logits"}, EncoderCase{"distilbert_masked_lm", "left", "logits"},
        EncoderCase{"electra", "right", "last_hidden_state"}, EncoderCase{"electra", "hole", "last_hidden_state"},
        EncoderCase{"electra", "left", "last_hidden_state"}, EncoderCase{"electra", "full", "last_hidden_state"},
        EncoderCase{"electra_sequence_classification", "right", "logits"},
        EncoderCase{"electra_sequence_classification", "hole", "logits"},
        EncoderCase{"electra_question_answering", "right", "start_end_logits"},
        EncoderCase{"electra_question_answering", "left", "start_end_logits"},
        EncoderCase{"electra_masked_lm", "right", "logits"}, EncoderCase{"electra_masked_lm", "left", "logits"},
        EncoderCase{"electra_pretraining", "right", "logits"}, EncoderCase{"electra_pretraining", "left", "logits"}));

// The layer-wise interface gives what forward gives.
TEST(Encoder, BlocksCalledOneByOneGiveTheForwardPass) {
  const TokenBatch batch = golden_batch(golden("bert_base"), "right");
  Session session(golden("bert_base"));
  const Tensor whole = session.run(batch);
  const Workspace::Scope scope(session.workspace());
  Context context = session.context();
  const DeviceBatch device = upload(context, batch);
  const Activation x = session.model().embed(context, device);
  for (int64_t i = 0; i < session.model().info().blocks; ++i) session.model().run_block(context, i, device, x);
  std::vector<float> steps(whole.shape().elements());
  session.backend().download(session.model().head(context, device, x), steps);
  EXPECT_TRUE(std::equal(steps.begin(), steps.end(), whole.as<float>().begin()));
}

TEST(Encoder, QueryKeyAndValueAreOneGroupWithOneSite) {
  const Session session(golden("bert_base"));
  const std::vector<const Linear*> linears = session.model().linears();
  ASSERT_EQ(linears.size(), 2 * 4 + 1);  // two blocks of four products, and the pooler
  EXPECT_EQ(linears.front()->parts().size(), 3);
  EXPECT_EQ(linears.front()->site().name, "encoder.layer.0.attention.self.{query,key,value}");
}

// Quantized models stay near the float one: a wrong scale or a shifted channel would not.
TEST(Encoder, QuantizedOutputsAreNearTheFloatOnes) {
  for (const char* folder : {"bert_base", "bert_sequence_classification", "bert_question_answering", "bert_masked_lm",
                             "roberta", "xlm_roberta_sequence_classification", "roberta_masked_lm", "distilbert",
                             "distilbert_question_answering", "electra", "electra_masked_lm"}) {
    const TokenBatch batch = golden_batch(golden(folder), "right");
    Session reference(golden(folder));
    const Tensor want = reference.run(batch);
    for (const auto& [recipe, bound] : {std::pair("w8a16", 0.03), std::pair("w8a8_dynamic", 0.06)}) {
      Session quantized(golden(folder), {.recipe = Recipe::load(recipe, {}), .cpu = {}});
      const double share = error_share(quantized.run(batch), want, batch, false);
      EXPECT_LT(share, bound) << folder << " " << recipe;
      EXPECT_GT(share, 0) << folder << " " << recipe << " was not quantized";
    }
  }
}

// A group whose parts have different schemes runs as several products, and each part as it would alone.
TEST(Encoder, APartOfAGroupMayHaveAnotherScheme) {
  const TokenBatch batch = golden_batch(golden("bert_base"), "right");
  const auto run = [&](const char* recipe) {
    return Session(golden("bert_base"), {.recipe = Recipe::parse(recipe, "test"), .cpu = {}}).run(batch);
  };
  const Tensor all = run(R"({"weights": {"bits": 8}})");
  const Tensor no_key = run(R"({"weights": {"bits": 8}, "exclude": ["*.key"]})");
  const Tensor mixed =
      run(R"({"weights": {"bits": 8}, "overrides": [{"match": "*.value", "activations": {"mode": "dynamic"}}]})");
  const Tensor reference = Session(golden("bert_base")).run(batch);
  EXPECT_LT(error_share(no_key, reference, batch, false), 0.05);
  EXPECT_LT(error_share(mixed, reference, batch, false), 0.05);
  EXPECT_FALSE(std::equal(all.as<float>().begin(), all.as<float>().end(), no_key.as<float>().begin()));
  EXPECT_FALSE(std::equal(all.as<float>().begin(), all.as<float>().end(), mixed.as<float>().begin()));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/io/safetensors.h"
#include "tests/json_file.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

// A copy of a golden, bert_base unless the test takes another, whose config and tensors a test spoils.
class LoadErrors : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    take("bert_base");
  }

  void take(const std::string& name) {
    golden_ = golden(name);
    config_ = read_json(golden_ / "config.json");
    tensors_.clear();
    const SafetensorsFile file = SafetensorsFile::open(golden_ / "model.safetensors");
    for (const std::string& tensor : file.names()) tensors_[tensor] = Tensor::copy_of(file.tensor(tensor).view());
  }

  std::string message() {
    std::ofstream(folder_ / "config.json") << json_text(config_);
    SafetensorsWriter writer;
    for (auto& [name, tensor] : tensors_) writer.add(name, Tensor::copy_of(tensor.view()));
    writer.write(folder_ / "model.safetensors");
    try {
      Session session(folder_);
      session.run(golden_batch(golden_, "right"));
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  fs::path folder_, golden_;
  json config_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(LoadErrors, AnUnspoiltCopyLoads) { EXPECT_EQ(message(), "no error"); }

TEST_F(LoadErrors, AnUnknownArchitectureIsNamedWithTheNearest) {
  config_["architectures"] = {"BertModle"};
  EXPECT_THAT(message(),
              testing::AllOf(HasSubstr("'BertModle' is not supported"), HasSubstr("Did you mean 'BertModel'?")));
  config_["architectures"] = json::array();
  EXPECT_THAT(message(), HasSubstr("must name one architecture"));
}

TEST_F(LoadErrors, AMissingTensorIsNamed) {
  tensors_.erase("encoder.layer.1.output.dense.weight");
  EXPECT_THAT(message(), HasSubstr("encoder.layer.1.output.dense.weight"));
}

TEST_F(LoadErrors, AMisshapenTensorIsNamedWithBothShapes) {
  tensors_["encoder.layer.1.output.dense.weight"] = Tensor(DType::kF32, {31, 72});
  EXPECT_THAT(message(), testing::AllOf(HasSubstr("encoder.layer.1.output.dense.weight"), HasSubstr("[31, 72]"),
                                        HasSubstr("[32, 72]")));
}

TEST_F(LoadErrors, AnIntegerWeightIsRefused) {
  tensors_["encoder.layer.1.output.dense.weight"] = Tensor(DType::kI32, {32, 72});
  EXPECT_THAT(message(), HasSubstr("floating point is needed"));
}

TEST_F(LoadErrors, ImpossibleConfigsAreRefused) {
  const json good = config_;
  const std::vector<std::pair<json, std::string>> cases = {
      {{{"num_attention_heads", 5}}, "not a multiple"},
      {{{"num_attention_heads", 0}}, "num_attention_heads"},
      {{{"hidden_size", -32}}, "hidden_size"},
      {{{"hidden_size", "32"}}, "hidden_size"},
      {{{"hidden_size", 9'000'000'000'000'000'000}}, "hidden_size"},
      {{{"hidden_act", "mish"}}, "hidden_act is 'mish'"},
      {{{"position_embedding_type", "relative_key"}}, "relative_key"},
      {{{"is_decoder", true}}, "decoder"},
      {{{"vocab_size", 96}}, "word_embeddings"},
      {{{"num_hidden_layers", 3}}, "encoder.layer.2"},
  };
  for (const auto& [change, words] : cases) {
    config_ = good;
    config_.update(change);
    EXPECT_THAT(message(), HasSubstr(words)) << change;
  }
}

TEST_F(LoadErrors, ImpossibleConfigsOfEachArchitectureAreRefused) {
  struct Case {
    const char* model;
    json change;
    const char* words;
  };
  const auto rotary = [](double share) -> json {
    return {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}, {"partial_rotary_factor", share}}}};
  };
  const std::vector<Case> cases = {
      {"gpt2", {{"n_head", 5}}, "n_embd 32 is not a multiple of n_head 5"},
      {"llama_base", {{"num_key_value_heads", 3}}, "not a multiple of num_key_value_heads 3"},
      {"opt", {{"num_attention_heads", 5}}, "hidden_size 32 is not a multiple of num_attention_heads 5"},
      {"opt", {{"activation_function", "mish"}}, "activation_function is 'mish'"},
      {"opt", {{"max_position_embeddings", 47}}, "embed_positions"},
      {"opt", {{"word_embed_proj_dim", 16}}, "embed_tokens"},
      {"opt_projected", {{"ffn_dim", 0}}, "ffn_dim"},
      {"gptj", {{"n_head", 3}}, "n_embd 32 is not a multiple of n_head 3"},
      {"gptj", {{"rotary_dim", 3}}, "rotary_dim is 3; an even number up to the 8 columns of a head is needed"},
      {"gptj", {{"rotary_dim", 10}}, "rotary_dim is 10; an even number up to the 8 columns of a head is needed"},
      {"gptj", {{"rotary_dim", 0}}, "rotary_dim"},
      {"gptj", {{"activation_function", "mish"}}, "activation_function is 'mish'"},
      {"gpt_neox", {{"num_attention_heads", 6}}, "hidden_size 32 is not a multiple of num_attention_heads 6"},
      {"gpt_neox", rotary(0.4), "0.4 of the 8 columns of a head would be rotary; an even number is needed"},
      {"gpt_neox", rotary(0.1), "an even number is needed"},
      {"gpt_neox", rotary(1.5), "1.5 of the 8 columns"},
      {"gpt_neox", {{"hidden_act", "mish"}}, "hidden_act is 'mish'"},
      {"gpt_neox", {{"intermediate_size", 40}}, "dense_h_to_4h"},
      {"gpt_neox_model", {{"rotary_pct", 0.1}}, "0.1 of the 12 columns"},
      {"phi", {{"tie_word_embeddings", "no"}}, "tie_word_embeddings"},
      {"phi", {{"qk_layernorm", true}}, "qk_layernorm"},
      {"phi", {{"num_key_value_heads", 3}}, "not a multiple of num_key_value_heads 3"},
      {"phi", {{"num_key_value_heads", 2}}, "k_proj"},
      {"roberta", {{"pad_token_id", 66}}, "pad_token_id"},
      {"roberta", {{"pad_token_id", -1}}, "pad_token_id"},
      {"roberta", {{"position_embedding_type", "relative_key"}}, "relative_key"},
      {"distilbert", {{"n_heads", 5}}, "dim 24 is not a multiple of n_heads 5"},
      {"distilbert", {{"activation", "mish"}}, "activation is 'mish'"},
      {"distilbert", {{"n_layers", 3}}, "transformer.layer.2"},
      {"electra", {{"embedding_size", 24}}, "embeddings"},
      {"electra", {{"num_attention_heads", 7}}, "not a multiple"},
  };
  for (const Case& c : cases) {
    take(c.model);
    config_.update(c.change);
    EXPECT_THAT(message(), HasSubstr(c.words)) << c.model << " " << c.change;
  }
}

TEST_F(LoadErrors, APartThatTheConfigPromisesMustBeStored) {
  const std::pair<const char*, const char*> parts[] = {
      {"opt_projected", "model.decoder.project_in.weight"},
      {"opt_projected", "model.decoder.project_out.weight"},
      {"opt_projected", "model.decoder.layers.1.fc1.bias"},
      {"opt", "model.decoder.final_layer_norm.weight"},
      {"gptj", "lm_head.bias"},
      {"gptj", "transformer.h.1.mlp.fc_in.bias"},
      {"gpt_neox", "gpt_neox.layers.0.attention.query_key_value.bias"},
      {"gpt_neox", "embed_out.weight"},
      {"phi", "lm_head.bias"},
      {"roberta_masked_lm", "lm_head.bias"},
      {"distilbert_masked_lm", "vocab_projector.bias"},
      {"electra_masked_lm", "electra.embeddings_project.weight"},
      {"electra_masked_lm", "electra.embeddings_project.bias"},
      {"electra_pretraining", "discriminator_predictions.dense_prediction.weight"},
      {"gpt2", "transformer.h.0.attn.c_attn.bias"},
      {"bert_base", "encoder.layer.1.attention.self.key.bias"},
  };
  for (const auto& [model, tensor] : parts) {
    take(model);
    ASSERT_EQ(tensors_.erase(tensor), 1) << model << " " << tensor;
    EXPECT_THAT(message(), HasSubstr(tensor)) << model;
  }
}

TEST_F(LoadErrors, ModelsWithoutTypesReadNone) {
  Session session(golden("distilbert"));
  TokenBatch pair, plain;
  pair.add(std::vector<int32_t>{5, 6, 7}, std::vector<int32_t>{0, 1, 1});
  plain.add(std::vector<int32_t>{5, 6, 7});
  const Tensor with_types = session.run(pair), without = session.run(plain);
  EXPECT_TRUE(std::equal(with_types.as<float>().begin(), with_types.as<float>().end(), without.as<float>().begin()));
}

TEST_F(LoadErrors, InputsOutsideTheModelAreRefused) {
  Session session(golden("bert_base"));
  const auto error_of = [&](const std::vector<int32_t>& ids, const std::vector<int32_t>& types) -> std::string {
    TokenBatch batch;
    batch.add(std::vector<int32_t>{1, 2});
    batch.add(ids, types);
    try {
      session.run(batch);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of({1}, {1}), "no error");
  EXPECT_EQ(error_of({}, {}), "no error");
  EXPECT_THAT(error_of({5, 97}, {}), HasSubstr("sequence 1: its token id 97 is outside the model's range, 0 to 96"));
  EXPECT_THAT(error_of({5, -1}, {}), HasSubstr("token id -1"));
  EXPECT_THAT(error_of({5, 6}, {0, 2}), HasSubstr("type id 2"));
  EXPECT_THAT(error_of(std::vector<int32_t>(65, 1), {}), HasSubstr("65 tokens; this model's longest is 64"));
}

TEST_F(LoadErrors, NanInAWeightStopsQuantizing) {
  tensors_["encoder.layer.1.output.dense.weight"].mutable_as<float>()[3 * 72 + 5] = NAN;
  ASSERT_EQ(message(), "no error");  // in fp32 it is the user's number
  try {
    Session session(folder_, {.recipe = Recipe::load("w8a16", {}), .cpu = {}});
    FAIL() << "quantized";
  } catch (const NumericError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("encoder.layer.1.output.dense"), HasSubstr("channel 3")));
  }
}

TEST_F(LoadErrors, NanMetWhileServingNamesLayerAndToken) {
  tensors_["embeddings.word_embeddings.weight"].mutable_as<float>()[7 * 32] = NAN;
  ASSERT_EQ(message(), "no error");
  Session session(folder_, {.recipe = Recipe::load("w8a8_dynamic", {}), .cpu = {}});
  TokenBatch batch;
  batch.add(std::vector<int32_t>{1, 2, 3});
  batch.add(std::vector<int32_t>{4, 5, 6, 7});
  try {
    session.run(batch);
    FAIL() << "served";
  } catch (const NumericError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("encoder.layer.0.attention.self.{query,key,value}"),
                                             HasSubstr("sequence 1 of its batch, token 3")));
  }
}

TEST(TokenBatch, RefusesMatricesThatAreNone) {
  const Tensor ids(DType::kI32, {2, 3});
  Tensor mask(DType::kI32, {2, 3});
  EXPECT_EQ(TokenBatch::from_matrix(ids, &mask, nullptr).tokens(), 0);
  mask.mutable_as<int32_t>()[4] = 2;
  EXPECT_THROW(TokenBatch::from_matrix(ids, &mask, nullptr), Error);
  const Tensor other(DType::kI32, {3, 2}), flat(DType::kI32, {6}), floats(DType::kF32, {2, 3});
  EXPECT_THROW(TokenBatch::from_matrix(ids, &other, nullptr), ShapeError);
  EXPECT_THROW(TokenBatch::from_matrix(flat, nullptr, nullptr), ShapeError);
  EXPECT_THROW(TokenBatch::from_matrix(floats, nullptr, nullptr), Error);
}

}  // namespace
}  // namespace octet

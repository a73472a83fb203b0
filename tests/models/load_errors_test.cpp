// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/io/safetensors.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

// A copy of bert_base whose config and tensors a test spoils.
class LoadErrors : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    config_ = json::parse(std::ifstream(golden("bert_base") / "config.json"));
    const SafetensorsFile file = SafetensorsFile::open(golden("bert_base") / "model.safetensors");
    for (const std::string& name : file.names()) tensors_[name] = Tensor::copy_of(file.tensor(name).view());
  }

  std::string message() {
    std::ofstream(folder_ / "config.json") << config_.dump();
    SafetensorsWriter writer;
    for (auto& [name, tensor] : tensors_) writer.add(name, Tensor::copy_of(tensor.view()));
    writer.write(folder_ / "model.safetensors");
    try {
      Session session(folder_);
      TokenBatch batch = golden_batch(golden("bert_base"), "right");
      session.run(batch);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  fs::path folder_;
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

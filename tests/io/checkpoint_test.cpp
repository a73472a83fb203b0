// SPDX-License-Identifier: Apache-2.0
#include "octet/io/checkpoint.h"

#include "octet/io/safetensors.h"
#include "tests/io/scratch.h"

namespace octet {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class CheckpointTest : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    write("config.json", R"({"model_type": "bert"})");
  }
  void weights(const std::string& file, const std::map<std::string, float>& values) const {
    SafetensorsWriter writer;
    for (const auto& [name, value] : values) writer.add(name, tensor_of<float>({1}, {value}));
    writer.write(folder_ / file);
  }
  void index(const std::string& weight_map) const {
    write("model.safetensors.index.json", R"({"metadata": {"total_size": 8}, "weight_map": )" + weight_map + "}");
  }
  std::string refusal() const {
    return message_of<Error>([&] { Checkpoint::open(folder_); });
  }
};

TEST_F(CheckpointTest, OneFileIsRead) {
  weights("model.safetensors", {{"b", 2.0f}, {"a", 1.0f}});
  const Checkpoint checkpoint = Checkpoint::open(folder_);
  EXPECT_THAT(checkpoint.names(), ElementsAre("a", "b"));
  EXPECT_TRUE(checkpoint.contains("a"));
  EXPECT_FALSE(checkpoint.contains("c"));
  EXPECT_EQ(checkpoint.tensor("b").as<float>()[0], 2.0f);
  EXPECT_EQ(checkpoint.bytes(), 8);
  EXPECT_EQ(checkpoint.config().text("model_type"), "bert");
  EXPECT_FALSE(checkpoint.quantization());
}

TEST_F(CheckpointTest, ATensorOutlivesItsCheckpoint) {
  weights("model.safetensors", {{"a", 1.0f}});
  const Tensor tensor = Checkpoint::open(folder_).tensor("a");
  EXPECT_TRUE(tensor.is_mapped());
  EXPECT_EQ(tensor.as<float>()[0], 1.0f);
}

TEST_F(CheckpointTest, ShardsAreReadThroughTheirIndex) {
  weights("model-00001-of-00002.safetensors", {{"b", 2.0f}});
  weights("model-00002-of-00002.safetensors", {{"a", 1.0f}, {"c", 3.0f}});
  index(R"({"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors",
            "c": "model-00002-of-00002.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(folder_);
  EXPECT_THAT(checkpoint.names(), ElementsAre("a", "b", "c"));
  EXPECT_EQ(checkpoint.tensor("a").as<float>()[0], 1.0f);
  EXPECT_EQ(checkpoint.tensor("b").as<float>()[0], 2.0f);
  EXPECT_EQ(checkpoint.tensor("c").as<float>()[0], 3.0f);
  EXPECT_EQ(checkpoint.bytes(), 12);
}

TEST_F(CheckpointTest, AMissingTensorSuggestsTheNearest) {
  weights("model.safetensors", {{"encoder.layer.0.output.dense.weight", 1.0f}});
  const Checkpoint checkpoint = Checkpoint::open(folder_);
  EXPECT_THAT(message_of([&] { checkpoint.tensor("encoder.layer.0.output.dence.weight"); }),
              HasSubstr("Did you mean 'encoder.layer.0.output.dense.weight'?"));
  EXPECT_THAT(message_of([&] { checkpoint.tensor("x"); }), HasSubstr("holds no tensor 'x'. It holds 1 others."));
}

TEST_F(CheckpointTest, AMissingShardIsNamed) {
  weights("one.safetensors", {{"a", 1.0f}});
  index(R"({"a": "one.safetensors", "b": "two.safetensors"})");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("names 'two.safetensors', which is missing"), HasSubstr("fetch it again")));
}

TEST_F(CheckpointTest, AnIndexThatDisagreesWithItsShardIsRefused) {
  weights("one.safetensors", {{"a", 1.0f}});
  index(R"({"a": "one.safetensors", "b": "one.safetensors"})");
  EXPECT_THAT(refusal(), HasSubstr("tensor 'b' is not in 'one.safetensors'"));
}

TEST_F(CheckpointTest, AnIndexListsEveryTensorOnce) {
  weights("one.safetensors", {{"a", 1.0f}});
  weights("two.safetensors", {{"a", 1.0f}, {"b", 1.0f}});
  index(R"({"a": "one.safetensors", "b": "two.safetensors"})");
  EXPECT_THAT(refusal(), HasSubstr("tensor 'a' is in 'two.safetensors', but it is"));
  weights("two.safetensors", {{"b", 1.0f}, {"c", 1.0f}});
  EXPECT_THAT(refusal(), HasSubstr("tensor 'c' is in 'two.safetensors', but it is"));
}

TEST_F(CheckpointTest, AnIndexCannotLeadOutOfTheFolder) {
  weights("inside.safetensors", {{"a", 1.0f}});
  fs::create_directory(folder_ / "sub");
  fs::copy(folder_ / "inside.safetensors", folder_ / "sub" / "x.safetensors");
  const std::string absolute = (folder_ / "inside.safetensors").string();
  for (const std::string& shard :
       {std::string("../x.safetensors"), std::string("sub/x.safetensors"), absolute, std::string(".."),
        std::string("."), std::string(), std::string("a\\\\b"), std::string("inside.safetensors\\u0000")}) {
    index(R"({"a": ")" + shard + R"("})");
    EXPECT_THAT(refusal(), HasSubstr("not the name of a file in this folder")) << shard;
  }
}

TEST_F(CheckpointTest, AMalformedIndexIsRefused) {
  for (const char* text : {"[]", "{}", R"({"weight_map": []})"}) {
    write("model.safetensors.index.json", text);
    EXPECT_THAT(refusal(), HasSubstr("no 'weight_map'")) << text;
  }
  index(R"({"a": 1})");
  EXPECT_THAT(refusal(), HasSubstr("tensor 'a' has 1 for a file name"));
  write("model.safetensors.index.json", "{");
  EXPECT_THAT(refusal(), HasSubstr("not valid JSON"));
}

TEST_F(CheckpointTest, PicklesAreRefusedWithTheWayOut) {
  write("pytorch_model.bin", "PK");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("'pytorch_model.bin'"), HasSubstr("can run any code"),
                               HasSubstr("weights_only=True"), HasSubstr("save_file")));
}

TEST_F(CheckpointTest, AFolderWithoutWeightsOrConfigSaysWhatItLacks) {
  EXPECT_THAT(refusal(), HasSubstr("holds no weights"));
  write("other.safetensors", "");
  EXPECT_THAT(refusal(), HasSubstr("but 'other.safetensors'"));
  fs::remove(folder_ / "config.json");
  EXPECT_THAT(refusal(), HasSubstr("holds no config.json"));
  EXPECT_THAT(message_of<Error>([&] { Checkpoint::open(folder_ / "none"); }),
              HasSubstr("there is no such folder or file"));
  EXPECT_THAT(message_of<Error>([&] { Checkpoint::open(folder_ / "other.safetensors"); }),
              HasSubstr("is neither a folder nor a GGUF file"));
}

TEST_F(CheckpointTest, QuantizationIsReadFromTheConfig) {
  weights("model.safetensors", {{"a", 1.0f}});
  write("config.json", R"({"quantization_config": {"quant_method": "bitnet"}})");
  EXPECT_THAT(refusal(), HasSubstr("'bitnet'"));
  write("config.json", R"({"compression_config": {}})");
  EXPECT_THAT(refusal(), HasSubstr("compression_config"));
  write("config.json", R"({"quantization_config": null})");
  EXPECT_FALSE(Checkpoint::open(folder_).quantization());
}

TEST_F(CheckpointTest, ADamagedFileIsNamed) {
  write("model.safetensors", "short");
  EXPECT_THAT(refusal(), HasSubstr("model.safetensors: 5 bytes are no safetensors file"));
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include <gmock/gmock.h>

#include "octet/base/error.h"
#include "octet/models/sentence_encoder.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

class SentenceGolden : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(SentenceGolden, PoolsAsSentenceTransformersDoes) {
  const auto& [folder, name] = GetParam();
  const SentenceConfig config = read_sentence_config(golden(folder));
  ASSERT_TRUE(config.found);
  const TokenBatch batch = golden_batch(golden(folder), name);
  Session session(golden(folder));
  const Workspace::Scope scope(session.workspace());
  Context context = session.context();
  const DeviceBatch device = upload(context, batch);
  Tensor got(DType::kF32, {batch.sequences(), session.model().info().width});
  const Tensor want = read_npy(golden(folder) / (std::string(name) + ".sentence_embedding.npy"));
  session.backend().download(sentence_vectors(session.model(), context, device, config), got.mutable_as<float>());
  EXPECT_LT(error_share(got, want, batch, false), 2e-6);
}

INSTANTIATE_TEST_SUITE_P(Goldens, SentenceGolden,
                         testing::Combine(testing::Values("sentence_mean", "sentence_mean_normalized", "sentence_cls",
                                                          "sentence_max_normalized", "sentence_mean_sqrt_len"),
                                          testing::Values("right", "hole")));
// Of a row padded on the left: what is left out first is not the row's first token, so "cls" has no such golden.
INSTANTIATE_TEST_SUITE_P(LeftPadded, SentenceGolden,
                         testing::Combine(testing::Values("sentence_mean", "sentence_mean_normalized",
                                                          "sentence_max_normalized", "sentence_mean_sqrt_len"),
                                          testing::Values("left")));

class SentenceConfigErrors : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "1_Pooling");
  }
  std::string message(const std::string& modules, const std::string& pooling) {
    std::ofstream(folder_ / "modules.json") << modules;
    std::ofstream(folder_ / "1_Pooling" / "config.json") << pooling;
    try {
      read_sentence_config(folder_);
    } catch (const FormatError& error) {
      return error.what();
    }
    return "no error";
  }
  fs::path folder_;
};

TEST_F(SentenceConfigErrors, NameTheModuleOrThePooling) {
  using testing::HasSubstr;
  const std::string good = R"([{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}])";
  EXPECT_EQ(message(good, R"({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false})"), "no error");
  EXPECT_THAT(message(good, R"({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true})"),
              HasSubstr("2 poolings at once"));
  EXPECT_THAT(message(good, "{}"), HasSubstr("0 poolings"));
  EXPECT_THAT(message(good, R"({"pooling_mode": "weightedmean"})"), HasSubstr("'weightedmean' is not supported"));
  EXPECT_THAT(message(R"([{"type": "a.Dense", "path": "2_Dense"}])", "{}"), HasSubstr("'Dense' is not supported"));
  EXPECT_THAT(message(R"([{"type": "a.Pooling", "path": "../1_Pooling"}])", "{}"), HasSubstr("leads out"));
  EXPECT_THAT(message(R"([{"path": "1_Pooling"}])", "{}"), HasSubstr("without a 'type'"));
  EXPECT_THAT(message("{}", "{}"), HasSubstr("a list of modules"));
  EXPECT_THAT(message(std::string(100'000, '['), "{}"), HasSubstr("nested"));
}

TEST(SentenceConfig, SaysWhereItFoundNothing) {
  const SentenceConfig config = read_sentence_config(golden("bert_base"));
  EXPECT_FALSE(config.found);
  EXPECT_EQ(config.pooling, Pooling::kMean);
}

// Order, batch and neighbours do not change a sentence's vector.
TEST(SentenceEncoder, KeepsTheOrderOfSentences) {
  OCTET_SHARED_DATA_OR_SKIP(data);
  const fs::path folder = data / "models" / "minilm-l6";
  Session session(folder);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  SentenceEncoder encoder(session, tokenizer, read_sentence_config(folder));
  const std::vector<std::string> sentences = {"A cat sat on the mat, and then it slept for most of the afternoon.",
                                              "Rain.", "", "The committee will meet again on Tuesday."};
  const Tensor together = encoder.encode(sentences);
  const int64_t width = together.shape()[1];
  for (size_t i = 0; i < sentences.size(); ++i) {
    const Tensor alone = encoder.encode(std::span(sentences).subspan(i, 1));
    EXPECT_TRUE(
        std::equal(alone.as<float>().begin(), alone.as<float>().end(), together.as<float>().begin() + i * width))
        << i;
  }
  EXPECT_EQ(encoder.encode({}).shape(), (Shape{0, width}));
}

}  // namespace
}  // namespace octet

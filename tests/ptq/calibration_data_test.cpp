// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/calibration_data.h"

#include "tests/io/scratch.h"

namespace octet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class CalibrationDataTest : public ScratchFolder {
 protected:
  CalibrationData read(const std::string& model, const std::filesystem::path& file,
                       const CalibrationOptions& options = {}) {
    const std::filesystem::path folder = std::filesystem::path(OCTET_DEMO_MODELS) / model;
    return read_calibration_data(file, Tokenizer::load(folder), load_model(Checkpoint::open(folder), nullptr)->info(),
                                 options);
  }
  // Words of the demo models' languages.
  static std::string words(int count) {
    static const char* const kWords[] = {"the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "day"};
    std::string text;
    for (int i = 0; i < count; ++i) text += std::string(i == 0 ? "" : " ") + kWords[(i * i + i / 7) % 10];
    return text;
  }
};

TEST_F(CalibrationDataTest, ATextIsCutIntoSequencesOfOneLength) {
  const std::filesystem::path file = write("text.txt", words(2000));
  const CalibrationOptions options{.samples = 5, .sequence_length = 64, .seed = 3};
  const CalibrationData data = read("demo_decoder", file, options);
  ASSERT_EQ(data.samples.sequences(), 5);
  EXPECT_EQ(data.samples.tokens(), 5 * 64);
  // Each is a stretch of the text's own tokens.
  const Tokenizer tokenizer = Tokenizer::load(std::filesystem::path(OCTET_DEMO_MODELS) / "demo_decoder");
  const std::vector<int32_t> all = tokenizer.encode(words(2000)).ids;
  for (int64_t b = 0; b < 5; ++b) {
    const auto begin = data.samples.ids.begin() + data.samples.offsets[b];
    bool found = false;
    for (size_t at = 0; at + 64 <= all.size(); at += 64)
      found = found || std::equal(begin, begin + 64, all.begin() + at);
    EXPECT_TRUE(found);
  }
  EXPECT_EQ(fingerprint(read("demo_decoder", file, options).samples), fingerprint(data.samples));
  CalibrationOptions other = options;
  other.seed = 4;
  EXPECT_NE(fingerprint(read("demo_decoder", file, other).samples), fingerprint(data.samples));
  EXPECT_EQ(data.sha256.size(), 64);
}

TEST_F(CalibrationDataTest, FewerSamplesThanAskedForAreToldOf) {
  const CalibrationData data =
      read("demo_decoder", write("text.txt", words(300)), {.samples = 1000, .sequence_length = 64});
  EXPECT_LT(data.samples.sequences(), 1000);
  ASSERT_EQ(data.notes.size(), 1);
  EXPECT_THAT(data.notes[0], HasSubstr("1000 samples were asked for"));
}

TEST_F(CalibrationDataTest, SequencesOfAnEncoderAreFramed) {
  const CalibrationData data =
      read("demo_encoder", write("text.txt", words(2000)), {.samples = 4, .sequence_length = 32});
  const Tokenizer tokenizer = Tokenizer::load(std::filesystem::path(OCTET_DEMO_MODELS) / "demo_encoder");
  ASSERT_EQ(data.samples.sequences(), 4);
  for (int64_t b = 0; b < 4; ++b) {
    EXPECT_EQ(data.samples.ids[data.samples.offsets[b]], tokenizer.token_to_id("[CLS]"));
    EXPECT_EQ(data.samples.ids[data.samples.offsets[b + 1] - 1], tokenizer.token_to_id("[SEP]"));
    EXPECT_LE(data.samples.offsets[b + 1] - data.samples.offsets[b], 32);
  }
}

TEST_F(CalibrationDataTest, PairsAndJsonLinesAreSamplesByThemselves) {
  std::string tsv = "sentence1\tsentence2\tlabel\n", jsonl;
  for (int i = 0; i < 40; ++i) {
    tsv += words(5 + i) + "\t" + words(9) + "\t1\n";
    jsonl += i % 2 == 0 ? R"({"text": ")" + words(5 + i) + "\"}\n"
                        : R"({"question": ")" + words(7) + R"(", "choices": ["no", "the cat"], "answer": 1})" + "\n";
  }
  EXPECT_EQ(read("demo_encoder", write("pairs.tsv", tsv)).samples.sequences(), 80);
  const CalibrationData lines = read("demo_decoder", write("lines.jsonl", jsonl));
  EXPECT_EQ(lines.samples.sequences(), 40);
  EXPECT_LT(lines.samples.longest(), 128);
}

TEST_F(CalibrationDataTest, BadDataIsRefusedWithCounts) {
  const auto refusal = [&](const std::string& text, const std::string& model) {
    return message_of<Error>([&] { read(model, write("bad.txt", text)); });
  };
  EXPECT_THAT(refusal("", "demo_decoder"), HasSubstr("bad.txt: is empty"));
  EXPECT_THAT(refusal(" \n\n", "demo_decoder"), HasSubstr("is empty"));
  EXPECT_THAT(refusal("the cat", "demo_decoder"), AllOf(HasSubstr("tokens in 1 sample"), HasSubstr("128 at least")));
  std::string unknown;
  for (int i = 0; i < 300; ++i) unknown += "Ж字 ";
  EXPECT_THAT(refusal(unknown, "demo_encoder"), HasSubstr("tokens are unknown to the model's tokenizer"));
  EXPECT_THAT(refusal(std::string("a\0b", 3), "demo_decoder"), HasSubstr("byte 1 is zero"));
  EXPECT_THAT(message_of<UsageError>([&] {
                read("demo_decoder", write("text.txt", words(500)), {.samples = 1, .sequence_length = 100'000});
              }),
              HasSubstr("this model's longest is"));
  EXPECT_THROW(read("demo_decoder", folder_ / "missing.txt"), Error);
}

}  // namespace
}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/rotation.h"

#include <algorithm>
#include <cmath>

#include "octet/eval/benchmark.h"
#include "tests/io/scratch.h"
#include "tests/ptq/rewritten_model.h"

namespace octet {
namespace {

using testing::HasSubstr;

std::filesystem::path golden_model(const std::string& name) { return std::filesystem::path(OCTET_GOLDEN) / name; }

class Rotation : public ScratchFolder {
 protected:
  Tensor logits_of(const std::filesystem::path& folder) {
    Session session(folder);
    return session.run(random_batch(session.model().info(), 2, 17));
  }
};

TEST_F(Rotation, LogitsStayToRounding) {
  // Values with biases and heads that share them, tied heads, a window; the decoder of the demo is fp16, 128 wide.
  for (const std::filesystem::path& from :
       {golden_model("llama_base"), golden_model("llama_bias"), golden_model("llama_tied"),
        golden_model("llama_sharded"), golden_model("mistral_window"), std::filesystem::path(OCTET_DEMO_DECODER)}) {
    const Checkpoint checkpoint = Checkpoint::open(from);
    const std::filesystem::path out = folder_ / from.filename();
    const RotationReport report = rotate_model(checkpoint, out);
    EXPECT_GT(report.block, 1);
    EXPECT_GT(report.head_block, 1);
    EXPECT_EQ(report.bytes_after, Checkpoint::open(out).bytes());
    EXPECT_EQ(report.untied, checkpoint.config().flag("tie_word_embeddings", false)) << from;
    const double difference = largest_difference(logits_of(from), logits_of(out));
    EXPECT_LT(difference, 5e-6) << from;
    EXPECT_GT(difference, 0) << from;
  }
}

TEST_F(Rotation, AColumnThatIsMuchLargerThanOthersIsSpread) {
  // Channel 5 of everything that is added to the hidden states is thirty times as large.
  const std::filesystem::path from = golden_model("llama_base"), spiked = folder_ / "spiked", out = folder_ / "out";
  std::map<std::string, Tensor> tensors = tensors_of(Checkpoint::open(from));
  for (auto& [name, tensor] : tensors) {
    const std::span<float> values = tensor.mutable_as<float>();
    const int64_t columns = tensor.shape().rank() == 2 ? tensor.shape()[1] : 1;
    if (name.ends_with("embed_tokens.weight")) {
      for (size_t i = 5; i < values.size(); i += columns) values[i] *= 30;
    } else if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")) {
      for (int64_t i = 0; i < columns; ++i) values[5 * columns + i] *= 30;
    }
  }
  write_model(from, nlohmann::json::object(), std::move(tensors), spiked);
  rotate_model(Checkpoint::open(spiked), out);
  // Of the last hidden states' rows: their lengths, and the mean of absmax / root mean square, at most √width.
  const auto rows_of = [](const std::filesystem::path& folder) {
    Session session(folder);
    const TokenBatch batch = random_batch(session.model().info(), 2, 17);
    const Workspace::Scope scope(session.workspace());
    Context context = session.context();
    const Activation x = session.model().hidden_states(context, upload(context, batch));
    std::vector<float> values(x.rows * x.cols);
    session.backend().download(x, values);
    std::pair<std::vector<double>, double> found;
    for (int64_t row = 0; row < x.rows; ++row) {
      double energy = 0, largest = 0;
      for (int64_t i = 0; i < x.cols; ++i) {
        const double value = values[row * x.cols + i];
        energy += value * value;
        largest = std::max(largest, std::abs(value));
      }
      found.first.push_back(std::sqrt(energy));
      found.second += largest / std::sqrt(energy / x.cols) / x.rows;
    }
    return found;
  };
  const auto [lengths, peak] = rows_of(spiked);
  const auto [turned_lengths, turned_peak] = rows_of(out);
  for (size_t row = 0; row < lengths.size(); ++row) EXPECT_NEAR(turned_lengths[row], lengths[row], 1e-4 * lengths[row]);
  EXPECT_GT(peak, 4);
  EXPECT_LT(turned_peak, 0.6 * peak);
}

TEST_F(Rotation, TheSameSeedGivesTheSameBytes) {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("llama_base"));
  const auto bytes = [&](const char* name, uint64_t seed) {
    rotate_model(checkpoint, folder_ / name, {.seed = seed});
    return read_text_file(folder_ / name / "model.safetensors", 1 << 20);
  };
  const std::string first = bytes("a", 4);
  EXPECT_EQ(bytes("b", 4), first);
  EXPECT_NE(bytes("c", 5), first);
}

TEST_F(Rotation, ModelsThatCannotBeRotatedAreRefused) {
  for (const char* name : {"gpt2", "bert_base", "opt", "llama_model", "gpt_neox"}) {
    EXPECT_THAT(message_of<UsageError>([&] { rotate_model(Checkpoint::open(golden_model(name)), folder_ / "out"); }),
                HasSubstr("cannot be rotated"))
        << name;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
  }
  std::filesystem::create_directory(folder_ / "there");
  EXPECT_THROW(rotate_model(Checkpoint::open(golden_model("llama_base")), folder_ / "there"), Error);
}

}  // namespace
}  // namespace octet

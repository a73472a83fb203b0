// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>

#include "octet/eval/benchmark.h"
#include "octet/io/safetensors.h"
#include "tests/models/golden.h"

namespace octet {
namespace {

// Powers of two, so that folding them is exact.
float factor(int64_t channel) { return std::ldexp(1.0f, static_cast<int>(channel % 5) - 2); }

// Calls visit(value, channel) for the elements of a weight [out, in] or, transposed, [in, out] by its outputs or
// inputs.
template <class Visit>
void for_channels(Tensor& weight, bool by_rows, Visit visit) {
  const std::span<float> values = weight.mutable_as<float>();
  const int64_t cols = weight.shape().rank() == 2 ? weight.shape()[1] : 1;
  for (int64_t i = 0; i < std::ssize(values); ++i) visit(values[i], by_rows ? i / cols : i % cols);
}

TEST(Fold, FactorsMovedBetweenThePairsChangeNoBit) {
  for (const char* folder : {"llama_base", "llama_model", "gpt2", "bert_base", "bert_relu_odd_sizes", "opt",
                             "opt_projected", "opt_model", "gptj", "gptj_model", "gpt_neox", "gpt_neox_sequential",
                             "phi", "phi_model", "roberta", "distilbert", "distilbert_question_answering", "electra"}) {
    const Checkpoint checkpoint = Checkpoint::open(golden(folder));
    const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
    std::map<std::string, Tensor> tensors;
    for (const std::string& name : checkpoint.names()) {
      const Tensor stored = checkpoint.tensor(name);
      tensors.emplace(name, is_float(stored.dtype()) ? to_f32(stored.view()) : Tensor::copy_of(stored.view()));
    }
    std::map<std::string, bool> transposed;
    for (const Linear::Part* part : model->linear_parts()) transposed[part->weight.layer] = part->weight.transposed;

    ASSERT_FALSE(model->fold_pairs().empty()) << folder;
    if (std::string_view(folder).starts_with("llama")) {
      // Values that two query heads read among them.
      EXPECT_TRUE(std::ranges::any_of(model->fold_pairs(), [](const FoldPair& pair) {
        return pair.heads_per_value > 1;
      })) << folder;
    }
    for (const FoldPair& pair : model->fold_pairs()) {
      const auto times = [](float& value, int64_t channel) { value *= factor(channel); };
      for_channels(tensors.at(pair.from + ".weight"), !transposed[pair.from], times);
      if (const auto bias = tensors.find(pair.from + ".bias"); bias != tensors.end()) {
        for_channels(bias->second, true, times);
      }
      for (const std::string& layer : pair.into) {
        for_channels(tensors.at(layer + ".weight"), transposed[layer],
                     [&pair](float& value, int64_t column) { value /= factor(pair.channel(column)); });
      }
    }

    const std::filesystem::path out = std::filesystem::path(testing::TempDir()) / "octet_folded";
    std::filesystem::remove_all(out);
    std::filesystem::create_directory(out);
    std::filesystem::copy_file(golden(folder) / "config.json", out / "config.json");
    SafetensorsWriter writer;
    for (auto& [name, tensor] : tensors) writer.add(name, std::move(tensor));
    writer.write(out / "model.safetensors");

    Session before(golden(folder)), after(out);
    const TokenBatch batch = random_batch(before.model().info(), 1, 20);
    const Tensor a = before.run(batch), b = after.run(batch);
    EXPECT_TRUE(std::equal(a.as<float>().begin(), a.as<float>().end(), b.as<float>().begin())) << folder;
    std::filesystem::remove_all(out);
  }
}

}  // namespace
}  // namespace octet

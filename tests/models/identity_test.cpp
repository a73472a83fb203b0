// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <random>

#include "octet/eval/benchmark.h"
#include "octet/io/safetensors.h"
#include "tests/models/golden.h"
#include "tests/sanitized.h"

namespace octet {
namespace {

// Promise: a model's outputs do not depend on instruction set, threads, batch, padding or neighbours.

struct Way {
  std::string isa;
  int threads;
};

std::vector<Way> ways() {
  std::vector<Way> all;
  for (const std::string& isa : cpu_isas()) {
    for (const int threads : {1, 2, 3}) all.push_back({isa, threads});
  }
  return all;
}

std::vector<std::optional<Recipe>> recipes(const std::filesystem::path& model) {
  std::vector<std::optional<Recipe>> all = {std::nullopt};
  for (const std::string& name : Recipe::built_in_names()) all.emplace_back(Recipe::load(name, {}));
  const std::vector<std::string> with_zero_points = {"weights.symmetric=false"};
  all.emplace_back(Recipe::load("w4a8_g32_dynamic", with_zero_points));
  // Both fall back to whole rows where 32 does not divide a layer's inputs.
  const std::vector<std::string> with_minima = {"weights.minima=true"};
  all.emplace_back(Recipe::load("w4a8_g32_dynamic", with_minima));
  all.emplace_back(Recipe::load("w4a16_g32", with_minima));
  const std::vector<std::string> with_embeddings = {"embeddings=8"};
  all.emplace_back(Recipe::load("w8a8_dynamic", with_embeddings));
  const std::vector<std::string> with_small_embeddings = {"embeddings=4", "weights.symmetric=false"};
  all.emplace_back(Recipe::load("w8a8_dynamic", with_small_embeddings));
  const std::vector<std::string> with_attention = {"attention=8"};
  all.emplace_back(Recipe::load("w8a8_dynamic", with_attention));
  all.emplace_back(static_attention(model));
  return all;
}

std::string name_of(const std::optional<Recipe>& recipe) {
  if (!recipe) return "fp32";
  return recipe->name() + (recipe->attention() == ActivationMode::kFloat ? "" : " with INT8 attention");
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Sequences of many lengths, and every one of them alone, by every kernel and number of threads.
void expect_identical_outputs(const std::filesystem::path& model, std::span<const int64_t> lengths) {
  for (const std::optional<Recipe>& recipe : recipes(model)) {
    Session first(model, {.recipe = recipe, .cpu = {.threads = 1, .isa = cpu_isas().back()}});
    const ModelInfo& info = first.model().info();
    TokenBatch together;
    std::vector<TokenBatch> alone;
    for (const int64_t length : lengths) {
      const TokenBatch one = random_batch(info, 1, length);
      together.add(one.ids);
      alone.push_back(one);
    }
    const Tensor want = first.run(together);
    const int64_t width = want.shape()[1];
    for (const Way& way : ways()) {
      Session session(model, {.recipe = recipe, .cpu = {.threads = way.threads, .isa = way.isa}});
      EXPECT_TRUE(same_bits(session.run(together).as<float>(), want.as<float>()))
          << name_of(recipe) << " on " << way.isa << ", " << way.threads << " threads";
    }
    for (size_t i = 0; i < alone.size(); ++i) {
      const auto rows = want.as<float>().subspan(together.offsets[i] * width, alone[i].tokens() * width);
      EXPECT_TRUE(same_bits(first.run(alone[i]).as<float>(), rows))
          << name_of(recipe) << ", sequence " << i << " alone";
    }
  }
}

TEST(Identity, OfASmallModelOnEveryKernel) {
  const std::vector<int64_t> lengths = {13, 1, 64, 7, 32, 31};
  expect_identical_outputs(golden("bert_base"), lengths);
  expect_identical_outputs(golden("bert_relu_odd_sizes"), lengths);
  const std::vector<int64_t> shorter = {13, 1, 30, 7};
  expect_identical_outputs(golden("llama_tied"), shorter);
  expect_identical_outputs(golden("mistral_window"), shorter);
  expect_identical_outputs(golden("gpt2"), shorter);
  for (const char* name : {"opt_projected", "gptj", "gpt_neox", "phi_model", "roberta", "distilbert", "electra"}) {
    expect_identical_outputs(golden(name), shorter);
  }
}

TEST(Identity, OfARealModelOnEveryKernel) {
  OCTET_SHARED_DATA_OR_SKIP(data);
  // The plain kernels take minutes under a sanitizer; the small model exercises the same code there.
  if (kSanitized) GTEST_SKIP() << "sanitizer build";
  const std::vector<int64_t> lengths = {5, 17, 1};
  expect_identical_outputs(data / "models" / "minilm-l6", lengths);
  expect_identical_outputs(data / "models" / "stories260k", lengths);
}

// A copy of a golden whose tensors are all fp32.
std::filesystem::path fp32_copy(const std::string& name) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / ("fp32_" + name);
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(golden(name) / "config.json", folder / "config.json",
                             std::filesystem::copy_options::overwrite_existing);
  const SafetensorsFile file = SafetensorsFile::open(golden(name) / "model.safetensors");
  SafetensorsWriter writer;
  for (const std::string& tensor : file.names()) writer.add(tensor, to_f32(file.tensor(tensor).view()));
  writer.write(folder / "model.safetensors");
  return folder;
}

TEST(Identity, OfWeightsInSixteenBitsWithTheSameInFp32) {
  for (const char* name : {"gpt2", "llama_tied", "llama_bias", "bert_bf16", "gptj", "gpt_neox", "opt"}) {
    Session narrow(golden(name)), wide(fp32_copy(name));
    const TokenBatch batch = random_batch(narrow.model().info(), 3, 20);
    EXPECT_TRUE(same_bits(narrow.run(batch).as<float>(), wide.run(batch).as<float>())) << name;
    // Half of the matrices, among them a tied head and those stored [in, out], and biases and gains in fp32 as before.
    EXPECT_LT(narrow.model().packed_bytes(), wide.model().packed_bytes() * 6 / 10) << name;
    EXPECT_GE(narrow.model().packed_bytes(), wide.model().packed_bytes() / 2) << name;
  }
}

// Padding is dropped: a masked matrix gives the rows that the sequences alone give.
TEST(Identity, PaddingLeavesNoTrace) {
  const std::filesystem::path folder = golden("bert_base");
  for (const std::optional<Recipe>& recipe : recipes(folder)) {
    Session session(folder, {.recipe = recipe, .cpu = {}});
    const TokenBatch batch = golden_batch(folder, "right");
    const Tensor padded = session.run(batch);
    for (int64_t b = 0; b < batch.sequences(); ++b) {
      const int64_t begin = batch.offsets[b], count = batch.offsets[b + 1] - begin, width = padded.shape()[1];
      TokenBatch one;
      one.add(std::span(batch.ids).subspan(begin, count), std::span(batch.type_ids).subspan(begin, count));
      EXPECT_TRUE(same_bits(session.run(one).as<float>(), padded.as<float>().subspan(begin * width, count * width)))
          << name_of(recipe) << ", sequence " << b;
    }
  }
}

// A session that ran other shapes before gives the same, from memory it has already.
TEST(Identity, OfASecondPassWithoutAllocation) {
  const std::vector<std::string> with_attention = {"attention=8"};
  Session session(golden("bert_base"),
                  {.recipe = Recipe::load("w8a8_dynamic", with_attention), .cpu = {.threads = 2, .isa = {}}});
  const TokenBatch small = random_batch(session.model().info(), 2, 5),
                   large = random_batch(session.model().info(), 4, 64);
  const Tensor before = session.run(small);
  session.run(large);
  const int64_t bytes = session.workspace().bytes();
  const Tensor after = session.run(small);
  session.run(large);
  EXPECT_TRUE(same_bits(before.as<float>(), after.as<float>()));
  EXPECT_EQ(session.workspace().bytes(), bytes);
}

}  // namespace
}  // namespace octet

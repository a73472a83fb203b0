// SPDX-License-Identifier: Apache-2.0
#include "octet/models/opt.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/models/model_config.h"
#include "octet/models/transformer.h"

namespace octet {
namespace {

using Norms = TransformerBlock::Norms;

// Rows of the table of positions before the one of a sequence's first token.
constexpr int64_t kFirstPosition = 2;
// As torch has it, for configs do not say.
constexpr float kEps = 1e-5f;

struct Sizes {
  int64_t width, word_width, heads, head_width, feed_forward;
  Nonlinearity nonlinearity;
  Norms norms;
  bool biases, affine;

  explicit Sizes(const Config& config)
      : width(config.integer("hidden_size", {1, kLargestExtent})),
        word_width(config.integer("word_embed_proj_dim", width, {1, kLargestExtent})),
        heads(config.integer("num_attention_heads", {1, kLargestExtent})),
        head_width(read_head_width(config, "hidden_size", "num_attention_heads")),
        feed_forward(config.integer("ffn_dim", {1, kLargestExtent})),
        nonlinearity(read_nonlinearity(config, "activation_function", "relu")),
        norms(config.flag("do_layer_norm_before", true) ? Norms::kBefore : Norms::kAfter),
        biases(config.flag("enable_bias", true)),
        affine(config.flag("layer_norm_elementwise_affine", true)) {}
};

// Without gains and biases of its own where the config says so.
Normalization norm_of(const WeightSource& source, const std::string& layer, const Sizes& sizes) {
  if (sizes.affine) return source.layer_norm(layer, sizes.width, kEps);
  Tensor gains(DType::kF32, {sizes.width});
  std::ranges::fill(gains.mutable_as<float>(), 1.0f);
  return {layer, std::move(gains), Tensor(DType::kF32, {sizes.width}), kEps};
}

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes) {
  const std::string attention = path + "self_attn.";
  const int64_t width = sizes.width;
  if (sizes.biases) {
    source.require_biases(
        path, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2"});
  }
  TransformerBlock::Plan plan;
  plan.norms = sizes.norms;
  plan.attention = {.heads = sizes.heads, .head_width = sizes.head_width, .causal = true, .mode = source.attention()};
  plan.attention_site = attention + "attention";
  plan.qkv = source.group(attention, {"q_proj", "k_proj", "v_proj"}, width, width);
  plan.attention_output = source.lone_linear(attention + "out_proj", width, width);
  plan.attention_norm = norm_of(source, path + "self_attn_layer_norm", sizes);
  plan.inner = source.lone_linear(path + "fc1", sizes.feed_forward, width);
  plan.output = source.lone_linear(path + "fc2", width, sizes.feed_forward);
  plan.mlp_norm = norm_of(source, path + "final_layer_norm", sizes);
  plan.nonlinearity = sizes.nonlinearity;
  return plan;
}

}  // namespace

std::unique_ptr<Model> load_opt(const std::string& architecture, const WeightSource& source) {
  const Config& config = source.config();
  const std::string prefix = source.contains("decoder.embed_positions.weight") ? "decoder." : "model.decoder.";
  const Sizes sizes(config);
  const int64_t positions = config.integer("max_position_embeddings", {1, kLargestExtent});
  Tensor table = source.tensor(prefix + "embed_positions.weight", {positions + kFirstPosition, sizes.width});
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.max_positions = positions;
  plan.embedding.words = prefix + "embed_tokens";
  plan.embedding.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.embedding.word_width = sizes.word_width;
  plan.embedding.positions = Embedding(prefix + "embed_positions", std::move(table), kFirstPosition);
  plan.embedding.numbering = Transformer::Numbering::kKeptTokens;
  plan.blocks = read_block_count(config, "num_hidden_layers");
  plan.block_path = prefix + "layers";
  plan.block = [&](const std::string& path, int64_t) { return block_of(source, path, sizes); };
  // Those fine-tuned before transformers 4.20.1 have none, and say so.
  if (sizes.norms == Norms::kBefore && !config.flag("_remove_final_layer_norm", false)) {
    plan.head.final_norm = norm_of(source, prefix + "final_layer_norm", sizes);
  }
  if (sizes.word_width != sizes.width) {
    plan.embedding.project = source.lone_linear(prefix + "project_in", sizes.width, sizes.word_width);
    plan.head.inner = source.lone_linear(prefix + "project_out", sizes.word_width, sizes.width);
  }
  if (architecture == "OPTForCausalLM") {
    const bool tied = config.flag("tie_word_embeddings", true);
    plan.head.output = OutputKind::kTokenLogits;
    plan.head.vocabulary = {.layer = "lm_head", .tied = tied};
  }
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/models/phi.h"

#include "octet/base/error.h"
#include "octet/models/model_config.h"
#include "octet/models/transformer.h"

namespace octet {
namespace {

struct Sizes {
  int64_t width, heads, kv_heads, head_width, feed_forward;
  float eps;
  Nonlinearity nonlinearity;

  explicit Sizes(const Config& config)
      : width(config.integer("hidden_size", {1, kLargestExtent})),
        heads(config.integer("num_attention_heads", {1, kLargestExtent})),
        kv_heads(read_kv_heads(config)),
        head_width(read_head_width(config, "hidden_size", "num_attention_heads")),
        feed_forward(config.integer("intermediate_size", {1, kLargestExtent})),
        eps(static_cast<float>(config.number("layer_norm_eps", 1e-5))),
        nonlinearity(read_nonlinearity(config, "hidden_act", "gelu_new")) {}
};

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes) {
  const std::string attention = path + "self_attn.", mlp = path + "mlp.";
  const int64_t width = sizes.width;
  source.require_biases(attention, {"q_proj", "k_proj", "v_proj", "dense"});
  source.require_biases(mlp, {"fc1", "fc2"});
  TransformerBlock::Plan plan;
  plan.norms = TransformerBlock::Norms::kParallel;
  plan.attention = {.heads = sizes.heads,
                    .kv_heads = sizes.kv_heads,
                    .head_width = sizes.head_width,
                    .causal = true,
                    .mode = source.attention()};
  plan.attention_site = attention + "attention";
  plan.qkv = source.query_key_value(attention, {"q_proj", "k_proj", "v_proj"}, width, sizes.kv_heads * sizes.head_width,
                                    width);
  plan.attention_output = source.lone_linear(attention + "dense", width, width);
  plan.attention_norm = source.layer_norm(path + "input_layernorm", width, sizes.eps);
  plan.inner = source.lone_linear(mlp + "fc1", sizes.feed_forward, width);
  plan.output = source.lone_linear(mlp + "fc2", width, sizes.feed_forward);
  plan.nonlinearity = sizes.nonlinearity;
  return plan;
}

}  // namespace

std::unique_ptr<Model> load_phi(const std::string& architecture, const WeightSource& source) {
  const Config& config = source.config();
  if (config.flag("qk_layernorm", false)) {
    fail<FormatError>("{}: a Phi that normalizes queries and keys (qk_layernorm) is not supported", config.source());
  }
  const std::string prefix = source.contains("final_layernorm.weight") ? "" : "model.";
  const Sizes sizes(config);
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.max_positions = config.integer("max_position_embeddings", {1, kLargestExtent});
  plan.embedding.words = prefix + "embed_tokens";
  plan.embedding.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.embedding.word_width = sizes.width;
  plan.rotary = read_rotary(config, sizes.head_width, {.share = 0.5});
  plan.blocks = read_block_count(config, "num_hidden_layers");
  plan.block_path = prefix + "layers";
  plan.block = [&](const std::string& path, int64_t) { return block_of(source, path, sizes); };
  plan.head.final_norm = source.layer_norm(prefix + "final_layernorm", sizes.width, sizes.eps);
  if (architecture == "PhiForCausalLM") {
    const bool tied = config.flag("tie_word_embeddings", false);
    plan.head.output = OutputKind::kTokenLogits;
    plan.head.vocabulary = {.layer = "lm_head", .tied = tied, .bias = "lm_head.bias"};
  }
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

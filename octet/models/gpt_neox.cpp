// SPDX-License-Identifier: Apache-2.0
#include "octet/models/gpt_neox.h"

#include "octet/models/model_config.h"
#include "octet/models/transformer.h"

namespace octet {
namespace {

struct Sizes {
  int64_t width, heads, head_width, feed_forward;
  float eps;
  Nonlinearity nonlinearity;
  bool parallel, attention_biases;

  explicit Sizes(const Config& config)
      : width(config.integer("hidden_size", {1, kLargestExtent})),
        heads(config.integer("num_attention_heads", {1, kLargestExtent})),
        head_width(read_head_width(config, "hidden_size", "num_attention_heads")),
        feed_forward(config.integer("intermediate_size", {1, kLargestExtent})),
        eps(static_cast<float>(config.number("layer_norm_eps", 1e-5))),
        nonlinearity(read_nonlinearity(config, "hidden_act", "gelu")),
        parallel(config.flag("use_parallel_residual", true)),
        attention_biases(config.flag("attention_bias", true)) {}
};

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes) {
  const std::string attention = path + "attention.", mlp = path + "mlp.";
  const int64_t width = sizes.width;
  if (sizes.attention_biases) source.require_biases(attention, {"query_key_value", "dense"});
  source.require_biases(mlp, {"dense_h_to_4h", "dense_4h_to_h"});
  TransformerBlock::Plan plan;
  plan.norms = sizes.parallel ? TransformerBlock::Norms::kParallel : TransformerBlock::Norms::kBefore;
  plan.attention = {.heads = sizes.heads,
                    .head_width = sizes.head_width,
                    .order = TransformerBlock::HeadOrder::kHeadByHead,
                    .causal = true,
                    .mode = source.attention()};
  plan.attention_site = attention + "attention";
  plan.qkv = source.lone_linear(attention + "query_key_value", 3 * width, width);
  plan.attention_output = source.lone_linear(attention + "dense", width, width);
  plan.attention_norm = source.layer_norm(path + "input_layernorm", width, sizes.eps);
  plan.inner = source.lone_linear(mlp + "dense_h_to_4h", sizes.feed_forward, width);
  plan.output = source.lone_linear(mlp + "dense_4h_to_h", width, sizes.feed_forward);
  plan.mlp_norm = source.layer_norm(path + "post_attention_layernorm", width, sizes.eps);
  plan.nonlinearity = sizes.nonlinearity;
  return plan;
}

}  // namespace

std::unique_ptr<Model> load_gpt_neox(const std::string& architecture, const WeightSource& source) {
  const Config& config = source.config();
  const std::string prefix = source.contains("final_layer_norm.weight") ? "" : "gpt_neox.";
  const Sizes sizes(config);
  // Named so before transformers 5.
  const RotaryDefaults rotary{.theta = config.number("rotary_emb_base", 10'000),
                              .share = config.number("rotary_pct", 0.25)};
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.max_positions = config.integer("max_position_embeddings", {1, kLargestExtent});
  plan.embedding.words = prefix + "embed_in";
  plan.embedding.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.embedding.word_width = sizes.width;
  plan.rotary = read_rotary(config, sizes.head_width, rotary);
  plan.blocks = read_block_count(config, "num_hidden_layers");
  plan.block_path = prefix + "layers";
  plan.block = [&](const std::string& path, int64_t) { return block_of(source, path, sizes); };
  plan.head.final_norm = source.layer_norm(prefix + "final_layer_norm", sizes.width, sizes.eps);
  if (architecture == "GPTNeoXForCausalLM") {
    const bool tied = config.flag("tie_word_embeddings", false);
    plan.head.output = OutputKind::kTokenLogits;
    // transformers 5 has it as lm_head, and writes the old name.
    plan.head.vocabulary = {.layer = source.contains_weight("lm_head") ? "lm_head" : "embed_out", .tied = tied};
  }
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/models/llama.h"

#include <utility>

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
        head_width(config.has("head_dim") ? config.integer("head_dim", {1, kLargestExtent})
                                          : read_head_width(config, "hidden_size", "num_attention_heads")),
        feed_forward(config.integer("intermediate_size", {1, kLargestExtent})),
        eps(static_cast<float>(config.number("rms_norm_eps", 1e-6))),
        nonlinearity(read_nonlinearity(config, "hidden_act", "silu")) {}
};

// Biases are read where they are stored; those that the architecture or the config promises must be.
void check_biases(const WeightSource& source, const std::string& path, bool is_qwen2) {
  const bool attention = source.config().flag("attention_bias", false);
  if (attention || is_qwen2) source.require_biases(path + "self_attn.", {"q_proj", "k_proj", "v_proj"});
  if (attention) source.require_biases(path + "self_attn.", {"o_proj"});
  if (source.config().flag("mlp_bias", false))
    source.require_biases(path + "mlp.", {"gate_proj", "up_proj", "down_proj"});
}

// Keys that a row of layer `index` sees, 0 for all: each layer's kind where the config lists them, else, as older
// ones say it, a window for all layers, or for those from max_window_layers on where use_sliding_window is there.
int64_t window_of(const Config& config, int64_t index) {
  if (!config.has("sliding_window")) return 0;
  const int64_t window = config.integer("sliding_window", {1, kLargestExtent});
  const std::vector<std::string> kinds = config.texts("layer_types");
  if (!kinds.empty()) {
    if (std::cmp_greater_equal(index, kinds.size())) {
      fail<FormatError>("{}: layer_types has {} entries, fewer than num_hidden_layers", config.source(), kinds.size());
    }
    const std::string& kind = kinds[static_cast<size_t>(index)];
    if (kind == "full_attention") return 0;
    if (kind == "sliding_attention") return window;
    fail<FormatError>("{}: layer_types holds '{}'; full_attention and sliding_attention are supported", config.source(),
                      kind);
  }
  if (!config.flag("use_sliding_window", true)) return 0;
  return index >= config.integer("max_window_layers", 0, {0, kLargestExtent}) ? window : 0;
}

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes,
                                int64_t window) {
  const std::string attention = path + "self_attn.", mlp = path + "mlp.";
  TransformerBlock::Plan plan;
  plan.norms = TransformerBlock::Norms::kBefore;
  plan.attention = {.heads = sizes.heads,
                    .kv_heads = sizes.kv_heads,
                    .head_width = sizes.head_width,
                    .causal = true,
                    .window = window,
                    .mode = source.attention()};
  plan.attention_site = attention + "attention";
  plan.qkv = source.query_key_value(attention, {"q_proj", "k_proj", "v_proj"}, sizes.heads * sizes.head_width,
                                    sizes.kv_heads * sizes.head_width, sizes.width);
  plan.attention_output = source.lone_linear(attention + "o_proj", sizes.width, sizes.heads * sizes.head_width);
  plan.attention_norm = source.rms_norm(path + "input_layernorm", sizes.width, sizes.eps);
  plan.inner = source.group(mlp, {"gate_proj", "up_proj"}, sizes.feed_forward, sizes.width);
  plan.output = source.lone_linear(mlp + "down_proj", sizes.width, sizes.feed_forward);
  plan.mlp_norm = source.rms_norm(path + "post_attention_layernorm", sizes.width, sizes.eps);
  plan.nonlinearity = sizes.nonlinearity;
  plan.gated = true;
  return plan;
}

}  // namespace

std::unique_ptr<Model> load_llama(const std::string& architecture, const WeightSource& source) {
  const Config& config = source.config();
  const std::string prefix = source.contains("norm.weight") ? "" : "model.";
  const Sizes sizes(config);
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.max_positions = config.integer("max_position_embeddings", {1, kLargestExtent});
  plan.embedding.words = prefix + "embed_tokens";
  plan.embedding.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.embedding.word_width = sizes.width;
  plan.rotary = read_rotary(config, sizes.head_width);
  plan.blocks = read_block_count(config, "num_hidden_layers");
  plan.block_path = prefix + "layers";
  plan.block = [&](const std::string& path, int64_t i) {
    check_biases(source, path, architecture.starts_with("Qwen2"));
    return block_of(source, path, sizes, window_of(config, i));
  };
  plan.head.final_norm = source.rms_norm(prefix + "norm", sizes.width, sizes.eps);
  if (architecture.ends_with("ForCausalLM")) {
    const bool tied = config.flag("tie_word_embeddings", false);
    plan.head.output = OutputKind::kTokenLogits;
    plan.head.vocabulary = {.layer = "lm_head", .tied = tied};
  }
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/models/gptj.h"

#include "octet/base/error.h"
#include "octet/models/model_config.h"
#include "octet/models/transformer.h"

namespace octet {
namespace {

struct Sizes {
  int64_t width, heads, head_width, feed_forward;
  float eps;
  Nonlinearity nonlinearity;

  explicit Sizes(const Config& config)
      : width(config.integer("n_embd", {1, kLargestExtent})),
        heads(config.integer("n_head", {1, kLargestExtent})),
        head_width(read_head_width(config, "n_embd", "n_head")),
        feed_forward(config.integer("n_inner", 4 * width, {1, 4 * kLargestExtent})),
        eps(static_cast<float>(config.number("layer_norm_epsilon", 1e-5))),
        nonlinearity(read_nonlinearity(config, "activation_function", "gelu_new")) {}
};

Rotary rotary_of(const Config& config, int64_t head_width) {
  const int64_t width = config.integer("rotary_dim", 64, {1, kLargestExtent});
  if (width > head_width || width % 2 != 0) {
    fail<FormatError>("{}: rotary_dim is {}; an even number up to the {} columns of a head is needed", config.source(),
                      width, head_width);
  }
  constexpr double kTheta = 10'000;
  return {rotary_frequencies(width, kTheta), 1, RotaryLayout::kNeighbours};
}

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes) {
  const std::string attention = path + "attn.", mlp = path + "mlp.";
  const int64_t width = sizes.width;
  source.require_biases(mlp, {"fc_in", "fc_out"});
  TransformerBlock::Plan plan;
  plan.norms = TransformerBlock::Norms::kParallel;
  plan.attention = {.heads = sizes.heads, .head_width = sizes.head_width, .causal = true, .mode = source.attention()};
  plan.attention_site = attention + "attention";
  plan.qkv = source.group(attention, {"q_proj", "k_proj", "v_proj"}, width, width);
  plan.attention_output = source.lone_linear(attention + "out_proj", width, width);
  plan.attention_norm = source.layer_norm(path + "ln_1", width, sizes.eps);
  plan.inner = source.lone_linear(mlp + "fc_in", sizes.feed_forward, width);
  plan.output = source.lone_linear(mlp + "fc_out", width, sizes.feed_forward);
  plan.nonlinearity = sizes.nonlinearity;
  return plan;
}

}  // namespace

std::unique_ptr<Model> load_gptj(const std::string& architecture, const WeightSource& source) {
  const Config& config = source.config();
  const std::string prefix = source.contains("ln_f.weight") ? "" : "transformer.";
  const Sizes sizes(config);
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.max_positions = config.integer("n_positions", {1, kLargestExtent});
  plan.embedding.words = prefix + "wte";
  plan.embedding.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.embedding.word_width = sizes.width;
  plan.rotary = rotary_of(config, sizes.head_width);
  plan.blocks = read_block_count(config, "n_layer");
  plan.block_path = prefix + "h";
  plan.block = [&](const std::string& path, int64_t) { return block_of(source, path, sizes); };
  plan.head.final_norm = source.layer_norm(prefix + "ln_f", sizes.width, sizes.eps);
  if (architecture == "GPTJForCausalLM") {
    const bool tied = config.flag("tie_word_embeddings", false);
    plan.head.output = OutputKind::kTokenLogits;
    plan.head.vocabulary = {.layer = "lm_head", .tied = tied, .bias = "lm_head.bias"};
  }
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/models/gpt2.h"

#include <cmath>

#include "octet/base/error.h"
#include "octet/models/model_config.h"
#include "octet/models/transformer.h"

namespace octet {
namespace {

struct Sizes {
  int64_t width, heads, head_width, feed_forward;
  float eps;
  Nonlinearity nonlinearity;
  bool scale_by_width, scale_by_layer;  // of attention scores: 1 / √head_width, 1 / (layer + 1)

  explicit Sizes(const Config& config)
      : width(config.integer("n_embd", {1, kLargestExtent})),
        heads(config.integer("n_head", {1, kLargestExtent})),
        head_width(read_head_width(config, "n_embd", "n_head")),
        feed_forward(config.integer("n_inner", 4 * width, {1, 4 * kLargestExtent})),
        eps(static_cast<float>(config.number("layer_norm_epsilon", 1e-5))),
        nonlinearity(read_nonlinearity(config, "activation_function", "gelu_new")),
        scale_by_width(config.flag("scale_attn_weights", true)),
        scale_by_layer(config.flag("scale_attn_by_inverse_layer_idx", false)) {}

  float scale(int64_t layer) const {
    const float by_width = scale_by_width ? 1.0f / std::sqrt(static_cast<float>(head_width)) : 1.0f;
    return scale_by_layer ? by_width / static_cast<float>(layer + 1) : by_width;
  }
};

// GPT-2's files hold weights as [in, out].
std::vector<Linear::Part> turned(const WeightSource& source, const std::string& layer, int64_t outputs,
                                 int64_t inputs) {
  return source.lone_linear(layer, outputs, inputs, WeightSource::Role::kBlock, WeightSource::Storage::kInOut);
}

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes,
                                int64_t layer) {
  const int64_t width = sizes.width;
  source.require_biases(path, {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"});
  TransformerBlock::Plan plan;
  plan.norms = TransformerBlock::Norms::kBefore;
  plan.attention = {.heads = sizes.heads,
                    .head_width = sizes.head_width,
                    .scale = sizes.scale(layer),
                    .causal = true,
                    .mode = source.attention()};
  plan.attention_site = path + "attn.attention";
  plan.qkv = turned(source, path + "attn.c_attn", 3 * width, width);
  plan.attention_output = turned(source, path + "attn.c_proj", width, width);
  plan.attention_norm = source.layer_norm(path + "ln_1", width, sizes.eps);
  plan.inner = turned(source, path + "mlp.c_fc", sizes.feed_forward, width);
  plan.output = turned(source, path + "mlp.c_proj", width, sizes.feed_forward);
  plan.mlp_norm = source.layer_norm(path + "ln_2", width, sizes.eps);
  plan.nonlinearity = sizes.nonlinearity;
  return plan;
}

}  // namespace

std::unique_ptr<Model> load_gpt2(const std::string& architecture, const WeightSource& source) {
  const Config& config = source.config();
  if (config.flag("add_cross_attention", false)) {
    fail<FormatError>("{}: a GPT-2 with cross-attention is not supported", config.source());
  }
  const std::string prefix = source.contains("wpe.weight") ? "" : "transformer.";
  const Sizes sizes(config);
  const int64_t positions = config.integer("n_positions", {1, kLargestExtent});
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.max_positions = positions;
  plan.embedding.words = prefix + "wte";
  plan.embedding.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.embedding.word_width = sizes.width;
  plan.embedding.positions = Embedding(prefix + "wpe", source.tensor(prefix + "wpe.weight", {positions, sizes.width}));
  plan.blocks = read_block_count(config, "n_layer");
  plan.block_path = prefix + "h";
  plan.block = [&](const std::string& path, int64_t i) { return block_of(source, path, sizes, i); };
  plan.head.final_norm = source.layer_norm(prefix + "ln_f", sizes.width, sizes.eps);
  if (architecture == "GPT2LMHeadModel") {
    const bool tied = config.flag("tie_word_embeddings", true);
    plan.head.output = OutputKind::kTokenLogits;
    plan.head.vocabulary = {.layer = "lm_head", .tied = tied};
  }
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

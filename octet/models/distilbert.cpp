// SPDX-License-Identifier: Apache-2.0
#include "octet/models/distilbert.h"

#include "octet/models/encoder_heads.h"
#include "octet/models/model_config.h"

namespace octet {
namespace {

// As transformers has it, for configs do not say.
constexpr float kEps = 1e-12f;

struct Sizes {
  int64_t width, heads, head_width, feed_forward;
  Nonlinearity nonlinearity;

  explicit Sizes(const Config& config)
      : width(config.integer("dim", {1, kLargestExtent})),
        heads(config.integer("n_heads", {1, kLargestExtent})),
        head_width(read_head_width(config, "dim", "n_heads")),
        feed_forward(config.integer("hidden_dim", {1, kLargestExtent})),
        nonlinearity(read_nonlinearity(config, "activation", "gelu")) {}
};

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes) {
  const std::string attention = path + "attention.", mlp = path + "ffn.";
  const int64_t width = sizes.width;
  source.require_biases(attention, {"q_lin", "k_lin", "v_lin", "out_lin"});
  source.require_biases(mlp, {"lin1", "lin2"});
  TransformerBlock::Plan plan;
  plan.norms = TransformerBlock::Norms::kAfter;
  plan.attention = {.heads = sizes.heads, .head_width = sizes.head_width, .mode = source.attention()};
  plan.attention_site = attention + "attention";
  plan.qkv = source.group(attention, {"q_lin", "k_lin", "v_lin"}, width, width);
  plan.attention_output = source.lone_linear(attention + "out_lin", width, width);
  plan.attention_norm = source.layer_norm(path + "sa_layer_norm", width, kEps);
  plan.inner = source.lone_linear(mlp + "lin1", sizes.feed_forward, width);
  plan.output = source.lone_linear(mlp + "lin2", width, sizes.feed_forward);
  plan.mlp_norm = source.layer_norm(path + "output_layer_norm", width, kEps);
  plan.nonlinearity = sizes.nonlinearity;
  return plan;
}

Transformer::HeadPlan head_of(const WeightSource& source, const std::string& architecture, const Sizes& sizes) {
  const int64_t width = sizes.width;
  if (architecture == "DistilBertForSequenceClassification")
    return sequence_head(source, {"pre_classifier", width, Nonlinearity::kRelu}, "classifier", width);
  if (architecture == "DistilBertForQuestionAnswering") return token_head(source, "qa_outputs", 2, width);
  if (architecture == "DistilBertForMaskedLM") {
    return masked_lm_head(source, {"vocab_transform", width, sizes.nonlinearity}, width,
                          source.layer_norm("vocab_layer_norm", width, kEps), "vocab_projector",
                          "vocab_projector.bias");
  }
  return {};
}

}  // namespace

std::unique_ptr<Model> load_distilbert(const std::string& architecture, const WeightSource& source) {
  const Config& config = source.config();
  const std::string prefix = source.contains("embeddings.position_embeddings.weight") ? "" : "distilbert.";
  const std::string embeddings = prefix + "embeddings.";
  const Sizes sizes(config);
  const int64_t positions = config.integer("max_position_embeddings", {1, kLargestExtent});
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.max_positions = positions;
  plan.embedding.words = embeddings + "word_embeddings";
  plan.embedding.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.embedding.word_width = sizes.width;
  plan.embedding.positions =
      Embedding(embeddings + "position_embeddings",
                source.tensor(embeddings + "position_embeddings.weight", {positions, sizes.width}));
  plan.embedding.norm = source.layer_norm(embeddings + "LayerNorm", sizes.width, kEps);
  plan.blocks = read_block_count(config, "n_layers");
  plan.block_path = prefix + "transformer.layer";
  plan.block = [&](const std::string& path, int64_t) { return block_of(source, path, sizes); };
  plan.head = head_of(source, architecture, sizes);
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/models/bert.h"

#include <array>
#include <utility>

#include "octet/base/error.h"
#include "octet/models/encoder_heads.h"
#include "octet/models/model_config.h"

namespace octet {
namespace {

enum class Family : uint8_t { kBert, kRoberta, kElectra };

struct FamilyName {
  std::string_view architecture;  // what architectures begin with
  std::string_view prefix;        // of tensors, in files of models with a head
  Family family;
};

const FamilyName& family_of(const std::string& architecture) {
  static constexpr std::array<FamilyName, 4> kFamilies = {{{"Bert", "bert.", Family::kBert},
                                                           {"Roberta", "roberta.", Family::kRoberta},
                                                           {"XLMRoberta", "roberta.", Family::kRoberta},
                                                           {"Electra", "electra.", Family::kElectra}}};
  for (const FamilyName& name : kFamilies) {
    if (architecture.starts_with(name.architecture)) return name;
  }
  fail<FormatError>("the architecture '{}' is no BERT", architecture);
}

struct Sizes {
  int64_t width, heads, head_width, feed_forward;
  float eps;
  Nonlinearity nonlinearity;
  int64_t word_width;

  Sizes(const Config& config, Family family)
      : width(config.integer("hidden_size", {1, kLargestExtent})),
        heads(config.integer("num_attention_heads", {1, kLargestExtent})),
        head_width(read_head_width(config, "hidden_size", "num_attention_heads")),
        feed_forward(config.integer("intermediate_size", {1, kLargestExtent})),
        eps(static_cast<float>(config.number("layer_norm_eps", 1e-12))),
        nonlinearity(read_nonlinearity(config, "hidden_act", "gelu")),
        word_width(family == Family::kElectra ? config.integer("embedding_size", 128, {1, kLargestExtent}) : width) {
    const std::string positions = config.text("position_embedding_type", "absolute");
    if (positions != "absolute") {
      fail<FormatError>("{}: position_embedding_type is '{}'; Octet's BERT has absolute positions only",
                        config.source(), positions);
    }
    if (config.flag("is_decoder", false))
      fail<FormatError>("{}: a BERT that is a decoder is not supported", config.source());
  }
};

TransformerBlock::Plan block_of(const WeightSource& source, const std::string& path, const Sizes& sizes) {
  const std::string attention = path + "attention.";
  const int64_t width = sizes.width;
  source.require_biases(path, {"attention.self.query", "attention.self.key", "attention.self.value",
                               "attention.output.dense", "intermediate.dense", "output.dense"});
  TransformerBlock::Plan plan;
  plan.norms = TransformerBlock::Norms::kAfter;
  plan.attention = {.heads = sizes.heads, .head_width = sizes.head_width, .mode = source.attention()};
  plan.attention_site = attention + "self.attention";
  plan.qkv = source.group(attention + "self.", {"query", "key", "value"}, width, width);
  plan.attention_output = source.lone_linear(attention + "output.dense", width, width);
  plan.attention_norm = source.layer_norm(attention + "output.LayerNorm", width, sizes.eps);
  plan.inner = source.lone_linear(path + "intermediate.dense", sizes.feed_forward, width);
  plan.output = source.lone_linear(path + "output.dense", width, sizes.feed_forward);
  plan.mlp_norm = source.layer_norm(path + "output.LayerNorm", width, sizes.eps);
  plan.nonlinearity = sizes.nonlinearity;
  return plan;
}

Transformer::EmbeddingPlan embedding_of(const WeightSource& source, const std::string& prefix, Family family,
                                        const Sizes& sizes) {
  const Config& config = source.config();
  const std::string path = prefix + "embeddings.";
  const auto table = [&](const char* name, const char* entries_key) {
    const int64_t entries = config.integer(entries_key, {1, kLargestExtent});
    return Embedding(path + name, source.tensor(path + name + ".weight", {entries, sizes.word_width}));
  };
  Transformer::EmbeddingPlan plan;
  plan.words = path + "word_embeddings";
  plan.vocabulary = config.integer("vocab_size", {1, kLargestExtent});
  plan.word_width = sizes.word_width;
  plan.types = table("token_type_embeddings", "type_vocab_size");
  plan.positions = table("position_embeddings", "max_position_embeddings");
  plan.norm = source.layer_norm(path + "LayerNorm", sizes.word_width, sizes.eps);
  if (family == Family::kRoberta) {
    const int64_t longest = plan.positions->entries() - 2;
    plan.numbering = Transformer::Numbering::kExceptForPadding;
    plan.padding_id = static_cast<int32_t>(config.integer("pad_token_id", 1, {0, longest}));
  }
  if (sizes.word_width != sizes.width) {
    source.require_biases(prefix, {"embeddings_project"});
    plan.project = source.lone_linear(prefix + "embeddings_project", sizes.width, sizes.word_width);
  }
  return plan;
}

// Its outputs are the hidden states; a pooler is known, so that written files keep it.
Transformer::HeadPlan no_head(const WeightSource& source, const std::string& pooler, int64_t width) {
  Transformer::HeadPlan plan;
  if (source.contains(pooler + ".weight"))
    plan.kept = source.lone_linear(pooler, width, width, WeightSource::Role::kHead);
  return plan;
}

Transformer::HeadPlan classification_head(const WeightSource& source, const std::string& prefix, Family family,
                                          int64_t width) {
  switch (family) {
    case Family::kBert:
      return sequence_head(source, {prefix + "pooler.dense", width, Nonlinearity::kTanh}, "classifier", width);
    case Family::kRoberta:
      return sequence_head(source, {"classifier.dense", width, Nonlinearity::kTanh}, "classifier.out_proj", width);
    case Family::kElectra:
      return sequence_head(source, {"classifier.dense", width, Nonlinearity::kGelu}, "classifier.out_proj", width);
  }
  return {};
}

Transformer::HeadPlan masked_head(const WeightSource& source, Family family, const Sizes& sizes) {
  const int64_t words = sizes.word_width, width = sizes.width;
  const auto norm = [&](const char* layer) { return source.layer_norm(layer, words, sizes.eps); };
  switch (family) {
    case Family::kBert:
      return masked_lm_head(source, {"cls.predictions.transform.dense", words, sizes.nonlinearity}, width,
                            norm("cls.predictions.transform.LayerNorm"), "cls.predictions.decoder",
                            "cls.predictions.bias");
    case Family::kRoberta:
      return masked_lm_head(source, {"lm_head.dense", words, Nonlinearity::kGelu}, width, norm("lm_head.layer_norm"),
                            "lm_head.decoder", "lm_head.bias");
    case Family::kElectra:
      return masked_lm_head(source, {"generator_predictions.dense", words, Nonlinearity::kGelu}, width,
                            norm("generator_predictions.LayerNorm"), "generator_lm_head", "generator_lm_head.bias");
  }
  return {};
}

Transformer::HeadPlan head_of(const WeightSource& source, std::string_view task, const std::string& prefix,
                              Family family, const Sizes& sizes) {
  if (task == "ForSequenceClassification") return classification_head(source, prefix, family, sizes.width);
  if (task == "ForQuestionAnswering") return token_head(source, "qa_outputs", 2, sizes.width);
  if (task == "ForMaskedLM") return masked_head(source, family, sizes);
  if (task == "ForPreTraining") {
    return token_head(source, "discriminator_predictions.dense_prediction", 1, sizes.width,
                      HeadLayer{"discriminator_predictions.dense", sizes.width, sizes.nonlinearity});
  }
  return no_head(source, prefix + "pooler.dense", sizes.width);
}

}  // namespace

std::unique_ptr<Model> load_bert(const std::string& architecture, const WeightSource& source) {
  const FamilyName& name = family_of(architecture);
  const std::string prefix(source.contains("embeddings.position_embeddings.weight") ? "" : name.prefix);
  const Sizes sizes(source.config(), name.family);
  Transformer::Plan plan;
  plan.architecture = architecture;
  plan.width = sizes.width;
  plan.embedding = embedding_of(source, prefix, name.family, sizes);
  plan.max_positions = plan.embedding.positions->entries();
  if (name.family == Family::kRoberta) plan.max_positions -= plan.embedding.padding_id + 1;
  plan.blocks = read_block_count(source.config(), "num_hidden_layers");
  plan.block_path = prefix + "encoder.layer";
  plan.block = [&](const std::string& path, int64_t) { return block_of(source, path, sizes); };
  plan.head =
      head_of(source, std::string_view(architecture).substr(name.architecture.size()), prefix, name.family, sizes);
  return std::make_unique<Transformer>(source, std::move(plan));
}

}  // namespace octet

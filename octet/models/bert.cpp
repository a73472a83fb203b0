// SPDX-License-Identifier: Apache-2.0
#include "octet/models/bert.h"

#include <array>
#include <cmath>
#include <type_traits>
#include <utility>

#include "octet/base/error.h"
#include "octet/models/model_config.h"
#include "octet/nn/token_embedding.h"

namespace octet {
namespace {

struct Sizes {
  int64_t width, heads, feed_forward;
  float eps;
  Nonlinearity nonlinearity;
};

// One encoder layer, normalization after each residual sum:
//   x = norm₁(attention(x) + x),   x = norm₂(W₂ · gelu(W₁ · x) + x)
class BertBlock {
 public:
  BertBlock(const WeightSource& source, const std::string& path, const Sizes& sizes, QuantSites& sites)
      : heads_(sizes.heads),
        head_width_(sizes.width / sizes.heads),
        nonlinearity_(sizes.nonlinearity),
        qkv_(attention_inputs(source, path + ".attention.self.", sizes.width), sites),
        attention_site_(sites.add(path + ".attention.self.attention", source.attention())),
        attention_output_(source.lone_linear(path + ".attention.output.dense", sizes.width, sizes.width), sites),
        attention_norm_(source.layer_norm(path + ".attention.output.LayerNorm", sizes.width, sizes.eps)),
        intermediate_(source.lone_linear(path + ".intermediate.dense", sizes.feed_forward, sizes.width), sites),
        output_(source.lone_linear(path + ".output.dense", sizes.width, sizes.feed_forward), sites),
        output_norm_(source.layer_norm(path + ".output.LayerNorm", sizes.width, sizes.eps)) {}

  void forward(Context& context, const DeviceBatch& batch, const Activation& x) const {
    const Workspace::Scope scope(context.workspace);
    {
      const Workspace::Scope attention_scope(context.workspace);
      const Activation qkv = context.workspace.take_matrix(x.rows, 3 * x.cols);
      const Activation mixed = context.workspace.take_matrix(x.rows, x.cols, attention_output_.input_codes());
      qkv_.forward(context, x, qkv);
      context.backend.attention({.q = qkv.columns(0, x.cols),
                                 .k = qkv.columns(x.cols, x.cols),
                                 .v = qkv.columns(2 * x.cols, x.cols),
                                 .y = mixed,
                                 .heads = heads_,
                                 .kv_heads = heads_,
                                 .head_width = head_width_,
                                 .scale = 1.0f / std::sqrt(static_cast<float>(head_width_)),
                                 .offsets = batch.offsets,
                                 .sequences = batch.host.sequences(),
                                 .longest = batch.host.longest(),
                                 .activations = attention_site_.mode,
                                 .site = attention_site_.id});
      attention_output_.forward(context, mixed, x, Nonlinearity::kNone, x);
    }
    const Activation inner = context.workspace.take_matrix(x.rows, intermediate_.outputs(), output_.input_codes());
    intermediate_.forward(context, attention_norm_.rows(x), x, inner, nonlinearity_);
    output_.forward(context, inner, x, Nonlinearity::kNone, x);
    output_norm_.forward(context, x, x);
  }

  /// Calls visit(layer) for every linear layer and normalization, in the order of the forward pass; Self is const or
  /// not.
  template <class Self, class Visit>
  static void visit(Self& self, Visit&& visit) {
    visit(self.qkv_);
    visit(self.attention_output_);
    visit(self.attention_norm_);
    visit(self.intermediate_);
    visit(self.output_);
    visit(self.output_norm_);
  }

 private:
  static std::vector<Linear::Part> attention_inputs(const WeightSource& source, const std::string& path,
                                                    int64_t width) {
    std::vector<Linear::Part> parts;
    for (const char* name : {"query", "key", "value"}) parts.push_back(source.linear(path + name, width, width));
    return parts;
  }

  int64_t heads_, head_width_;
  Nonlinearity nonlinearity_;
  Linear qkv_;
  QuantSite attention_site_;
  Linear attention_output_;
  LayerNorm attention_norm_;
  Linear intermediate_, output_;
  LayerNorm output_norm_;
};

// Where the encoder ends. Linear layers of a head stay float.
class BertHead {
 public:
  virtual ~BertHead() = default;
  virtual Activation forward(Context& context, const DeviceBatch& batch, const Activation& x) const = 0;
  virtual std::vector<Linear*> linears() = 0;
  virtual std::vector<LayerNorm*> norms() { return {}; }
  virtual bool runs() const { return true; }  ///< false: its layers are in the checkpoint, but no output needs them
};

Linear head_linear(const WeightSource& source, const std::string& layer, int64_t outputs, int64_t inputs,
                   QuantSites& sites) {
  return {source.lone_linear(layer, outputs, inputs, WeightSource::Role::kHead), sites};
}

// A head's number of outputs is what its weight says: config.json's label maps are often left out.
int64_t outputs_of(const WeightSource& source, const std::string& layer, int64_t inputs) {
  const Tensor weight = source.tensor(layer + ".weight");
  if (weight.shape().rank() != 2 || weight.shape()[1] != inputs || weight.shape()[0] == 0) {
    fail<ShapeError>("{}: tensor '{}.weight' has the shape {}; [labels, {}] is needed", source.config().source(), layer,
                     to_string(weight.shape()), inputs);
  }
  return weight.shape()[0];
}

// BertModel's own end: the hidden states as they are. Its pooler is known, so that files keep it, and not run.
class NoHead : public BertHead {
 public:
  NoHead(const WeightSource& source, const std::string& prefix, int64_t width, QuantSites& sites) {
    const std::string layer = prefix + "pooler.dense";
    if (source.contains(layer + ".weight")) pooler_.emplace_back(head_linear(source, layer, width, width, sites));
  }
  Activation forward(Context&, const DeviceBatch&, const Activation& x) const override { return x; }
  std::vector<Linear*> linears() override {
    return pooler_.empty() ? std::vector<Linear*>{} : std::vector{&pooler_.front()};
  }
  bool runs() const override { return false; }

 private:
  std::vector<Linear> pooler_;  ///< none or one
};

// logits = W · tanh(P · x[first token] + p) + b
class SequenceClassification : public BertHead {
 public:
  SequenceClassification(const WeightSource& source, const std::string& prefix, int64_t width, QuantSites& sites)
      : pooler_(head_linear(source, prefix + "pooler.dense", width, width, sites)),
        classifier_(head_linear(source, "classifier", outputs_of(source, "classifier", width), width, sites)) {}

  Activation forward(Context& context, const DeviceBatch& batch, const Activation& x) const override {
    const int64_t sequences = batch.host.sequences();
    const Activation logits = context.workspace.take_matrix(sequences, classifier_.outputs());
    const Workspace::Scope scope(context.workspace);
    const Activation first = context.workspace.take_matrix(sequences, x.cols);
    const Activation pooled = context.workspace.take_matrix(sequences, x.cols);
    context.backend.pool({.x = x, .offsets = batch.offsets, .pooling = Pooling::kFirst, .y = first});
    pooler_.forward(context, first, pooled, Nonlinearity::kTanh);
    classifier_.forward(context, pooled, logits);
    return logits;
  }
  std::vector<Linear*> linears() override { return {&pooler_, &classifier_}; }

 private:
  Linear pooler_, classifier_;
};

// Column 0 scores a token as the answer's start, column 1 as its end.
class QuestionAnswering : public BertHead {
 public:
  QuestionAnswering(const WeightSource& source, int64_t width, QuantSites& sites)
      : outputs_(head_linear(source, "qa_outputs", 2, width, sites)) {}

  Activation forward(Context& context, const DeviceBatch&, const Activation& x) const override {
    const Activation logits = context.workspace.take_matrix(x.rows, outputs_.outputs());
    outputs_.forward(context, x, logits);
    return logits;
  }
  std::vector<Linear*> linears() override { return {&outputs_}; }

 private:
  Linear outputs_;
};

// logits = E · norm(gelu(T · x + t)) + b, where E is the word embedding unless the checkpoint has a decoder of its own.
class MaskedLm : public BertHead {
 public:
  /// `words` is the word embedding as a product where it is quantized and the decoder is tied to it, else null.
  MaskedLm(const WeightSource& source, const std::string& prefix, const Sizes& sizes, int64_t vocabulary,
           const Linear* words, QuantSites& sites)
      : nonlinearity_(sizes.nonlinearity),
        transform_(head_linear(source, "cls.predictions.transform.dense", sizes.width, sizes.width, sites)),
        norm_(source.layer_norm("cls.predictions.transform.LayerNorm", sizes.width, sizes.eps)),
        words_(words) {
    if (words != nullptr) return;
    std::vector<Linear::Part> parts = source.vocabulary_head(
        kDecoder, prefix + "embeddings.word_embeddings", vocabulary, sizes.width, /*tied=*/!has_own_decoder(source));
    parts.front().bias = source.tensor(kBias, {vocabulary});
    decoder_.emplace(std::move(parts), sites);
  }

  static constexpr const char* kDecoder = "cls.predictions.decoder";
  static constexpr const char* kBias = "cls.predictions.bias";

  static bool has_own_decoder(const WeightSource& source) {
    return !source.config().flag("tie_word_embeddings", true) &&
           (source.contains(fmt::format("{}.weight", kDecoder)) ||
            source.contains(fmt::format("{}.weight_packed", kDecoder)));
  }

  Activation forward(Context& context, const DeviceBatch&, const Activation& x) const override {
    const Linear& decoder = decoder_ ? *decoder_ : *words_;
    const Activation logits = context.workspace.take_matrix(x.rows, decoder.outputs());
    const Workspace::Scope scope(context.workspace);
    const Activation inner = context.workspace.take_matrix(x.rows, x.cols);
    transform_.forward(context, x, inner, nonlinearity_);
    norm_.forward(context, inner, inner);
    decoder.forward(context, inner, logits);
    return logits;
  }
  std::vector<Linear*> linears() override {
    return decoder_ ? std::vector{&transform_, &*decoder_} : std::vector{&transform_};
  }
  std::vector<LayerNorm*> norms() override { return {&norm_}; }

 private:
  Nonlinearity nonlinearity_;
  Linear transform_;
  LayerNorm norm_;
  const Linear* words_;
  std::optional<Linear> decoder_;
};

class Bert : public Model {
 public:
  Bert(const std::string& architecture, const WeightSource& source)
      : prefix_(source.contains("embeddings.position_embeddings.weight") ? "" : "bert."),
        sizes_(read_sizes(source.config())),
        words_(word_embedding(source, architecture), sites_),
        positions_(table(source, "position_embeddings",
                         source.config().integer("max_position_embeddings", {1, kLargestExtent}))),
        types_(table(source, "token_type_embeddings", source.config().integer("type_vocab_size", {1, kLargestExtent}))),
        embedding_norm_(source.layer_norm(prefix_ + "embeddings.LayerNorm", sizes_.width, sizes_.eps)) {
    const int64_t blocks = source.config().integer("num_hidden_layers", {0, 10'000});
    for (int64_t i = 0; i < blocks; ++i) {
      blocks_.emplace_back(source, fmt::format("{}encoder.layer.{}", prefix_, i), sizes_, sites_);
    }
    info_ = {.architecture = architecture,
             .vocabulary = words_.entries(),
             .token_types = types_.table().shape()[0],
             .max_positions = positions_.table().shape()[0],
             .width = sizes_.width,
             .blocks = blocks,
             .output = OutputKind::kHiddenStates,
             .attention = source.attention()};
    if (architecture == "BertForSequenceClassification") {
      info_.output = OutputKind::kSequenceLogits;
      head_ = std::make_unique<SequenceClassification>(source, prefix_, sizes_.width, sites_);
    } else if (architecture == "BertForQuestionAnswering") {
      info_.output = OutputKind::kTokenLogits;
      head_ = std::make_unique<QuestionAnswering>(source, sizes_.width, sites_);
    } else if (architecture == "BertForMaskedLM") {
      info_.output = OutputKind::kTokenLogits;
      const Linear* tied = MaskedLm::has_own_decoder(source) ? nullptr : words_.linear();
      head_ = std::make_unique<MaskedLm>(source, prefix_, sizes_, info_.vocabulary, tied, sites_);
    } else {
      head_ = std::make_unique<NoHead>(source, prefix_, sizes_.width, sites_);
    }
  }

  std::vector<const Linear*> linears() const override {
    std::vector<const Linear*> all;
    if (words_.linear() != nullptr) all.push_back(words_.linear());
    for (const BertBlock& block : blocks_) {
      BertBlock::visit(block, [&](const auto& layer) {
        if constexpr (std::is_same_v<decltype(layer), const Linear&>) all.push_back(&layer);
      });
    }
    for (const Linear* linear : head_->linears()) all.push_back(linear);
    return all;
  }

  // Normalizations feed the residual sum as well, so only values remain.
  std::vector<FoldPair> fold_pairs() const override {
    std::vector<FoldPair> pairs;
    for (int64_t i = 0; i < info_.blocks; ++i) {
      const std::string path = fmt::format("{}encoder.layer.{}.attention.", prefix_, i);
      pairs.push_back({path + "self.value", {path + "output.dense"}});
    }
    return pairs;
  }

  void prepare(Backend& backend) override {
    words_.prepare(backend);
    for (Embedding* table : {&positions_, &types_}) table->prepare(backend);
    embedding_norm_.prepare(backend);
    for (BertBlock& block : blocks_) {
      BertBlock::visit(block, [&](auto& layer) { layer.prepare(backend); });
    }
    if (!head_->runs()) return;
    for (Linear* linear : head_->linears()) linear->prepare(backend);
    for (LayerNorm* norm : head_->norms()) norm->prepare(backend);
  }

  int64_t packed_bytes() const override {
    int64_t bytes = words_.packed_bytes() + embedding_norm_.packed_bytes();
    for (const BertBlock& block : blocks_) {
      BertBlock::visit(block, [&](const auto& layer) { bytes += layer.packed_bytes(); });
    }
    for (const Linear* linear : head_->linears()) bytes += linear->packed_bytes();
    for (const LayerNorm* norm : head_->norms()) bytes += norm->packed_bytes();
    return bytes;
  }

  Activation embed(Context& context, const DeviceBatch& batch) const override {
    const Activation x = context.workspace.take_matrix(batch.host.tokens(), sizes_.width);
    const std::array<EmbedOp::Lookup, 3> lookups = {words_.lookup(batch.ids), types_.lookup(batch.type_ids),
                                                    positions_.lookup(batch.positions)};
    context.backend.embed({.lookups = lookups, .y = x});
    embedding_norm_.forward(context, x, x);
    return x;
  }

  void run_block(Context& context, int64_t index, const DeviceBatch& batch, const Activation& x) const override {
    blocks_.at(static_cast<size_t>(index)).forward(context, batch, x);
  }

  Activation head(Context& context, const DeviceBatch& batch, const Activation& x) const override {
    return head_->forward(context, batch, x);
  }

 private:
  static Sizes read_sizes(const Config& config) {
    const std::string positions = config.text("position_embedding_type", "absolute");
    if (positions != "absolute") {
      fail<FormatError>("{}: position_embedding_type is '{}'; Octet's BERT has absolute positions only",
                        config.source(), positions);
    }
    if (config.flag("is_decoder", false))
      fail<FormatError>("{}: a BERT that is a decoder is not supported", config.source());
    const Sizes sizes{.width = config.integer("hidden_size", {1, kLargestExtent}),
                      .heads = config.integer("num_attention_heads", {1, kLargestExtent}),
                      .feed_forward = config.integer("intermediate_size", {1, kLargestExtent}),
                      .eps = static_cast<float>(config.number("layer_norm_eps", 1e-12)),
                      .nonlinearity = read_nonlinearity(config, "hidden_act", "gelu")};
    if (sizes.width % sizes.heads != 0) {
      fail<FormatError>("{}: hidden_size {} is not a multiple of num_attention_heads {}", config.source(), sizes.width,
                        sizes.heads);
    }
    return sizes;
  }
  static int64_t vocabulary(const Config& config) { return config.integer("vocab_size", {1, kLargestExtent}); }

  // A masked-LM head that is tied to the table adds a bias to its product.
  Linear::Part word_embedding(const WeightSource& source, const std::string& architecture) const {
    const int64_t entries = vocabulary(source.config());
    const bool tied = architecture == "BertForMaskedLM" && !MaskedLm::has_own_decoder(source);
    Linear::Part part = source.embedding(prefix_ + "embeddings.word_embeddings", entries, sizes_.width, tied);
    if (tied && part.weight.scheme) part.bias = source.tensor(MaskedLm::kBias, {entries});
    return part;
  }

  Embedding table(const WeightSource& source, const std::string& name, int64_t entries) const {
    return Embedding(source.tensor(prefix_ + "embeddings." + name + ".weight", {entries, sizes_.width}));
  }

  std::string prefix_;
  Sizes sizes_;
  TokenEmbedding words_;
  Embedding positions_, types_;
  LayerNorm embedding_norm_;
  std::vector<BertBlock> blocks_;
  std::unique_ptr<BertHead> head_;
};

}  // namespace

std::unique_ptr<Model> load_bert(const std::string& architecture, const WeightSource& source) {
  return std::make_unique<Bert>(architecture, source);
}

}  // namespace octet

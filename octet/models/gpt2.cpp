// SPDX-License-Identifier: Apache-2.0
#include "octet/models/gpt2.h"

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
  bool scale_by_width, scale_by_layer;  // of attention scores: 1 / √head_width, 1 / (layer + 1)
};

// One decoder layer, normalization before each part:
//   x = x + Wₒ · attention(W_qkv · norm₁(x)),   x = x + W₂ · gelu(W₁ · norm₂(x))
class Gpt2Block {
 public:
  Gpt2Block(const WeightSource& source, const std::string& path, const Sizes& sizes, int64_t layer, QuantSites& sites)
      : sizes_(sizes),
        layer_(layer),
        attention_norm_(source.layer_norm(path + ".ln_1", sizes.width, sizes.eps)),
        qkv_(turned(source, path + ".attn.c_attn", 3 * sizes.width, sizes.width), sites),
        attention_site_(sites.add(path + ".attn.attention", source.attention())),
        attention_output_(turned(source, path + ".attn.c_proj", sizes.width, sizes.width), sites),
        mlp_norm_(source.layer_norm(path + ".ln_2", sizes.width, sizes.eps)),
        intermediate_(turned(source, path + ".mlp.c_fc", sizes.feed_forward, sizes.width), sites),
        output_(turned(source, path + ".mlp.c_proj", sizes.width, sizes.feed_forward), sites) {}

  void forward(Context& context, const DeviceBatch& batch, const Activation& x) const {
    const Workspace::Scope scope(context.workspace);
    {
      const Workspace::Scope attention_scope(context.workspace);
      const Activation qkv = context.workspace.take_matrix(x.rows, 3 * x.cols);
      const Activation mixed = context.workspace.take_matrix(x.rows, x.cols, attention_output_.input_codes());
      qkv_.forward(context, attention_norm_.rows(), x, qkv);
      context.backend.attention({.q = qkv.columns(0, x.cols),
                                 .k = qkv.columns(x.cols, x.cols),
                                 .v = qkv.columns(2 * x.cols, x.cols),
                                 .y = mixed,
                                 .heads = sizes_.heads,
                                 .kv_heads = sizes_.heads,
                                 .head_width = head_width(),
                                 .scale = scale(),
                                 .offsets = batch.offsets,
                                 .sequences = batch.host.sequences(),
                                 .longest = batch.host.longest(),
                                 .causal = true,
                                 .window = 0,
                                 .cache = batch.kv ? std::optional(batch.kv->layer(layer_)) : std::nullopt,
                                 .activations = attention_site_.mode,
                                 .site = attention_site_.id});
      attention_output_.forward(context, mixed, x, Nonlinearity::kNone, x);
    }
    const Activation inner = context.workspace.take_matrix(x.rows, sizes_.feed_forward, output_.input_codes());
    intermediate_.forward(context, mlp_norm_.rows(), x, inner, sizes_.nonlinearity);
    output_.forward(context, inner, x, Nonlinearity::kNone, x);
  }

  /// Calls visit(layer) for every linear layer and normalization, in the order of the forward pass; Self is const or
  /// not.
  template <class Self, class Visit>
  static void visit(Self& self, Visit&& visit) {
    visit(self.attention_norm_);
    visit(self.qkv_);
    visit(self.attention_output_);
    visit(self.mlp_norm_);
    visit(self.intermediate_);
    visit(self.output_);
  }

 private:
  // GPT-2's files hold weights as [in, out].
  static std::vector<Linear::Part> turned(const WeightSource& source, const std::string& layer, int64_t outputs,
                                          int64_t inputs) {
    return source.lone_linear(layer, outputs, inputs, WeightSource::Role::kBlock, WeightSource::Storage::kInOut);
  }

  int64_t head_width() const { return sizes_.width / sizes_.heads; }
  float scale() const {
    const float by_width = sizes_.scale_by_width ? 1.0f / std::sqrt(static_cast<float>(head_width())) : 1.0f;
    return sizes_.scale_by_layer ? by_width / static_cast<float>(layer_ + 1) : by_width;
  }

  Sizes sizes_;
  int64_t layer_;
  LayerNorm attention_norm_;
  Linear qkv_;
  QuantSite attention_site_;
  Linear attention_output_;
  LayerNorm mlp_norm_;
  Linear intermediate_, output_;
};

class Gpt2 : public Model {
 public:
  Gpt2(const std::string& architecture, const WeightSource& source)
      : prefix_(source.contains("wpe.weight") ? "" : "transformer."),
        sizes_(read_sizes(source.config())),
        has_head_(architecture == "GPT2LMHeadModel"),
        words_(source.embedding(prefix_ + "wte", vocabulary(source.config()), sizes_.width,
                                has_head_ && tied(source.config())),
               sites_),
        positions_(source.tensor(prefix_ + "wpe.weight", {positions(source.config()), sizes_.width})),
        norm_(source.layer_norm(prefix_ + "ln_f", sizes_.width, sizes_.eps)) {
    const int64_t blocks = source.config().integer("n_layer", {0, 10'000});
    for (int64_t i = 0; i < blocks; ++i) {
      blocks_.emplace_back(source, fmt::format("{}h.{}", prefix_, i), sizes_, i, sites_);
    }
    info_ = {.architecture = architecture,
             .vocabulary = words_.entries(),
             .token_types = 1,
             .max_positions = positions_.table().shape()[0],
             .width = sizes_.width,
             .blocks = blocks,
             .output = has_head_ ? OutputKind::kTokenLogits : OutputKind::kHiddenStates,
             .causal = true,
             .kv_heads = sizes_.heads,
             .kv_head_width = sizes_.width / sizes_.heads,
             .attention = source.attention()};
    // A quantized table that is tied is the head as well.
    if (has_head_ && !(tied(source.config()) && words_.linear() != nullptr)) {
      head_.emplace(
          source.vocabulary_head("lm_head", prefix_ + "wte", words_.entries(), sizes_.width, tied(source.config())),
          sites_);
    }
  }

  std::vector<const Linear*> linears() const override {
    std::vector<const Linear*> all;
    if (words_.linear() != nullptr) all.push_back(words_.linear());
    for (const Gpt2Block& block : blocks_) {
      Gpt2Block::visit(block, [&](const auto& layer) {
        if constexpr (std::is_same_v<decltype(layer), const Linear&>) all.push_back(&layer);
      });
    }
    if (head_) all.push_back(&*head_);
    return all;
  }

  std::vector<FoldPair> fold_pairs() const override {
    std::vector<FoldPair> pairs;
    for (int64_t i = 0; i < info_.blocks; ++i) {
      const std::string path = fmt::format("{}h.{}.", prefix_, i);
      pairs.push_back({path + "ln_1", {path + "attn.c_attn"}});
      pairs.push_back({path + "ln_2", {path + "mlp.c_fc"}});
    }
    return pairs;
  }

  void prepare(Backend& backend) override {
    words_.prepare(backend);
    positions_.prepare(backend);
    for (Gpt2Block& block : blocks_) {
      Gpt2Block::visit(block, [&](auto& layer) { layer.prepare(backend); });
    }
    norm_.prepare(backend);
    if (head_) head_->prepare(backend);
  }

  int64_t packed_bytes() const override {
    int64_t bytes = words_.packed_bytes() + norm_.packed_bytes();
    for (const Gpt2Block& block : blocks_) {
      Gpt2Block::visit(block, [&](const auto& layer) { bytes += layer.packed_bytes(); });
    }
    return bytes + (head_ ? head_->packed_bytes() : 0);
  }

  Activation embed(Context& context, const DeviceBatch& batch) const override {
    const Activation x = context.workspace.take_matrix(batch.host.tokens(), sizes_.width);
    const std::array<EmbedOp::Lookup, 2> lookups = {words_.lookup(batch.ids), positions_.lookup(batch.positions)};
    context.backend.embed({.lookups = lookups, .y = x});
    return x;
  }

  void run_block(Context& context, int64_t index, const DeviceBatch& batch, const Activation& x) const override {
    blocks_.at(static_cast<size_t>(index)).forward(context, batch, x);
  }

  Activation head(Context& context, const DeviceBatch&, const Activation& x) const override {
    if (!has_head_) {
      norm_.forward(context, x, x);
      return x;
    }
    const Linear& logits_of = head_ ? *head_ : *words_.linear();
    const Activation logits = context.workspace.take_matrix(x.rows, logits_of.outputs());
    const Workspace::Scope scope(context.workspace);
    logits_of.forward(context, norm_.rows(), x, logits);
    return logits;
  }

 private:
  static bool tied(const Config& config) { return config.flag("tie_word_embeddings", true); }
  static int64_t vocabulary(const Config& config) { return config.integer("vocab_size", {1, kLargestExtent}); }
  static int64_t positions(const Config& config) { return config.integer("n_positions", {1, kLargestExtent}); }

  static Sizes read_sizes(const Config& config) {
    if (config.flag("add_cross_attention", false)) {
      fail<FormatError>("{}: a GPT-2 with cross-attention is not supported", config.source());
    }
    const IntegerRange extent{1, kLargestExtent};
    const int64_t width = config.integer("n_embd", extent);
    const Sizes sizes{.width = width,
                      .heads = config.integer("n_head", extent),
                      .feed_forward = config.integer("n_inner", 4 * width, {1, 4 * kLargestExtent}),
                      .eps = static_cast<float>(config.number("layer_norm_epsilon", 1e-5)),
                      .nonlinearity = read_nonlinearity(config, "activation_function", "gelu_new"),
                      .scale_by_width = config.flag("scale_attn_weights", true),
                      .scale_by_layer = config.flag("scale_attn_by_inverse_layer_idx", false)};
    if (width % sizes.heads != 0) {
      fail<FormatError>("{}: n_embd {} is not a multiple of n_head {}", config.source(), width, sizes.heads);
    }
    return sizes;
  }

  std::string prefix_;
  Sizes sizes_;
  bool has_head_;
  TokenEmbedding words_;
  Embedding positions_;
  std::vector<Gpt2Block> blocks_;
  LayerNorm norm_;
  std::optional<Linear> head_;
};

}  // namespace

std::unique_ptr<Model> load_gpt2(const std::string& architecture, const WeightSource& source) {
  return std::make_unique<Gpt2>(architecture, source);
}

}  // namespace octet

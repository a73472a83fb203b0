// SPDX-License-Identifier: Apache-2.0
#include "octet/models/llama.h"

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
  int64_t width, heads, kv_heads, head_width, feed_forward;
  float eps;
  Nonlinearity nonlinearity;
};

// One decoder layer, normalization before each part:
//   x = x + Wₒ · attention(rope(W_qkv · norm₁(x))),   x = x + W_down · (silu(W_gate · n) · (W_up · n)), n = norm₂(x)
class LlamaBlock {
 public:
  LlamaBlock(const WeightSource& source, const std::string& path, const Sizes& sizes, int64_t window, QuantSites& sites)
      : sizes_(sizes),
        window_(window),
        attention_norm_(source.rms_norm(path + ".input_layernorm", sizes.width, sizes.eps)),
        qkv_(attention_inputs(source, path + ".self_attn.", sizes), sites),
        attention_site_(sites.add(path + ".self_attn.attention", source.attention())),
        attention_output_(source.lone_linear(path + ".self_attn.o_proj", sizes.width, sizes.heads * sizes.head_width),
                          sites),
        mlp_norm_(source.rms_norm(path + ".post_attention_layernorm", sizes.width, sizes.eps)),
        gate_up_(mlp_inputs(source, path + ".mlp.", sizes), sites),
        down_(source.lone_linear(path + ".mlp.down_proj", sizes.width, sizes.feed_forward), sites) {}

  void forward(Context& context, const Rotary& rotary, int64_t layer, const DeviceBatch& batch,
               const Activation& x) const {
    attend(context, rotary, layer, batch, x);
    const Workspace::Scope scope(context.workspace);
    const Activation gate_up = context.workspace.take_matrix(x.rows, gate_up_.outputs());
    const Activation inner = context.workspace.take_matrix(x.rows, sizes_.feed_forward, down_.input_codes());
    gate_up_.forward(context, mlp_norm_.rows(), x, gate_up);
    context.backend.gated({.x = gate_up, .nonlinearity = sizes_.nonlinearity, .y = inner});
    down_.forward(context, inner, x, Nonlinearity::kNone, x);
  }

  /// Calls visit(layer) for every linear layer and normalization, in the order of the forward pass; Self is const or
  /// not.
  template <class Self, class Visit>
  static void visit(Self& self, Visit&& visit) {
    visit(self.attention_norm_);
    visit(self.qkv_);
    visit(self.attention_output_);
    visit(self.mlp_norm_);
    visit(self.gate_up_);
    visit(self.down_);
  }

 private:
  void attend(Context& context, const Rotary& rotary, int64_t layer, const DeviceBatch& batch,
              const Activation& x) const {
    const Workspace::Scope scope(context.workspace);
    const int64_t q_width = sizes_.heads * sizes_.head_width, kv_width = sizes_.kv_heads * sizes_.head_width;
    const Activation qkv = context.workspace.take_matrix(x.rows, qkv_.outputs());
    const Activation mixed = context.workspace.take_matrix(x.rows, q_width, attention_output_.input_codes());
    qkv_.forward(context, attention_norm_.rows(), x, qkv);
    rotary.forward(context, qkv.columns(0, q_width + kv_width), {sizes_.heads + sizes_.kv_heads, sizes_.head_width},
                   batch.positions);
    context.backend.attention({.q = qkv.columns(0, q_width),
                               .k = qkv.columns(q_width, kv_width),
                               .v = qkv.columns(q_width + kv_width, kv_width),
                               .y = mixed,
                               .heads = sizes_.heads,
                               .kv_heads = sizes_.kv_heads,
                               .head_width = sizes_.head_width,
                               .scale = 1.0f / std::sqrt(static_cast<float>(sizes_.head_width)),
                               .offsets = batch.offsets,
                               .sequences = batch.host.sequences(),
                               .longest = batch.host.longest(),
                               .causal = true,
                               .window = window_,
                               .cache = batch.kv ? std::optional(batch.kv->layer(layer)) : std::nullopt,
                               .activations = attention_site_.mode,
                               .site = attention_site_.id});
    attention_output_.forward(context, mixed, x, Nonlinearity::kNone, x);
  }

  static std::vector<Linear::Part> attention_inputs(const WeightSource& source, const std::string& path,
                                                    const Sizes& sizes) {
    std::vector<Linear::Part> parts;
    parts.push_back(source.linear(path + "q_proj", sizes.heads * sizes.head_width, sizes.width));
    for (const char* name : {"k_proj", "v_proj"}) {
      parts.push_back(source.linear(path + name, sizes.kv_heads * sizes.head_width, sizes.width));
    }
    return parts;
  }
  static std::vector<Linear::Part> mlp_inputs(const WeightSource& source, const std::string& path, const Sizes& sizes) {
    std::vector<Linear::Part> parts;
    for (const char* name : {"gate_proj", "up_proj"}) {
      parts.push_back(source.linear(path + name, sizes.feed_forward, sizes.width));
    }
    return parts;
  }

  Sizes sizes_;
  int64_t window_;
  RmsNorm attention_norm_;
  Linear qkv_;
  QuantSite attention_site_;
  Linear attention_output_;
  RmsNorm mlp_norm_;
  Linear gate_up_, down_;
};

class Llama : public Model {
 public:
  Llama(const std::string& architecture, const WeightSource& source)
      : prefix_(source.contains("norm.weight") ? "" : "model."),
        sizes_(read_sizes(source.config())),
        rotary_(read_rotary(source.config(), sizes_.head_width)),
        embedding_(read_embedding(source, architecture), sites_),
        norm_(source.rms_norm(prefix_ + "norm", sizes_.width, sizes_.eps)) {
    const Config& config = source.config();
    const int64_t blocks = config.integer("num_hidden_layers", {0, 10'000});
    for (int64_t i = 0; i < blocks; ++i) {
      const std::string path = fmt::format("{}layers.{}", prefix_, i);
      check_biases(source, path, architecture.starts_with("Qwen2"));
      blocks_.emplace_back(source, path, sizes_, window_of(config, i), sites_);
    }
    info_ = {.architecture = architecture,
             .vocabulary = embedding_.entries(),
             .token_types = 1,
             .max_positions = config.integer("max_position_embeddings", {1, kLargestExtent}),
             .width = sizes_.width,
             .blocks = blocks,
             .output = has_head(architecture) ? OutputKind::kTokenLogits : OutputKind::kHiddenStates,
             .causal = true,
             .kv_heads = sizes_.kv_heads,
             .kv_head_width = sizes_.head_width,
             .attention = source.attention()};
    // A quantized table that is tied is the head as well.
    if (has_head(architecture) && !(tied(config) && embedding_.linear() != nullptr)) {
      head_.emplace(
          source.vocabulary_head("lm_head", prefix_ + "embed_tokens", embedding_.entries(), sizes_.width, tied(config)),
          sites_);
    }
  }

  std::vector<const Linear*> linears() const override {
    std::vector<const Linear*> all;
    if (embedding_.linear() != nullptr) all.push_back(embedding_.linear());
    for (const LlamaBlock& block : blocks_) {
      LlamaBlock::visit(block, [&](const auto& layer) {
        if constexpr (std::is_same_v<decltype(layer), const Linear&>) all.push_back(&layer);
      });
    }
    if (head_) all.push_back(&*head_);
    return all;
  }

  std::vector<FoldPair> fold_pairs() const override {
    std::vector<FoldPair> pairs;
    for (int64_t i = 0; i < info_.blocks; ++i) {
      const std::string path = fmt::format("{}layers.{}.", prefix_, i), attention = path + "self_attn.",
                        mlp = path + "mlp.";
      pairs.push_back({path + "input_layernorm", {attention + "q_proj", attention + "k_proj", attention + "v_proj"}});
      // A value's channel that several heads read has several columns of o_proj.
      if (sizes_.heads == sizes_.kv_heads) pairs.push_back({attention + "v_proj", {attention + "o_proj"}});
      pairs.push_back({path + "post_attention_layernorm", {mlp + "gate_proj", mlp + "up_proj"}});
      pairs.push_back({mlp + "up_proj", {mlp + "down_proj"}});
    }
    return pairs;
  }

  void prepare(Backend& backend) override {
    embedding_.prepare(backend);
    rotary_.prepare(backend);
    for (LlamaBlock& block : blocks_) {
      LlamaBlock::visit(block, [&](auto& layer) { layer.prepare(backend); });
    }
    norm_.prepare(backend);
    if (head_) head_->prepare(backend);
  }

  int64_t packed_bytes() const override {
    int64_t bytes = embedding_.packed_bytes() + rotary_.packed_bytes() + norm_.packed_bytes();
    for (const LlamaBlock& block : blocks_) {
      LlamaBlock::visit(block, [&](const auto& layer) { bytes += layer.packed_bytes(); });
    }
    return bytes + (head_ ? head_->packed_bytes() : 0);
  }

  Activation embed(Context& context, const DeviceBatch& batch) const override {
    const Activation x = context.workspace.take_matrix(batch.host.tokens(), sizes_.width);
    const std::array<EmbedOp::Lookup, 1> lookups = {embedding_.lookup(batch.ids)};
    context.backend.embed({.lookups = lookups, .y = x});
    return x;
  }

  void run_block(Context& context, int64_t index, const DeviceBatch& batch, const Activation& x) const override {
    blocks_.at(static_cast<size_t>(index)).forward(context, rotary_, index, batch, x);
  }

  Activation head(Context& context, const DeviceBatch&, const Activation& x) const override {
    if (info_.output == OutputKind::kHiddenStates) {
      norm_.forward(context, x, x);
      return x;
    }
    const Linear& logits_of = head_ ? *head_ : *embedding_.linear();
    const Activation logits = context.workspace.take_matrix(x.rows, logits_of.outputs());
    logits_of.forward(context, norm_.rows(), x, logits);
    return logits;
  }

 private:
  static bool has_head(const std::string& architecture) { return architecture.ends_with("ForCausalLM"); }
  static bool tied(const Config& config) { return config.flag("tie_word_embeddings", false); }

  static Sizes read_sizes(const Config& config) {
    const IntegerRange extent{1, kLargestExtent};
    Sizes sizes{.width = config.integer("hidden_size", extent),
                .heads = config.integer("num_attention_heads", extent),
                .kv_heads = 0,
                .head_width = 0,
                .feed_forward = config.integer("intermediate_size", extent),
                .eps = static_cast<float>(config.number("rms_norm_eps", 1e-6)),
                .nonlinearity = read_nonlinearity(config, "hidden_act", "silu")};
    sizes.kv_heads = config.integer("num_key_value_heads", sizes.heads, extent);
    if (!config.has("head_dim") && sizes.width % sizes.heads != 0) {
      fail<FormatError>("{}: hidden_size {} is not a multiple of num_attention_heads {}, and there is no head_dim",
                        config.source(), sizes.width, sizes.heads);
    }
    sizes.head_width = config.integer("head_dim", sizes.width / sizes.heads, extent);
    if (sizes.heads % sizes.kv_heads != 0) {
      fail<FormatError>("{}: num_attention_heads {} is not a multiple of num_key_value_heads {}", config.source(),
                        sizes.heads, sizes.kv_heads);
    }
    return sizes;
  }

  // Biases are read where they are stored; those that the architecture or the config promises must be.
  static void check_biases(const WeightSource& source, const std::string& path, bool is_qwen2) {
    const auto require = [&](std::initializer_list<const char*> layers) {
      for (const char* layer : layers) source.tensor(fmt::format("{}.{}.bias", path, layer));
    };
    const bool attention = source.config().flag("attention_bias", false);
    if (attention || is_qwen2) require({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
    if (attention) require({"self_attn.o_proj"});
    if (source.config().flag("mlp_bias", false)) require({"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"});
  }

  // Keys that a row of layer `index` sees, 0 for all: each layer's kind where the config lists them, else, as older
  // ones say it, a window for all layers, or for those from max_window_layers on where use_sliding_window is there.
  static int64_t window_of(const Config& config, int64_t index) {
    if (!config.has("sliding_window")) return 0;
    const int64_t window = config.integer("sliding_window", {1, kLargestExtent});
    const std::vector<std::string> kinds = config.texts("layer_types");
    if (!kinds.empty()) {
      if (std::cmp_greater_equal(index, kinds.size())) {
        fail<FormatError>("{}: layer_types has {} entries, fewer than num_hidden_layers", config.source(),
                          kinds.size());
      }
      const std::string& kind = kinds[static_cast<size_t>(index)];
      if (kind == "full_attention") return 0;
      if (kind == "sliding_attention") return window;
      fail<FormatError>("{}: layer_types holds '{}'; full_attention and sliding_attention are supported",
                        config.source(), kind);
    }
    if (!config.flag("use_sliding_window", true)) return 0;
    return index >= config.integer("max_window_layers", 0, {0, kLargestExtent}) ? window : 0;
  }

  Linear::Part read_embedding(const WeightSource& source, const std::string& architecture) const {
    const int64_t entries = source.config().integer("vocab_size", {1, kLargestExtent});
    return source.embedding(prefix_ + "embed_tokens", entries, sizes_.width,
                            has_head(architecture) && tied(source.config()));
  }

  std::string prefix_;
  Sizes sizes_;
  Rotary rotary_;
  TokenEmbedding embedding_;
  std::vector<LlamaBlock> blocks_;
  RmsNorm norm_;
  std::optional<Linear> head_;
};

}  // namespace

std::unique_ptr<Model> load_llama(const std::string& architecture, const WeightSource& source) {
  return std::make_unique<Llama>(architecture, source);
}

}  // namespace octet

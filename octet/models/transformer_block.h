// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "octet/models/model.h"
#include "octet/models/weight_source.h"
#include "octet/nn/layers.h"
#include "octet/nn/linear.h"
#include "octet/nn/trainable.h"

namespace octet {

/// One layer of a transformer: attention, then a feed-forward network (mlp), each with a residual sum around it.
/// Architectures differ in where they normalize, in names and in sizes; each makes a Plan of these.
class TransformerBlock {
 public:
  enum class Norms : uint8_t {
    kBefore,    ///< x = x + attention(norm₁(x)), x = x + mlp(norm₂(x))
    kAfter,     ///< x = norm₁(x + attention(x)), x = norm₂(x + mlp(x))
    kParallel,  ///< x = x + attention(norm₁(x)) + mlp(norm₂(x)); where there is no second norm, norm₂ is norm₁
  };
  /// How the outputs of the product that makes queries, keys and values lie.
  enum class HeadOrder : uint8_t {
    kTogether,    ///< all queries, then all keys, then all values
    kHeadByHead,  ///< query, key and value of a head, then those of the next; as many heads of keys as of queries
  };

  struct Attention {
    int64_t heads = 0, kv_heads = heads, head_width = 0;
    HeadOrder order = HeadOrder::kTogether;
    float scale = 0;  ///< on q·k; 0: 1 / √head_width
    bool causal = false;
    int64_t window = 0;                            ///< see AttentionOp
    ActivationMode mode = ActivationMode::kFloat;  ///< of its products
  };

  /// To be assigned member by member: gcc 12 destroys members of an aggregate twice when the expression for another one
  /// throws.
  struct Plan {
    Norms norms = Norms::kBefore;
    Attention attention;
    std::string attention_site;     ///< what the products of attention are called
    std::vector<Linear::Part> qkv;  ///< one part, or query, key and value
    std::vector<Linear::Part> attention_output;
    std::optional<Normalization> attention_norm;  ///< norm₁; there always is one
    std::vector<Linear::Part> inner, output;      ///< W₁ or the gate and what it lets through; W₂
    std::optional<Normalization> mlp_norm = {};   ///< norm₂
    Nonlinearity nonlinearity = Nonlinearity::kNone;
    bool gated = false;  ///< mlp(x) = W₂ · (nonlinearity(W_gate · x) · (W_up · x)), else W₂ · nonlinearity(W₁ · x)
  };

  /// `source` has the scales of static attention.
  TransformerBlock(Plan plan, QuantSites& sites, const WeightSource& source);

  /// x [tokens, width] in place; queries and keys turn by `rotary` unless it is null. `layer` is its place in a cache.
  void forward(Context& context, const Rotary* rotary, int64_t layer, const DeviceBatch& batch,
               const Activation& x) const;

  /// What a forward pass in training keeps for its backward pass, in Training::kept.
  struct Record {
    uint32_t stream = 0;     ///< of the block's first dropout
    Activation x = {};       ///< as it came
    Activation qkv = {};     ///< queries and keys turned
    Activation mixed = {};   ///< what attention gave
    Activation middle = {};  ///< the first sum
    Activation hidden = {};  ///< before the nonlinearity
    Activation end = {};     ///< the second sum, where it is normalized
  };
  /// The same in training.
  Record forward(Training& training, const Rotary* rotary, const DeviceBatch& batch, const Activation& x) const;
  /// d, the gradient of what forward gave, becomes that of x; those of the block's parameters are added.
  void backward(Training& training, const Rotary* rotary, const DeviceBatch& batch, const Record& record,
                const Activation& d) const;

  void train(Trainables& all);
  void stop_training() noexcept;
  void lay_out_trained(Backend& backend);

  ModelPiece piece();
  AttentionSite attention() const { return {attention_site_, attention_scales_}; }
  int64_t packed_bytes() const;
  /// In the order of the forward pass, both.
  void add_linears(std::vector<const Linear*>& all) const;
  void add_fold_pairs(std::vector<FoldPair>& all) const;
  /// What of it reads and writes the hidden states. False where it does not normalize as a ResidualStream is.
  bool add_to(ResidualStream& stream) const;

 private:
  /// Heads of values and what reads them, where they have a layer of their own.
  std::optional<FoldPair> value_pair() const;
  void attend(Context& context, const Rotary* rotary, int64_t layer, const DeviceBatch& batch, const Activation& qkv,
              const Activation& x) const;
  Activation expand(Context& context, const std::optional<NormalizeRows>& normalize, const Activation& x) const;
  void forward_in_parallel(Context& context, const Rotary* rotary, int64_t layer, const DeviceBatch& batch,
                           const Activation& x) const;

  /// Queries, keys and values in the outputs of the product that makes them.
  struct Heads {
    HeadColumns queries, keys;
    Activation q, k, v;
  };
  Heads heads_of(const Activation& qkv) const;
  /// Without a cache.
  AttentionOp attention_op(const DeviceBatch& batch, const Activation& qkv, const Activation& y) const;
  void rotate(Context& context, const Rotary& rotary, const Activation& qkv, DeviceSpan positions, bool backward) const;
  void attend(Training& training, const Rotary* rotary, const DeviceBatch& batch, const Activation& normed,
              Record& record) const;
  Activation activate(Context& context, const Activation& hidden) const;
  static void project(Training& training, const Linear& linear, const Activation& x, uint32_t stream,
                      const Activation& y);
  void backward_mlp(Training& training, const Record& record, const Activation& d, const Activation& normed,
                    const Activation& dn, bool adds) const;
  void backward_attention(Training& training, const Rotary* rotary, const DeviceBatch& batch, const Record& record,
                          const Activation& d, const Activation& normed, const Activation& dn, bool adds) const;

  Norms norms_;
  Attention attention_;
  Nonlinearity nonlinearity_;
  bool gated_;
  Normalization attention_norm_;
  std::optional<Normalization> mlp_norm_;
  Linear qkv_;
  QuantSite attention_site_;
  AttentionScales attention_scales_;
  Linear attention_output_, inner_, output_;
};

}  // namespace octet

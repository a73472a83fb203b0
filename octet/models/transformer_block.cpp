// SPDX-License-Identifier: Apache-2.0
#include "octet/models/transformer_block.h"

#include <cmath>
#include <utility>

#include "octet/base/error.h"

namespace octet {
namespace {

std::vector<std::string> names(const Linear& linear) {
  std::vector<std::string> layers;
  for (const Linear::Part& part : linear.parts()) layers.push_back(part.weight.layer);
  return layers;
}

}  // namespace

TransformerBlock::TransformerBlock(Plan plan, QuantSites& sites, const WeightSource& source)
    : norms_(plan.norms),
      attention_(plan.attention),
      nonlinearity_(plan.nonlinearity),
      gated_(plan.gated),
      attention_norm_(std::move(plan.attention_norm).value()),
      mlp_norm_(std::move(plan.mlp_norm)),
      qkv_(std::move(plan.qkv), sites),
      attention_site_(sites.add(std::move(plan.attention_site), attention_.mode)),
      attention_scales_(source.attention_scales(attention_site_)),
      attention_output_(std::move(plan.attention_output), sites),
      inner_(std::move(plan.inner), sites),
      output_(std::move(plan.output), sites) {
  if (attention_.scale == 0) attention_.scale = 1.0f / std::sqrt(static_cast<float>(attention_.head_width));
  if (norms_ != Norms::kParallel && !mlp_norm_) {
    fail("block of '{}': only in a parallel block may a second normalization be missing", attention_site_.name);
  }
}

void TransformerBlock::forward(Context& context, const Rotary* rotary, int64_t layer, const DeviceBatch& batch,
                               const Activation& x) const {
  const Workspace::Scope scope(context.workspace);
  if (norms_ == Norms::kParallel) return forward_in_parallel(context, rotary, layer, batch, x);
  const bool before = norms_ == Norms::kBefore;
  {
    const Workspace::Scope attention_scope(context.workspace);
    const Activation qkv = context.workspace.take_matrix(x.rows, qkv_.outputs());
    qkv_.forward(context, before ? std::optional(attention_norm_.rows()) : std::nullopt, x, qkv);
    attend(context, rotary, layer, batch, qkv, x);
  }
  // Normalized after the sum, x becomes what the residual of the second one is, too.
  const Activation inner = expand(context, before ? mlp_norm_->rows() : attention_norm_.rows(x), x);
  output_.forward(context, inner, x, Nonlinearity::kNone, x);
  if (!before) mlp_norm_->forward(context, x, x);
}

// Both parts read x as it came, so the first product of the second part goes before the sum of the first.
void TransformerBlock::forward_in_parallel(Context& context, const Rotary* rotary, int64_t layer,
                                           const DeviceBatch& batch, const Activation& x) const {
  const Activation qkv = context.workspace.take_matrix(x.rows, qkv_.outputs());
  Activation inner;
  if (mlp_norm_) {
    qkv_.forward(context, attention_norm_.rows(), x, qkv);
    inner = expand(context, mlp_norm_->rows(), x);
  } else {
    const Activation normalized = context.workspace.take_matrix(x.rows, x.cols);
    qkv_.forward(context, attention_norm_.rows(normalized), x, qkv);
    inner = expand(context, std::nullopt, normalized);
  }
  attend(context, rotary, layer, batch, qkv, x);
  output_.forward(context, inner, x, Nonlinearity::kNone, x);
}

TransformerBlock::Heads TransformerBlock::heads_of(const Activation& qkv) const {
  const int64_t heads = attention_.heads, kv_heads = attention_.kv_heads, width = attention_.head_width;
  const bool together = attention_.order == HeadOrder::kTogether;
  const int64_t stride = together ? width : 3 * width;
  const HeadColumns queries{heads, width, stride}, keys{kv_heads, width, stride};
  const int64_t first_key = together ? heads * width : width;
  const int64_t first_value = together ? (heads + kv_heads) * width : 2 * width;
  return {.queries = queries,
          .keys = keys,
          .q = qkv.columns(0, queries.columns()),
          .k = qkv.columns(first_key, keys.columns()),
          .v = qkv.columns(first_value, keys.columns())};
}

void TransformerBlock::rotate(Context& context, const Rotary& rotary, const Activation& qkv, DeviceSpan positions,
                              bool backward) const {
  const Heads heads = heads_of(qkv);
  rotary.forward(context, heads.q, heads.queries, positions, backward);
  rotary.forward(context, heads.k, heads.keys, positions, backward);
}

AttentionOp TransformerBlock::attention_op(const DeviceBatch& batch, const Activation& qkv, const Activation& y) const {
  const Heads heads = heads_of(qkv);
  return {.q = heads.q,
          .k = heads.k,
          .v = heads.v,
          .y = y,
          .heads = attention_.heads,
          .kv_heads = attention_.kv_heads,
          .head_width = attention_.head_width,
          .head_stride = heads.queries.stride,
          .scale = attention_.scale,
          .offsets = batch.offsets,
          .sequences = batch.host.sequences(),
          .longest = batch.host.longest(),
          .causal = attention_.causal,
          .window = attention_.window,
          .cache = {},
          .activations = attention_site_.mode,
          .scales = attention_scales_,
          .site = attention_site_.id};
}

// x = x + Wₒ · attention(qkv)
void TransformerBlock::attend(Context& context, const Rotary* rotary, int64_t layer, const DeviceBatch& batch,
                              const Activation& qkv, const Activation& x) const {
  const Workspace::Scope scope(context.workspace);
  if (rotary != nullptr && attention_.order == HeadOrder::kTogether) {
    const HeadColumns both{attention_.heads + attention_.kv_heads, attention_.head_width};
    rotary->forward(context, qkv.columns(0, both.columns()), both, batch.positions);
  } else if (rotary != nullptr) {
    rotate(context, *rotary, qkv, batch.positions, false);
  }
  const Activation mixed =
      context.workspace.take_matrix(x.rows, attention_.heads * attention_.head_width, attention_output_.input_codes());
  AttentionOp op = attention_op(batch, qkv, mixed);
  if (batch.kv) op.cache = batch.kv->layer(layer);
  context.backend.attention(op);
  attention_output_.forward(context, mixed, x, Nonlinearity::kNone, x);
}

// What W₂ multiplies, in the scope that the caller has open.
Activation TransformerBlock::expand(Context& context, const std::optional<NormalizeRows>& normalize,
                                    const Activation& x) const {
  const Activation inner = context.workspace.take_matrix(x.rows, output_.inputs(), output_.input_codes());
  if (!gated_) {
    inner_.forward(context, normalize, x, inner, nonlinearity_);
    return inner;
  }
  const Workspace::Scope scope(context.workspace);
  const Activation gate_up = context.workspace.take_matrix(x.rows, inner_.outputs());
  inner_.forward(context, normalize, x, gate_up);
  context.backend.gated({.x = gate_up, .nonlinearity = nonlinearity_, .y = inner});
  return inner;
}

ModelPiece TransformerBlock::piece() {
  ModelPiece piece{.linears = {&qkv_, &attention_output_, &inner_, &output_}, .normalizations = {&attention_norm_}};
  if (mlp_norm_) piece.normalizations.push_back(&*mlp_norm_);
  return piece;
}

int64_t TransformerBlock::packed_bytes() const {
  int64_t bytes = attention_norm_.packed_bytes() + (mlp_norm_ ? mlp_norm_->packed_bytes() : 0);
  for (const Linear* linear : {&qkv_, &attention_output_, &inner_, &output_}) bytes += linear->packed_bytes();
  return bytes;
}

void TransformerBlock::add_linears(std::vector<const Linear*>& all) const {
  for (const Linear* linear : {&qkv_, &attention_output_, &inner_, &output_}) all.push_back(linear);
}

std::optional<FoldPair> TransformerBlock::value_pair() const {
  const std::vector<std::string> attention = names(qkv_);
  if (attention.size() != 3) return std::nullopt;
  return FoldPair{.from = attention.back(),
                  .into = names(attention_output_),
                  .head_width = attention_.head_width,
                  .heads_per_value = attention_.heads / attention_.kv_heads};
}

bool TransformerBlock::add_to(ResidualStream& stream) const {
  const auto by_mean_square = [](const Normalization& norm) { return !norm.beta().has_value(); };
  if (norms_ == Norms::kAfter || !by_mean_square(attention_norm_) || (mlp_norm_ && !by_mean_square(*mlp_norm_))) {
    return false;
  }
  stream.readers.push_back({.from = attention_norm_.layer(), .into = names(qkv_)});
  const std::vector<std::string> mlp = names(inner_);
  if (mlp_norm_) {
    stream.readers.push_back({.from = mlp_norm_->layer(), .into = mlp});
  } else {
    stream.readers.back().into.insert(stream.readers.back().into.end(), mlp.begin(), mlp.end());
  }
  for (const Linear* linear : {&attention_output_, &output_}) {
    for (std::string& name : names(*linear)) stream.writers.push_back(std::move(name));
  }
  if (std::optional<FoldPair> values = value_pair()) stream.values.push_back(std::move(*values));
  return true;
}

void TransformerBlock::add_fold_pairs(std::vector<FoldPair>& all) const {
  const std::vector<std::string> attention = names(qkv_), mlp = names(inner_);
  // A normalization after the sum feeds the next residual as well.
  if (norms_ != Norms::kAfter) {
    all.push_back({.from = attention_norm_.layer(), .into = attention});
    if (!mlp_norm_) all.back().into.insert(all.back().into.end(), mlp.begin(), mlp.end());
  }
  if (std::optional<FoldPair> values = value_pair()) all.push_back(std::move(*values));
  if (norms_ != Norms::kAfter && mlp_norm_) all.push_back({.from = mlp_norm_->layer(), .into = mlp});
  // ReLU lets positive factors through.
  if (gated_ || nonlinearity_ == Nonlinearity::kRelu) all.push_back({.from = mlp.back(), .into = names(output_)});
}

}  // namespace octet

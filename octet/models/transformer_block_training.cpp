// SPDX-License-Identifier: Apache-2.0
#include "octet/models/transformer_block.h"
#include "octet/nn/dropout.h"

// A block in training: forward keeps what backward reads, which computes the rest again where that is cheap: whatever
// a normalization or a nonlinearity makes.
namespace octet {
namespace {

// Dropouts of a block: of what is added to the residual first and last, and of attention's weights.
constexpr uint32_t kMiddleStream = 0, kEndStream = 1, kAttentionStream = 2, kStreams = 3;

// What a dropped product's output had for a gradient: of its own where there is a mask, else `d` itself.
Activation dropped(Training& training, uint32_t stream, const Activation& d) {
  if (training.dropout == 0) return d;
  const Activation own = training.context.workspace.take_matrix(d.rows, d.cols);
  training.context.backend.copy(d.memory, own.memory);
  drop(training, stream, own);
  return own;
}

}  // namespace

void TransformerBlock::train(Trainables& all) {
  const ModelPiece parts = piece();
  for (Linear* linear : parts.linears) linear->train(all);
  for (Normalization* norm : parts.normalizations) norm->train(all);
}

void TransformerBlock::stop_training() noexcept {
  const ModelPiece parts = piece();
  for (Linear* linear : parts.linears) linear->stop_training();
  for (Normalization* norm : parts.normalizations) norm->stop_training();
}

void TransformerBlock::lay_out_trained(Backend& backend) {
  for (Linear* linear : piece().linears) linear->lay_out_trained(backend);
}

// mixed = attention of `normed`, which is kept with what led to it.
void TransformerBlock::attend(Training& training, const Rotary* rotary, const DeviceBatch& batch,
                              const Activation& normed, Record& record) const {
  Context& context = training.context;
  record.qkv = training.kept.take_matrix(normed.rows, qkv_.outputs());
  qkv_.forward(context, normed, record.qkv);
  if (rotary != nullptr) rotate(context, *rotary, record.qkv, batch.positions, false);
  record.mixed = training.kept.take_matrix(normed.rows, attention_.heads * attention_.head_width);
  AttentionOp op = attention_op(batch, record.qkv, record.mixed);
  op.dropout = training.dropout_of(training.attention_dropout, record.stream + kAttentionStream);
  context.backend.attention(op);
}

// What W₂ multiplies, of the hidden rows that are kept.
Activation TransformerBlock::activate(Context& context, const Activation& hidden) const {
  const Activation inner = context.workspace.take_matrix(hidden.rows, output_.inputs());
  if (gated_) {
    context.backend.gated({.x = hidden, .nonlinearity = nonlinearity_, .y = inner});
  } else {
    context.backend.nonlinearity({.x = hidden, .nonlinearity = nonlinearity_, .y = inner});
  }
  return inner;
}

// y = linear(x), then dropped.
void TransformerBlock::project(Training& training, const Linear& linear, const Activation& x, uint32_t stream,
                               const Activation& y) {
  linear.forward(training.context, x, y);
  drop(training, stream, y);
}

TransformerBlock::Record TransformerBlock::forward(Training& training, const Rotary* rotary, const DeviceBatch& batch,
                                                   const Activation& x) const {
  Context& context = training.context;
  Backend& backend = context.backend;
  const Workspace::Scope scope(context.workspace);
  Record record{.stream = training.streams};
  training.streams += kStreams;
  record.x = training.kept.take_matrix(x.rows, x.cols);
  backend.copy(x.memory, record.x.memory);
  const Activation normed = context.workspace.take_matrix(x.rows, x.cols);
  const bool after = norms_ == Norms::kAfter;
  if (!after) attention_norm_.forward(context, x, normed);
  attend(training, rotary, batch, after ? x : normed, record);

  record.middle = training.kept.take_matrix(x.rows, x.cols);
  project(training, attention_output_, record.mixed, record.stream + kMiddleStream, record.middle);
  backend.add({.x = x, .y = record.middle});
  // Rows that the second part reads, and what its residual is.
  Activation input = normed, residual = record.middle;
  switch (norms_) {
    case Norms::kAfter:
      attention_norm_.forward(context, record.middle, normed);
      residual = normed;
      break;
    case Norms::kBefore:
      mlp_norm_->forward(context, record.middle, normed);
      break;
    case Norms::kParallel:
      if (mlp_norm_) mlp_norm_->forward(context, x, normed);
      break;
  }
  record.hidden = training.kept.take_matrix(x.rows, inner_.outputs());
  inner_.forward(context, input, record.hidden);
  const Activation inner = activate(context, record.hidden);
  if (!after) {
    project(training, output_, inner, record.stream + kEndStream, x);
    backend.add({.x = residual, .y = x});
    return record;
  }
  record.end = training.kept.take_matrix(x.rows, x.cols);
  project(training, output_, inner, record.stream + kEndStream, record.end);
  backend.add({.x = residual, .y = record.end});
  mlp_norm_->forward(context, record.end, x);
  return record;
}

// The second part's weights get their gradients from d, that of its sum; dn, that of the rows it read, is written or
// added to.
void TransformerBlock::backward_mlp(Training& training, const Record& record, const Activation& d,
                                    const Activation& normed, const Activation& dn, bool adds) const {
  Context& context = training.context;
  const Workspace::Scope scope(context.workspace);
  const Activation inner = activate(context, record.hidden);
  const Activation dinner = context.workspace.take_matrix(d.rows, output_.inputs());
  output_.backward(context, inner, dropped(training, record.stream + kEndStream, d), dinner, false);
  if (!gated_) {
    context.backend.nonlinearity_gradient(
        {.x = record.hidden, .nonlinearity = nonlinearity_, .dy = dinner, .dx = dinner});
    inner_.backward(context, normed, dinner, dn, adds);
    return;
  }
  const Activation dhidden = context.workspace.take_matrix(d.rows, inner_.outputs());
  context.backend.gated_gradient({.x = record.hidden, .nonlinearity = nonlinearity_, .dy = dinner, .dx = dhidden});
  inner_.backward(context, normed, dhidden, dn, adds);
}

// The same of attention.
void TransformerBlock::backward_attention(Training& training, const Rotary* rotary, const DeviceBatch& batch,
                                          const Record& record, const Activation& d, const Activation& normed,
                                          const Activation& dn, bool adds) const {
  Context& context = training.context;
  const Workspace::Scope scope(context.workspace);
  const Activation dmixed = context.workspace.take_matrix(d.rows, record.mixed.cols);
  attention_output_.backward(context, record.mixed, dropped(training, record.stream + kMiddleStream, d), dmixed, false);
  const Activation dqkv = context.workspace.take_matrix(d.rows, qkv_.outputs());
  const Heads heads = heads_of(record.qkv), of_d = heads_of(dqkv);
  context.backend.attention_gradient(
      {.q = heads.q,
       .k = heads.k,
       .v = heads.v,
       .dy = dmixed,
       .dq = of_d.q,
       .dk = of_d.k,
       .dv = of_d.v,
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
       .dropout = training.dropout_of(training.attention_dropout, record.stream + kAttentionStream)});
  if (rotary != nullptr) rotate(context, *rotary, dqkv, batch.positions, true);
  qkv_.backward(context, normed, dqkv, dn, adds);
}

void TransformerBlock::backward(Training& training, const Rotary* rotary, const DeviceBatch& batch,
                                const Record& record, const Activation& d) const {
  Context& context = training.context;
  const Workspace::Scope scope(context.workspace);
  const Activation normed = context.workspace.take_matrix(d.rows, d.cols);
  if (norms_ == Norms::kAfter) {
    mlp_norm_->backward(context, record.end, d, d, false);
    attention_norm_.forward(context, record.middle, normed);
    backward_mlp(training, record, d, normed, d, true);
    attention_norm_.backward(context, record.middle, d, d, false);
    backward_attention(training, rotary, batch, record, d, record.x, d, true);
    return;
  }
  const Activation dn = context.workspace.take_matrix(d.rows, d.cols);
  if (norms_ == Norms::kBefore) {
    mlp_norm_->forward(context, record.middle, normed);
    backward_mlp(training, record, d, normed, dn, false);
    mlp_norm_->backward(context, record.middle, dn, d, true);
    attention_norm_.forward(context, record.x, normed);
    backward_attention(training, rotary, batch, record, d, normed, dn, false);
    attention_norm_.backward(context, record.x, dn, d, true);
    return;
  }
  // In parallel: both parts have d, and what they give for x is added to it at the end.
  const Activation sum = context.workspace.take_matrix(d.rows, d.cols);
  context.backend.copy(d.memory, sum.memory);
  (mlp_norm_ ? *mlp_norm_ : attention_norm_).forward(context, record.x, normed);
  backward_mlp(training, record, d, normed, dn, false);
  if (mlp_norm_) {
    mlp_norm_->backward(context, record.x, dn, sum, true);
    attention_norm_.forward(context, record.x, normed);
  }
  backward_attention(training, rotary, batch, record, d, normed, dn, !mlp_norm_);
  attention_norm_.backward(context, record.x, dn, sum, true);
  context.backend.copy(sum.memory, d.memory);
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <utility>

#include "octet/base/error.h"
#include "octet/models/transformer.h"
#include "octet/nn/dropout.h"

// A transformer in training: forward keeps what backward reads.
namespace octet {

struct Transformer::Pass : TrainingPass {
  uint32_t embedding_stream = 0, head_stream = 0;  // of dropouts
  Activation embedded = {};                        // the sum of the tables' rows
  Activation projected = {};                       // what the projection read
  std::vector<TransformerBlock::Record> blocks = {};
  Activation input = {};   // hidden states after the blocks: those that the head reads
  Activation hidden = {};  // of its inner layer, before the nonlinearity
  DeviceSpan rows = {};    // whose hidden states the head reads; empty: all
};

struct Transformer::BlockPass : TrainingPass {
  TransformerBlock::Record record = {};
};

namespace {

Activation keep_copy(Training& training, const Activation& x) {
  const Activation kept = training.kept.take_matrix(x.rows, x.cols);
  training.context.backend.copy(x.memory, kept.memory);
  return kept;
}

}  // namespace

void Transformer::train(Trainables& all) {
  Trainable& words = words_.train(all);
  if (types_) types_->train(all);
  if (positions_) positions_->train(all);
  if (embedding_norm_) embedding_norm_->train(all);
  if (project_) project_->train(all);
  if (rotary_) rotary_->prepare(all.backend());
  for (TransformerBlock& block : blocks_) block.train(all);
  if (final_norm_) final_norm_->train(all);
  if (inner_) inner_->train(all);
  if (head_norm_) head_norm_->train(all);
  if (outputs_) outputs_->train(all, tied_ ? &words : nullptr);
}

void Transformer::lay_out_trained(Backend& backend) {
  if (project_) project_->lay_out_trained(backend);
  for (TransformerBlock& block : blocks_) block.lay_out_trained(backend);
  if (inner_) inner_->lay_out_trained(backend);
  if (outputs_) outputs_->lay_out_trained(backend);
}

void Transformer::train_block(int64_t index, Trainables& all) {
  if (rotary_) rotary_->prepare(all.backend());
  blocks_.at(static_cast<size_t>(index)).train(all);
}

void Transformer::stop_training_block(int64_t index) noexcept { blocks_[static_cast<size_t>(index)].stop_training(); }

std::unique_ptr<TrainingPass> Transformer::run_block(Training& training, int64_t index, const DeviceBatch& batch,
                                                     const Activation& x) const {
  auto pass = std::make_unique<BlockPass>();
  const Rotary* const rotary = rotary_ ? &*rotary_ : nullptr;
  pass->record = blocks_.at(static_cast<size_t>(index)).forward(training, rotary, batch, x);
  pass->output = x;
  return pass;
}

void Transformer::backward_block(Training& training, int64_t index, const DeviceBatch& batch, const TrainingPass& pass,
                                 const Activation& d) const {
  const Rotary* const rotary = rotary_ ? &*rotary_ : nullptr;
  const auto& own = static_cast<const BlockPass&>(pass);
  blocks_.at(static_cast<size_t>(index)).backward(training, rotary, batch, own.record, d);
}

std::unique_ptr<TrainingPass> Transformer::forward(Training& training, const DeviceBatch& batch) const {
  check_inputs(batch.host);
  if (!training.output_rows.empty() && info_.output == OutputKind::kSequenceLogits)
    fail<UsageError>("rows of the output were asked for; this model gives one a sequence, not one a token");
  for (const int32_t row : training.output_rows) {
    if (row < 0 || row >= batch.host.tokens())
      fail<ShapeError>("row {} of the output was asked for, of {} tokens", row, batch.host.tokens());
  }
  auto pass = std::make_unique<Pass>();
  const Workspace::Scope scope(training.context.workspace);
  const Activation x = training.context.workspace.take_matrix(batch.host.tokens(), width_);
  embed(training, batch, *pass, x);
  if (training.after_piece) training.after_piece(0, x);
  const Rotary* const rotary = rotary_ ? &*rotary_ : nullptr;
  for (const TransformerBlock& block : blocks_) {
    if (training.recomputes_blocks) {
      pass->blocks.push_back({.stream = training.streams, .x = keep_copy(training, x)});
      const Workspace::Scope passing(training.kept);
      block.forward(training, rotary, batch, x);
    } else {
      pass->blocks.push_back(block.forward(training, rotary, batch, x));
    }
    if (training.after_piece) training.after_piece(std::ssize(pass->blocks), x);
  }
  head(training, batch, *pass, x);
  return pass;
}

void Transformer::backward(Training& training, const DeviceBatch& batch, const TrainingPass& pass,
                           const Activation& d) const {
  const auto& own = static_cast<const Pass&>(pass);
  const Workspace::Scope scope(training.context.workspace);
  const Activation dx = training.context.workspace.take_matrix(batch.host.tokens(), width_);
  head_backward(training, batch, own, d, dx);
  const Rotary* const rotary = rotary_ ? &*rotary_ : nullptr;
  for (size_t i = blocks_.size(); i-- > 0;) {
    if (training.add_gradient) training.add_gradient(static_cast<int64_t>(i) + 1, dx);
    TransformerBlock::Record record = own.blocks[i];
    const Workspace::Scope passing(training.kept), block(training.context.workspace);
    if (training.recomputes_blocks) {
      const Activation x = training.context.workspace.take_matrix(record.x.rows, record.x.cols);
      training.context.backend.copy(record.x.memory, x.memory);
      training.streams = record.stream;
      record = blocks_[i].forward(training, rotary, batch, x);
    }
    blocks_[i].backward(training, rotary, batch, record, dx);
  }
  if (training.add_gradient) training.add_gradient(0, dx);
  embed_backward(training, batch, own, dx);
}

void Transformer::embed(Training& training, const DeviceBatch& batch, Pass& pass, const Activation& x) const {
  Context& context = training.context;
  const Workspace::Scope scope(context.workspace);
  const DeviceSpan at = positions_of(context, batch);
  const bool late = positions_ && positions_->width() != word_width_;
  std::array<EmbedOp::Lookup, 3> lookups;
  size_t count = 0;
  lookups[count++] = words_.lookup(batch.ids);
  if (types_) lookups[count++] = types_->lookup(batch.type_ids);
  if (positions_ && !late) lookups[count++] = positions_->lookup(at);
  pass.embedded = training.kept.take_matrix(x.rows, word_width_);
  context.backend.embed({.lookups = std::span(lookups).first(count), .y = pass.embedded});
  pass.embedding_stream = training.streams++;
  const Activation normed = project_ ? training.kept.take_matrix(x.rows, word_width_) : x;
  if (embedding_norm_) {
    embedding_norm_->forward(context, pass.embedded, normed);
  } else {
    context.backend.copy(pass.embedded.memory, normed.memory);
  }
  drop(training, pass.embedding_stream, normed);
  if (!project_) return;
  pass.projected = normed;
  if (late) {
    lookups[0] = positions_->lookup(at);
    context.backend.embed({.lookups = std::span(lookups).first(1), .y = x});
    project_->forward(context, normed, x, Nonlinearity::kNone, x);
  } else {
    project_->forward(context, normed, x);
  }
}

void Transformer::embed_backward(Training& training, const DeviceBatch& batch, const Pass& pass,
                                 const Activation& d) const {
  Context& context = training.context;
  const Workspace::Scope scope(context.workspace);
  const DeviceSpan at = positions_of(context, batch);
  const bool late = positions_ && positions_->width() != word_width_;
  Activation dn = d;
  if (project_) {
    if (late) positions_->backward(context, at, d);
    dn = context.workspace.take_matrix(d.rows, word_width_);
    project_->backward(context, pass.projected, d, dn, false);
  }
  drop(training, pass.embedding_stream, dn);
  if (embedding_norm_) embedding_norm_->backward(context, pass.embedded, dn, dn, false);
  words_.backward(context, batch.ids, dn);
  if (types_) types_->backward(context, batch.type_ids, dn);
  if (positions_ && !late) positions_->backward(context, at, dn);
}

// What the last product reads, in the scope that the caller has open: of what is kept.
Activation Transformer::head_input(Training& training, const Pass& pass) const {
  Context& context = training.context;
  Activation rows = pass.input;
  if (inner_) {
    rows = context.workspace.take_matrix(pass.hidden.rows, pass.hidden.cols);
    context.backend.nonlinearity({.x = pass.hidden, .nonlinearity = head_nonlinearity_, .y = rows});
    if (info_.output == OutputKind::kSequenceLogits) drop(training, pass.head_stream, rows);
  }
  const std::optional<Normalization>& norm = inner_ ? head_norm_ : final_norm_;
  if (!norm) return rows;
  const Activation normed = context.workspace.take_matrix(rows.rows, rows.cols);
  norm->forward(context, rows, normed);
  return normed;
}

void Transformer::head(Training& training, const DeviceBatch& batch, Pass& pass, const Activation& x) const {
  Context& context = training.context;
  const Workspace::Scope scope(context.workspace);
  pass.head_stream = training.streams++;
  if (const std::span<const int32_t> wanted = training.output_rows; !wanted.empty()) {
    pass.rows = training.kept.upload(wanted);
    pass.input = training.kept.take_matrix(std::ssize(wanted), x.cols);
    const EmbedOp::Lookup rows{.table = {.memory = x.memory, .rows = x.rows, .cols = x.cols}, .indices = pass.rows};
    context.backend.embed({.lookups = std::span(&rows, 1), .y = pass.input});
  } else if (info_.output != OutputKind::kSequenceLogits) {
    pass.input = keep_copy(training, x);
  } else {
    pass.input = training.kept.take_matrix(batch.host.sequences(), x.cols);
    context.backend.pool({.x = x, .offsets = batch.offsets, .pooling = Pooling::kFirst, .y = pass.input});
  }
  if (inner_) {
    Activation rows = pass.input;
    if (final_norm_) {
      rows = context.workspace.take_matrix(pass.input.rows, pass.input.cols);
      final_norm_->forward(context, pass.input, rows);
    }
    pass.hidden = training.kept.take_matrix(rows.rows, inner_->outputs());
    inner_->forward(context, rows, pass.hidden);
  }
  const Activation rows = head_input(training, pass);
  if (!outputs_) {
    pass.output = keep_copy(training, rows);
    return;
  }
  pass.output = training.kept.take_matrix(rows.rows, outputs_->outputs());
  outputs_->forward(context, rows, pass.output);
}

void Transformer::head_backward(Training& training, const DeviceBatch& batch, const Pass& pass, const Activation& dy,
                                const Activation& d) const {
  Context& context = training.context;
  const Workspace::Scope scope(context.workspace);
  Activation drows = dy;
  if (outputs_) {
    drows = context.workspace.take_matrix(dy.rows, outputs_->inputs());
    outputs_->backward(context, head_input(training, pass), dy, drows, false);
  }
  if (inner_) {
    if (head_norm_) {
      const Activation rows = context.workspace.take_matrix(pass.hidden.rows, pass.hidden.cols);
      context.backend.nonlinearity({.x = pass.hidden, .nonlinearity = head_nonlinearity_, .y = rows});
      head_norm_->backward(context, rows, drows, drows, false);
    }
    if (info_.output == OutputKind::kSequenceLogits) drop(training, pass.head_stream, drows);
    context.backend.nonlinearity_gradient(
        {.x = pass.hidden, .nonlinearity = head_nonlinearity_, .dy = drows, .dx = drows});
    Activation rows = pass.input;
    if (final_norm_) {
      rows = context.workspace.take_matrix(pass.input.rows, pass.input.cols);
      final_norm_->forward(context, pass.input, rows);
    }
    const Activation dinput = context.workspace.take_matrix(rows.rows, rows.cols);
    inner_->backward(context, rows, drows, dinput, false);
    drows = dinput;
  }
  if (final_norm_) final_norm_->backward(context, pass.input, drows, drows, false);
  if (pass.rows.bytes() > 0) {
    context.backend.fill_zero(d.memory);
    context.backend.embed_gradient({.indices = pass.rows, .dy = drows, .dtable = d});
  } else if (info_.output == OutputKind::kSequenceLogits) {
    context.backend.pool_gradient({.dy = drows, .offsets = batch.offsets, .pooling = Pooling::kFirst, .dx = d});
  } else {
    context.backend.copy(drows.memory, d.memory);
  }
}

}  // namespace octet

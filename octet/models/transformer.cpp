// SPDX-License-Identifier: Apache-2.0
#include "octet/models/transformer.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace octet {
namespace {

std::optional<NormalizeRows> rows_of(const std::optional<Normalization>& norm) {
  return norm ? std::optional(norm->rows()) : std::nullopt;
}

}  // namespace

Transformer::Transformer(const WeightSource& source, Plan plan)
    : words_name_(plan.embedding.words),
      words_(source.embedding(plan.embedding.words, plan.embedding.vocabulary, plan.embedding.word_width,
                              plan.head.vocabulary),
             sites_),
      word_width_(plan.embedding.word_width),
      width_(plan.width),
      types_(std::move(plan.embedding.types)),
      positions_(std::move(plan.embedding.positions)),
      numbering_(plan.embedding.numbering),
      padding_id_(plan.embedding.padding_id),
      embedding_norm_(std::move(plan.embedding.norm)),
      project_(optional_linear(std::move(plan.embedding.project), sites_)),
      rotary_(std::move(plan.rotary)),
      final_norm_(std::move(plan.head.final_norm)),
      head_norm_(std::move(plan.head.norm)),
      tied_(plan.head.vocabulary && plan.head.vocabulary->tied),
      head_nonlinearity_(plan.head.nonlinearity) {
  blocks_.reserve(static_cast<size_t>(plan.blocks));
  TransformerBlock::Attention attention;
  for (int64_t i = 0; i < plan.blocks; ++i) {
    TransformerBlock::Plan block = plan.block(fmt::format("{}.{}.", plan.block_path, i), i);
    attention = block.attention;
    blocks_.emplace_back(std::move(block), sites_, source);
  }
  inner_ = optional_linear(std::move(plan.head.inner), sites_);
  outputs_ = optional_linear(std::move(plan.head.outputs), sites_);
  // A quantized table that is tied is the head as well.
  if (const std::optional<VocabularyHead>& head = plan.head.vocabulary;
      head && !(tied_ && words_.linear() != nullptr)) {
    outputs_.emplace(source.vocabulary_head(*head, plan.embedding.words, words_.entries(), word_width_), sites_);
  }
  kept_ = optional_linear(std::move(plan.head.kept), sites_);
  info_ = {.architecture = std::move(plan.architecture),
           .vocabulary = words_.entries(),
           .token_types = types_ ? types_->entries() : 0,
           .max_positions = plan.max_positions,
           .width = inner_ && outputs() == nullptr ? inner_->outputs() : width_,
           .blocks = plan.blocks,
           .output = plan.head.output,
           .causal = attention.causal,
           .kv_heads = attention.kv_heads,
           .kv_head_width = attention.head_width,
           .attention = source.attention(),
           .attention_bits = source.attention_bits()};
}

std::optional<Linear> Transformer::optional_linear(std::vector<Linear::Part> parts, QuantSites& sites) {
  if (parts.empty()) return std::nullopt;
  return std::optional<Linear>(std::in_place, std::move(parts), sites);
}

const Linear* Transformer::outputs() const {
  if (outputs_) return &*outputs_;
  return tied_ ? words_.linear() : nullptr;
}

std::vector<const Linear*> Transformer::linears() const {
  std::vector<const Linear*> all;
  if (words_.linear() != nullptr) all.push_back(words_.linear());
  if (project_) all.push_back(&*project_);
  for (const TransformerBlock& block : blocks_) block.add_linears(all);
  for (const std::optional<Linear>* linear : {&inner_, &outputs_, &kept_}) {
    if (*linear) all.push_back(&**linear);
  }
  return all;
}

std::vector<AttentionSite> Transformer::attention_sites() const {
  std::vector<AttentionSite> sites;
  for (const TransformerBlock& block : blocks_) sites.push_back(block.attention());
  return sites;
}

std::vector<FoldPair> Transformer::fold_pairs() const {
  std::vector<FoldPair> pairs;
  for (const TransformerBlock& block : blocks_) block.add_fold_pairs(pairs);
  return pairs;
}

std::optional<ResidualStream> Transformer::residual_stream() const {
  const bool bare_embedding = !types_ && !positions_ && !embedding_norm_ && !project_;
  const bool bare_head = final_norm_ && !final_norm_->beta() && !inner_ && outputs() != nullptr;
  if (!bare_embedding || !bare_head) return std::nullopt;
  ResidualStream stream{.width = width_, .embedding = words_name_, .tied = tied_};
  for (const TransformerBlock& block : blocks_) {
    if (!block.add_to(stream)) return std::nullopt;
  }
  FoldPair head{.from = final_norm_->layer(), .into = {}};
  for (const Linear::Part& part : outputs()->parts()) head.into.push_back(part.weight.layer);
  stream.readers.push_back(std::move(head));
  return stream;
}

ModelPiece Transformer::piece(int64_t index) {
  if (index > 0 && index <= info_.blocks) return blocks_[static_cast<size_t>(index - 1)].piece();
  ModelPiece piece;
  const auto add = [](auto& all, auto&... parts) { ((parts ? all.push_back(&*parts) : void()), ...); };
  if (index == 0) {
    add(piece.linears, project_);
    add(piece.normalizations, embedding_norm_);
  } else {
    add(piece.linears, inner_, outputs_);
    add(piece.normalizations, final_norm_, head_norm_);
  }
  return piece;
}

void Transformer::prepare_piece(Backend& backend, int64_t index, Sources sources) {
  if (index == 0) {
    words_.prepare(backend);
    for (std::optional<Embedding>* table : {&types_, &positions_}) {
      if (*table) (*table)->prepare(backend);
    }
    if (rotary_) rotary_->prepare(backend);
  }
  const ModelPiece parts = piece(index);
  for (Linear* linear : parts.linears) linear->prepare(backend, sources);
  for (Normalization* norm : parts.normalizations) norm->prepare(backend);
}

void Transformer::release_piece(int64_t index) {
  const ModelPiece parts = piece(index);
  for (Linear* linear : parts.linears) linear->release();
  for (Normalization* norm : parts.normalizations) norm->release();
}

int64_t Transformer::packed_bytes() const {
  int64_t bytes = words_.packed_bytes();
  for (const TransformerBlock& block : blocks_) bytes += block.packed_bytes();
  const auto add = [&bytes](const auto&... parts) { ((bytes += parts ? parts->packed_bytes() : 0), ...); };
  add(embedding_norm_, project_, rotary_, final_norm_, inner_, head_norm_, outputs_);
  return bytes;
}

Activation Transformer::embed(Context& context, const DeviceBatch& batch) const {
  Workspace& workspace = context.workspace;
  const Activation x = workspace.take_matrix(batch.host.tokens(), width_);
  const Workspace::Scope scope(workspace);
  const Activation e = project_ ? workspace.take_matrix(x.rows, word_width_) : x;
  const DeviceSpan at = positions_of(context, batch);
  const bool late = positions_ && positions_->width() != word_width_;

  std::array<EmbedOp::Lookup, 3> lookups;
  size_t count = 0;
  lookups[count++] = words_.lookup(batch.ids);
  if (types_) lookups[count++] = types_->lookup(batch.type_ids);
  if (positions_ && !late) lookups[count++] = positions_->lookup(at);
  context.backend.embed({.lookups = std::span(lookups).first(count), .y = e});
  if (embedding_norm_) embedding_norm_->forward(context, e, e);
  if (!project_) return x;
  if (late) {
    lookups[0] = positions_->lookup(at);
    context.backend.embed({.lookups = std::span(lookups).first(1), .y = x});
    project_->forward(context, e, x, Nonlinearity::kNone, x);
  } else {
    project_->forward(context, e, x);
  }
  return x;
}

DeviceSpan Transformer::positions_of(Context& context, const DeviceBatch& on_device) const {
  // What continues a cache has no dropped tokens.
  if (numbering_ == Numbering::kByPlace || on_device.kv) return on_device.positions;
  const TokenBatch& batch = on_device.host;
  const bool padded = numbering_ == Numbering::kExceptForPadding;
  const DeviceSpan positions = context.workspace.take(batch.tokens() * int64_t{sizeof(int32_t)});
  // Through a buffer that needs no memory of its own.
  std::array<int32_t, 256> part{};
  size_t count = 0, done = 0;
  const auto flush = [&] {
    const auto bytes = std::as_bytes(std::span(part).first(count));
    context.backend.upload(bytes, positions.slice(static_cast<int64_t>(done * sizeof(int32_t)), std::ssize(bytes)));
    done += count;
    count = 0;
  };
  for (size_t b = 0; b + 1 < batch.offsets.size(); ++b) {
    int32_t next = padded ? padding_id_ + 1 : 0;
    for (int32_t row = batch.offsets[b]; row < batch.offsets[b + 1]; ++row) {
      const bool padding = padded && batch.ids[static_cast<size_t>(row)] == padding_id_;
      part[count++] = padding ? padding_id_ : next++;
      if (count == part.size()) flush();
    }
  }
  flush();
  return positions;
}

void Transformer::run_block(Context& context, int64_t index, const DeviceBatch& batch, const Activation& x) const {
  blocks_.at(static_cast<size_t>(index)).forward(context, rotary_ ? &*rotary_ : nullptr, index, batch, x);
}

Activation Transformer::head(Context& context, const DeviceBatch& batch, const Activation& x) const {
  const Linear* const outputs = this->outputs();
  const Linear* const last = outputs != nullptr ? outputs : inner_ ? &*inner_ : nullptr;
  if (last == nullptr) {
    if (final_norm_) final_norm_->forward(context, x, x);
    return x;
  }
  Workspace& workspace = context.workspace;
  const bool firsts = info_.output == OutputKind::kSequenceLogits;
  const int64_t rows = firsts ? batch.host.sequences() : x.rows;
  const Activation y = workspace.take_matrix(rows, last->outputs());
  const Workspace::Scope scope(workspace);
  Activation input = x;
  if (firsts) {
    input = workspace.take_matrix(rows, x.cols);
    context.backend.pool({.x = x, .offsets = batch.offsets, .pooling = Pooling::kFirst, .y = input});
  }
  if (inner_) {
    const Activation inner = outputs != nullptr ? workspace.take_matrix(rows, inner_->outputs()) : y;
    inner_->forward(context, rows_of(final_norm_), input, inner, head_nonlinearity_);
    input = inner;
  }
  if (outputs != nullptr) outputs->forward(context, rows_of(inner_ ? head_norm_ : final_norm_), input, y);
  return y;
}

}  // namespace octet

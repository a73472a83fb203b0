// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/profile.h"

#include <algorithm>

#include <fmt/format.h>

namespace octet {

template <class Run>
void ProfilingBackend::timed(const std::string& name, int64_t rows, double multiplications, Run run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  Entry& entry = entries_[{name, rows}];
  entry.name = name;
  entry.rows = rows;
  ++entry.calls;
  entry.seconds += elapsed.count();
  entry.multiplications += multiplications;
}

std::vector<ProfilingBackend::Entry> ProfilingBackend::entries() const {
  std::vector<Entry> out;
  for (const auto& [key, entry] : entries_) out.push_back(entry);
  std::ranges::stable_sort(out, std::greater(), &Entry::seconds);
  return out;
}

void ProfilingBackend::embed(const EmbedOp& op) {
  timed("embed", op.y.rows, 0, [&] { inner().embed(op); });
}
void ProfilingBackend::linear(const LinearOp& op) {
  const int64_t outputs = op.weight->rows(), inputs = op.weight->cols();
  const double multiplications =
      static_cast<double>(op.x.rows) * static_cast<double>(outputs) * static_cast<double>(inputs);
  timed(fmt::format("linear {} → {}", inputs, outputs), op.x.rows, multiplications, [&] { inner().linear(op); });
}
void ProfilingBackend::matmul(const MatmulOp& op) {
  const int64_t depth = op.turned == Turned::kA ? op.a.rows : op.a.cols;
  const double multiplications =
      static_cast<double>(op.y.rows) * static_cast<double>(op.y.cols) * static_cast<double>(depth);
  timed(fmt::format("matmul {} → {}", depth, op.y.cols), op.y.rows, multiplications, [&] { inner().matmul(op); });
}
void ProfilingBackend::layer_norm(const LayerNormOp& op) {
  timed("layer_norm", op.x.rows, 0, [&] { inner().layer_norm(op); });
}
void ProfilingBackend::rms_norm(const RmsNormOp& op) {
  timed("rms_norm", op.x.rows, 0, [&] { inner().rms_norm(op); });
}
void ProfilingBackend::rope(const RopeOp& op) {
  timed("rope", op.x.rows, 0, [&] { inner().rope(op); });
}
void ProfilingBackend::gated(const GatedOp& op) {
  timed("gated", op.x.rows, 0, [&] { inner().gated(op); });
}
void ProfilingBackend::attention(const AttentionOp& op) {
  timed("attention", op.q.rows, 0, [&] { inner().attention(op); });
}
void ProfilingBackend::pool(const PoolOp& op) {
  timed("pool", op.x.rows, 0, [&] { inner().pool(op); });
}
void ProfilingBackend::l2_normalize(const Activation& x) {
  timed("l2_normalize", x.rows, 0, [&] { inner().l2_normalize(x); });
}
void ProfilingBackend::nonlinearity(const NonlinearityOp& op) {
  timed("nonlinearity", op.x.rows, 0, [&] { inner().nonlinearity(op); });
}
void ProfilingBackend::nonlinearity_gradient(const NonlinearityGradientOp& op) {
  timed("nonlinearity_gradient", op.x.rows, 0, [&] { inner().nonlinearity_gradient(op); });
}
void ProfilingBackend::gated_gradient(const GatedGradientOp& op) {
  timed("gated_gradient", op.x.rows, 0, [&] { inner().gated_gradient(op); });
}
void ProfilingBackend::norm_gradient(const NormGradientOp& op) {
  timed("norm_gradient", op.x.rows, 0, [&] { inner().norm_gradient(op); });
}
void ProfilingBackend::attention_gradient(const AttentionGradientOp& op) {
  timed("attention_gradient", op.q.rows, 0, [&] { inner().attention_gradient(op); });
}
void ProfilingBackend::pool_gradient(const PoolGradientOp& op) {
  timed("pool_gradient", op.dx.rows, 0, [&] { inner().pool_gradient(op); });
}
void ProfilingBackend::embed_gradient(const EmbedGradientOp& op) {
  timed("embed_gradient", op.dy.rows, 0, [&] { inner().embed_gradient(op); });
}
void ProfilingBackend::column_sums(const ColumnSumsOp& op) {
  timed("column_sums", op.x.rows, 0, [&] { inner().column_sums(op); });
}
void ProfilingBackend::add(const AddOp& op) {
  timed("add", op.x.rows, 0, [&] { inner().add(op); });
}
void ProfilingBackend::round_trip(const RoundTripOp& op) {
  timed("round_trip", op.x.rows, 0, [&] { inner().round_trip(op); });
}
void ProfilingBackend::clip_gradient(const ClipGradientOp& op) {
  timed("clip_gradient", op.x.rows, 0, [&] { inner().clip_gradient(op); });
}
void ProfilingBackend::dropout(const DropoutOp& op) {
  timed("dropout", op.x.rows, 0, [&] { inner().dropout(op); });
}
void ProfilingBackend::cross_entropy(const CrossEntropyOp& op) {
  timed("cross_entropy", op.x.rows, 0, [&] { inner().cross_entropy(op); });
}
void ProfilingBackend::distill(const DistillOp& op) {
  timed("distill", op.x.rows, 0, [&] { inner().distill(op); });
}

void ProfilingBackend::squared_error(const SquaredErrorOp& op) {
  timed("squared_error", op.x.rows, 0, [&] { inner().squared_error(op); });
}
void ProfilingBackend::adamw(const AdamwOp& op) {
  timed("adamw", op.count, 0, [&] { inner().adamw(op); });
}

}  // namespace octet

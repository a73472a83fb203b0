// SPDX-License-Identifier: Apache-2.0
#include "octet/train/teacher.h"

#include <algorithm>
#include <span>

#include "octet/base/error.h"

namespace octet {
namespace {

Tensor rows_of(const Tensor& x, std::span<const int32_t> rows) {
  const int64_t cols = x.shape()[1];
  Tensor out(DType::kF32, {std::ssize(rows), cols});
  float* to = out.mutable_as<float>().data();
  for (const int32_t row : rows) to = std::copy_n(x.as<float>().data() + row * cols, cols, to);
  return out;
}

}  // namespace

Teacher::Teacher(const std::filesystem::path& model, const ModelInfo& student, const DistillOptions& options,
                 const CpuBackendOptions& cpu)
    : session_(model, {.recipe = std::nullopt, .cpu = cpu}), options_(options), blocks_(student.blocks) {
  const ModelInfo& own = session_.model().info();
  if (options.hidden > 0 && (own.width != student.width || own.blocks < student.blocks)) {
    fail<UsageError>(
        "the teacher {} has {} blocks of width {}, the trained model {} of {}: hidden states are learned from as many "
        "or "
        "more of the same width (distill_hidden)",
        model.string(), own.blocks, own.width, student.blocks, student.width);
  }
}

int64_t Teacher::piece_for(int64_t piece) const noexcept { return piece * session_.model().info().blocks / blocks_; }

void Teacher::look_at(Training& training, const TokenBatch& batch, float term) {
  if (options_.hidden <= 0) {
    output_ = session_.run(batch);
    return;
  }
  const Model& model = session_.model();
  const Workspace::Scope scope(session_.workspace());
  Context context = session_.context();
  const DeviceBatch on_device = upload(context, batch);
  states_.clear();
  of_hidden_ = 0;
  std::vector<float> host;
  const Activation x = model.embed(context, on_device);
  for (int64_t piece = 0; piece <= model.info().blocks; ++piece) {
    if (piece > 0) model.run_block(context, piece - 1, on_device, x);
    if (piece != piece_for(std::ssize(states_))) continue;
    host.resize(static_cast<size_t>(x.rows * x.cols));
    session_.backend().download(x, host);
    const Activation& kept = states_.emplace_back(training.kept.take_matrix(x.rows, x.cols));
    training.context.backend.upload(std::as_bytes(std::span(host)), kept.memory);
  }
  const Activation output = model.head(context, on_device, x);
  output_ = Tensor(DType::kF32, {output.rows, output.cols});
  session_.backend().download(output, output_.mutable_as<float>());

  const auto share = static_cast<float>(options_.hidden / static_cast<double>(std::ssize(states_) * x.cols));
  training.after_piece = [this, &training, share, term](int64_t piece, const Activation& states) {
    Context& own = training.context;
    const Workspace::Scope inner(own.workspace);
    const Activation& target = states_[static_cast<size_t>(piece)];
    const Activation losses = own.workspace.take_matrix(1, states.rows);
    own.backend.squared_error(
        {.x = states, .target = target, .factor = term * share, .losses = losses.memory, .dx = target});
    std::vector<float> sums(static_cast<size_t>(states.rows));
    own.backend.download(losses, sums);
    for (const float sum : sums) of_hidden_ += double{share} * double{sum};
  };
  training.add_gradient = [this, &training](int64_t piece, const Activation& d) {
    training.context.backend.add({.x = states_[static_cast<size_t>(piece)], .y = d});
  };
}

double Teacher::apply(Context& context, LossKind kind, const LabelledBatch& batch, float factor,
                      const Activation& output) {
  const Workspace::Scope scope(context.workspace);
  if (!batch.rows.empty()) output_ = rows_of(output_, batch.rows);
  if (output_.shape() != Shape{output.rows, output.cols}) {
    fail<UsageError>("the teacher {} gives {}, the trained model {}; both must have the same outputs",
                     session_.checkpoint().folder().string(), to_string(output_.shape()),
                     to_string(Shape{output.rows, output.cols}));
  }
  const Activation teacher = context.workspace.take_matrix(output.rows, output.cols);
  const Activation d = context.workspace.take_matrix(output.rows, output.cols);
  context.backend.upload(std::as_bytes(output_.as<float>()), teacher.memory);
  const auto alpha = static_cast<float>(options_.alpha);
  const double distance =
      distill(context, kind, batch, static_cast<float>(options_.temperature), alpha * factor, teacher, output, d);
  const double loss = apply_loss(context, kind, batch, (1 - alpha) * factor, output);
  context.backend.add({.x = d, .y = output});
  return (1 - options_.alpha) * loss + options_.alpha * distance;
}

}  // namespace octet

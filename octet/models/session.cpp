// SPDX-License-Identifier: Apache-2.0
#include "octet/models/session.h"

#include <algorithm>
#include <array>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/memory.h"

namespace octet {

Session::Session(const std::filesystem::path& directory, LoadOptions options)
    : checkpoint_(Checkpoint::open(directory)),
      backend_(make_backend(options)),
      workspace_(*backend_),
      model_(load_model(checkpoint_, options.recipe ? &*options.recipe : nullptr)) {
  model_->prepare(*backend_);
  release_free_memory();  // what quantizing and unpacking took on the way
}

std::unique_ptr<Backend> Session::make_backend(const LoadOptions& options) {
  std::unique_ptr<Backend> backend = make_cpu_backend(options.cpu);
  if (!options.profile) return backend;
  auto profiling = std::make_unique<ProfilingBackend>(std::move(backend));
  profile_ = profiling.get();
  return profiling;
}

Tensor Session::run(const TokenBatch& batch) {
  const Workspace::Scope scope(workspace_);
  Context context = this->context();
  const Activation output = model_->forward(context, upload(context, batch));
  Tensor result(DType::kF32, {output.rows, output.cols});
  backend_->download(output, result.mutable_as<float>());
  return result;
}

void Session::visit_head(Context& context, const DeviceBatch& batch, const Activation& x, int64_t rows_at_once,
                         const std::function<void(int64_t first, std::span<const float> rows)>& visit) {
  std::vector<float> rows;
  for (int64_t first = 0; first < x.rows; first += rows_at_once) {
    const Workspace::Scope part(workspace_);
    const Activation output = model_->head(context, batch, x.row_range(first, std::min(rows_at_once, x.rows - first)));
    check_numerics(context, model_->sites(), batch.host.offsets);
    rows.resize(static_cast<size_t>(output.rows * output.cols));
    backend_->download(output, rows);
    visit(first, rows);
  }
}

void Session::run_in_parts(const TokenBatch& batch, int64_t rows_at_once,
                           const std::function<void(int64_t first, std::span<const float> rows)>& visit) {
  const Workspace::Scope scope(workspace_);
  Context context = this->context();
  const DeviceBatch on_device = upload(context, batch);
  visit_head(context, on_device, model_->hidden_states(context, on_device), rows_at_once, visit);
}

KvCache Session::make_cache(std::optional<DType> dtype) {
  const ModelInfo& info = model_->info();
  if (!info.causal) {
    fail<UsageError>("{}: {} is not a decoder; it does not continue text", checkpoint_.folder().string(),
                     info.architecture);
  }
  const bool int8 = info.attention != ActivationMode::kFloat;
  const DType of_cache = dtype.value_or(int8 ? DType::kI8 : DType::kF32);
  if (int8 && of_cache != DType::kI8) {
    fail<UsageError>("keys and values in {}: this model's attention is in INT8, and so are its keys and values",
                     name(of_cache));
  }
  if (!int8 && of_cache == DType::kI8) {
    fail<UsageError>("keys and values in INT8 need attention in INT8: add --set attention=8 to the recipe");
  }
  return {*backend_,
          {.layers = info.blocks,
           .heads = info.kv_heads,
           .head_width = info.kv_head_width,
           .dtype = of_cache,
           .max_tokens = info.max_positions}};
}

void Session::run_continued(KvCache& cache, std::span<const int> sequences, const TokenBatch& batch,
                            const std::function<void(Context&, const DeviceBatch&, const Activation& x)>& use) {
  const Workspace::Scope scope(workspace_);
  Context context = this->context();
  std::vector<int64_t> lengths;
  for (const int sequence : sequences) lengths.push_back(cache.length(sequence));
  try {
    DeviceBatch on_device = upload(context, batch);
    on_device.kv = cache.extend(workspace_, sequences, batch.offsets, batch.ids);
    use(context, on_device, model_->hidden_states(context, on_device));
  } catch (...) {
    for (size_t b = 0; b < lengths.size(); ++b) cache.truncate(sequences[b], lengths[b]);
    throw;
  }
  cache.publish(sequences);
}

void Session::step(KvCache& cache, std::span<const int> sequences, const TokenBatch& batch, std::span<float> logits,
                   std::span<const int64_t> rows) {
  if (!rows.empty() && std::cmp_not_equal(rows.size(), batch.sequences())) {
    fail<ShapeError>("rows of logits for {} sequences of {}", rows.size(), batch.sequences());
  }
  std::vector<int32_t> wanted, wanted_offsets = {0};  // rows of the batch, sequence by sequence
  for (int64_t b = 0; b < batch.sequences(); ++b) {
    const auto at = static_cast<size_t>(b);
    const int32_t begin = batch.offsets[at], end = batch.offsets[at + 1];
    if (end == begin) fail("sequence {} of a batch is empty; nothing follows it", b);
    const int64_t count = rows.empty() ? 1 : rows[at];
    if (count < 0 || count > end - begin) fail<ShapeError>("logits of {} rows of a sequence of {}", count, end - begin);
    for (auto row = static_cast<int32_t>(end - count); row < end; ++row) wanted.push_back(row);
    wanted_offsets.push_back(narrow<int32_t>(std::ssize(wanted)));
  }
  run_continued(cache, sequences, batch, [&](Context& context, const DeviceBatch& on_device, const Activation& x) {
    if (wanted.empty()) return;
    // Gathered, unless they are all rows.
    Activation last = x;
    if (std::cmp_not_equal(wanted.size(), x.rows)) {
      last = workspace_.take_matrix(std::ssize(wanted), x.cols);
      const std::array<EmbedOp::Lookup, 1> lookup = {
          {{.table = {.memory = x.memory, .dtype = DType::kF32, .rows = x.rows, .cols = x.cols},
            .indices = workspace_.upload(std::span<const int32_t>(wanted))}}};
      backend_->embed({.lookups = lookup, .y = last});
    }
    const Activation output = model_->head(context, on_device, last);
    check_numerics(context, model_->sites(), wanted_offsets);
    backend_->download(output, logits);
  });
}

void Session::step_in_parts(KvCache& cache, std::span<const int> sequences, const TokenBatch& batch,
                            int64_t rows_at_once,
                            const std::function<void(int64_t first, std::span<const float> rows)>& visit) {
  run_continued(cache, sequences, batch, [&](Context& context, const DeviceBatch& on_device, const Activation& x) {
    visit_head(context, on_device, x, rows_at_once, visit);
  });
}

}  // namespace octet

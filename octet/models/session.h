// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/backend/profile.h"
#include "octet/models/model.h"

namespace octet {

struct LoadOptions {
  std::optional<Recipe> recipe = std::nullopt;  ///< quantizes a float model while it is loaded
  CpuBackendOptions cpu = {};
  bool profile = false;  ///< keep the time that each operation takes, see Session::profile
};

/// A model ready to run: its checkpoint mapped, its weights laid out for a backend, a workspace that is reused.
/// One thread at a time may use a session; its own work runs on as many as its backend has.
class Session {
 public:
  /// `directory` is a Hugging Face model directory. Errors as Checkpoint::open, load_model and make_cpu_backend.
  explicit Session(const std::filesystem::path& directory, LoadOptions options = {});

  const Checkpoint& checkpoint() const noexcept { return checkpoint_; }
  const Model& model() const noexcept { return *model_; }
  Backend& backend() noexcept { return *backend_; }
  /// Null unless LoadOptions asked for it.
  ProfilingBackend* profile() noexcept { return profile_; }
  Workspace& workspace() noexcept { return workspace_; }
  Context context() noexcept { return {*backend_, workspace_}; }

  /// The model's output for `batch`, [tokens or sequences, columns] fp32 (see ModelInfo::output).
  Tensor run(const TokenBatch& batch);
  /// The same in parts, so that the logits of a long text need not be held at once: visit(first, rows) gets the output
  /// rows [first, first + rows.size() / columns) one part after another, each at most `rows_at_once`. Not for outputs
  /// of a row a sequence.
  void run_in_parts(const TokenBatch& batch, int64_t rows_at_once,
                    const std::function<void(int64_t first, std::span<const float> rows)>& visit);

  /// A cache for sequences of this model, keys and values in `dtype`: I8 if its attention is in INT8, which is the
  /// default then, else F32, which is the default, or F16. Throws UsageError for the other kind, and where the model is
  /// no decoder.
  KvCache make_cache(std::optional<DType> dtype = std::nullopt);
  /// Runs a batch whose sequence b continues sequences[b] of `cache`: its positions are cache.length(sequences[b]) and
  /// on. `logits` [Σ rows, vocabulary] are those after the last rows[b] tokens of each sequence, in their order; none
  /// given: after the last one of each. No sequence may be empty. Where it throws, the cache's sequences are as long as
  /// before.
  void step(KvCache& cache, std::span<const int> sequences, const TokenBatch& batch, std::span<float> logits,
            std::span<const int64_t> rows = {});
  /// The same with the logits of every token of the batch, in parts, as run_in_parts gives them.
  void step_in_parts(KvCache& cache, std::span<const int> sequences, const TokenBatch& batch, int64_t rows_at_once,
                     const std::function<void(int64_t first, std::span<const float> rows)>& visit);

 private:
  std::unique_ptr<Backend> make_backend(const LoadOptions& options);
  void visit_head(Context& context, const DeviceBatch& batch, const Activation& x, int64_t rows_at_once,
                  const std::function<void(int64_t first, std::span<const float> rows)>& visit);
  /// Hands the hidden states of a batch that continues sequences of `cache` to `use`. Where that or the pass itself
  /// throws, the sequences are as long as before.
  void run_continued(KvCache& cache, std::span<const int> sequences, const TokenBatch& batch,
                     const std::function<void(Context&, const DeviceBatch&, const Activation& x)>& use);

  Checkpoint checkpoint_;
  ProfilingBackend* profile_ = nullptr;  ///< backend_, if it is one
  std::unique_ptr<Backend> backend_;
  Workspace workspace_;
  std::unique_ptr<Model> model_;
};

}  // namespace octet

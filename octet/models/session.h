// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/models/model.h"

namespace octet {

struct LoadOptions {
  std::optional<Recipe> recipe = std::nullopt;  ///< quantizes a float model while it is loaded
  CpuBackendOptions cpu = {};
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
  Workspace& workspace() noexcept { return workspace_; }
  Context context() noexcept { return {*backend_, workspace_}; }

  /// The model's output for `batch`, [tokens or sequences, columns] fp32 (see ModelInfo::output).
  Tensor run(const TokenBatch& batch);

 private:
  Checkpoint checkpoint_;
  std::unique_ptr<Backend> backend_;
  Workspace workspace_;
  std::unique_ptr<Model> model_;
};

}  // namespace octet

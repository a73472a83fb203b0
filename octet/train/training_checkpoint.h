// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/nn/trainable.h"
#include "octet/optim/optimizer.h"
#include "octet/quant/recipe.h"
#include "octet/train/loss_scale.h"

namespace octet {

/// What an evaluation found.
struct Evaluation {
  int64_t step = 0;
  double epoch = 0;
  std::vector<std::pair<std::string, double>> metrics;
};

/// Where a run is, besides the values of its parameters and its optimizer's state. The order of its data, its rates and
/// its dropout are functions of the step.
struct TrainingProgress {
  int64_t step = 0;
  std::vector<Evaluation> evaluations;
  int64_t best_step = -1;
  double best_value = 0;
  int64_t since_best = 0;  ///< evaluations since then
  LossScale loss_scale{1};
};

/// The folder of a run:
///
///   train_config.json   the config that holds
///   checkpoint-STEP/    a Hugging Face directory, optimizer.safetensors and training_state.json; and, where the model
///                       is quantized in training, qat_recipe.json
///   best/               the best one so far, without its training state
///
/// All of them appear whole or not at all, so that a run may be killed at any moment.
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}

  const std::filesystem::path& path() const noexcept { return folder_; }
  std::filesystem::path checkpoint(int64_t step) const;
  std::filesystem::path best() const { return folder_ / "best"; }
  std::filesystem::path config() const { return folder_ / "train_config.json"; }
  /// The steps that have a checkpoint, ascending.
  std::vector<int64_t> steps() const;

  /// `recipe`: by which the model is quantized in training, or null.
  void save(const Checkpoint& source, const Trainables& trained, const Optimizer& optimizer,
            const TrainingProgress& progress, const Recipe* recipe) const;
  /// Of the step's checkpoint, which is there.
  void save_progress(const TrainingProgress& progress, const Trainables& trained) const;
  /// `first`: the loss scale of a run that begins. Throws FormatError where the state is that of other parameters or of
  /// another optimizer.
  TrainingProgress load(int64_t step, const LossScale& first, const Trainables& trained, Optimizer& optimizer) const;
  /// best/ is a copy of a checkpoint's model from now on.
  void make_best(int64_t step) const;
  /// Removes all checkpoints but the last `keep`, and what killed runs left.
  void tidy(int64_t keep) const;

 private:
  void remove(const std::filesystem::path& path) const;

  std::filesystem::path folder_;
};

}  // namespace octet

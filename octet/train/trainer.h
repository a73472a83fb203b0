// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "octet/backend/cpu/cpu_backend.h"
#include "octet/train/training_checkpoint.h"
#include "octet/train/training_task.h"

namespace octet {

/// What a step of the optimizer did.
struct TrainingStep {
  int64_t step = 0, steps = 0;  ///< steps done, and in all
  double epoch = 0;
  double loss = 0;           ///< mean over the batch
  double gradient_norm = 0;  ///< before it was cut
  double learning_rate = 0;
  int64_t tokens = 0;
};

struct TrainOptions {
  std::filesystem::path out;
  bool resume = false;  ///< go on from the last checkpoint in `out`
  CpuBackendOptions cpu = {};
  std::function<void(const TrainingStep&)> after_step = [](const TrainingStep&) {};
  std::function<void(const Evaluation&, bool best)> after_evaluation = [](const Evaluation&, bool) {};
  std::function<void(const std::string&)> note = [](const std::string&) {};
};

struct TrainReport {
  int64_t steps = 0;          ///< in all, those of earlier runs too
  int64_t resumed_from = -1;  ///< a step; -1: from the start
  bool stopped_early = false;
  std::string metric;
  std::vector<Evaluation> evaluations;
  int64_t best_step = -1;
  double best_value = 0;
  int64_t tokens = 0;  ///< that this run learned from
  double seconds = 0;  ///< that its steps took
  int64_t parameters = 0;
  int64_t activation_bytes = 0;  ///< kept between forward and backward, and passed on the way, at most
};

/// Trains the model of `config` on `task` and leaves in `out`, a folder of its own, what RunFolder says; log.csv and
/// TensorBoard's event files too. Steps are a function of config and data: neither threads, nor kills and resumptions
/// change a bit.
///
/// Throws UsageError where `out` holds a run and resume is not asked for, or one by another config; NumericError where
/// a loss or a gradient is not finite, saying in which layer first; the last checkpoint stays.
TrainReport train(const TrainConfig& config, const TrainingTask& task, const TrainOptions& options);

}  // namespace octet

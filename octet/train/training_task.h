// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "octet/eval/task.h"
#include "octet/text/tokenizer.h"
#include "octet/train/loss.h"
#include "octet/train/task_head.h"
#include "octet/train/train_config.h"

namespace octet {

/// What a model is trained for: examples, a loss, and how it is judged.
class TrainingTask {
 public:
  virtual ~TrainingTask() = default;

  virtual LossKind loss() const noexcept = 0;
  virtual TaskHead head() const = 0;
  virtual int64_t examples() const noexcept = 0;
  virtual int64_t tokens(size_t example) const = 0;
  /// The examples, in their order, with what `loss` compares. What is drawn at random for them is a function of the
  /// config's seed, of the optimizer's steps before this one and of each example.
  virtual LabelledBatch batch(std::span<const size_t> examples, int64_t step) const = 0;
  /// The figures of a model on the task's data for evaluation.
  virtual TaskResult evaluate(Session& session) const = 0;
  /// Of these the one that says which model is best.
  virtual std::string metric() const = 0;
  /// What a reader must know: truncated texts.
  virtual std::vector<std::string> notes() const { return {}; }
};

/// The names that TrainConfig::task may have, and what each is, in the order to show them.
std::vector<std::pair<std::string, std::string>> training_tasks();

/// Reads the data of a run. Throws UsageError, with the nearest name, for a task that is not there, and what the
/// readers throw, each naming file and line.
std::unique_ptr<TrainingTask> make_training_task(const TrainConfig& config);

/// Whether a lower value of a metric is better.
bool lower_is_better(std::string_view metric);

}  // namespace octet

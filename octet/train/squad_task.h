// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/train/training_task.h"

namespace octet {

/// Answers to questions as spans of their contexts (SQuAD 1.1): of train-v1.1.json and dev-v1.1.json, or train.json and
/// dev.json, in the folder TrainConfig::data, or of train_data and eval_data. An example is a window of max_length
/// tokens that shares doc_stride of the context's with the next one; where a window does not hold the whole answer, its
/// first token is the answer. Judged as `octet eval --task squad` does, by F1.
std::unique_ptr<TrainingTask> make_squad_task(const TrainConfig& config);

}  // namespace octet

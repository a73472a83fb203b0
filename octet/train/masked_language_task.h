// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/train/training_task.h"

namespace octet {

/// Masked tokens of a text (see TokenMask), in windows of max_length tokens of TrainConfig::train_data, a text or a
/// file of tokens; each step masks others. Judged by the loss on those of eval_data, always the same ones. The model
/// must have the head for it.
std::unique_ptr<TrainingTask> make_masked_language_task(const TrainConfig& config);

}  // namespace octet

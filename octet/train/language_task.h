// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/train/training_task.h"

namespace octet {

/// The next token of a text, in windows of max_length tokens (of TrainConfig::train_data, a text or a file of tokens),
/// judged by the perplexity of another text (eval_data).
std::unique_ptr<TrainingTask> make_language_task(const TrainConfig& config);

}  // namespace octet

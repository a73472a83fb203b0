// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "octet/data/glue.h"
#include "octet/train/training_task.h"

namespace octet {

/// Texts, or pairs of them, with a label or a grade each: those of `glue`, or, where that is null, of any files that
/// read_labelled_texts takes (TrainConfig::train_data and eval_data).
std::unique_ptr<TrainingTask> make_text_task(const TrainConfig& config, const GlueTask* glue);

}  // namespace octet

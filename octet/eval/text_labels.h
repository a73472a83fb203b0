// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "octet/data/glue.h"
#include "octet/data/labelled_texts.h"
#include "octet/eval/task.h"
#include "octet/models/session.h"
#include "octet/text/tokenizer.h"

namespace octet {

/// What a model with a head over labels says of texts.
struct LabelLogits {
  std::vector<std::vector<float>> rows;  ///< of each text: one a class, or one grade
  int64_t truncated = 0;                 ///< texts that were cut to the model's longest

  std::vector<int64_t> classes() const;  ///< the largest of each row, the first of equals
  std::vector<double> grades() const;    ///< the first of each row
};

/// Runs the first `count` texts in batches by length. Throws Error where the model has no such head.
LabelLogits run_label_logits(Session& session, const Tokenizer& tokenizer, const LabelledTexts& texts, size_t count,
                             const std::function<void(int64_t texts)>& advance = {});

/// What config.json's id2label calls the classes 0 to outputs - 1; without those that it does not name.
std::map<std::string, int64_t> names_of_classes(const Config& config, int64_t outputs);

/// How a model numbers the classes of a task.
struct ModelClasses {
  std::vector<int64_t> numbers;  ///< of each of the task's classes
  std::string note;              ///< what a reader must know of them, if anything
};
/// By the names in config.json's id2label, upper or lower case, where those are the task's; else in the task's order,
/// with a note unless the names say nothing ("LABEL_0"). Throws Error where the model has another number of outputs.
ModelClasses classes_of_model(const GlueTask& task, const Config& config, int64_t outputs);

/// The labels of a file, as the task's classes or as grades. Throws FormatError naming file and line for another.
std::vector<int64_t> glue_classes(const GlueTask& task, const LabelledTexts& texts, const std::string& path);
std::vector<double> glue_grades(const GlueTask& task, const LabelledTexts& texts, const std::string& path);

/// The task's metrics in its order, accuracy with its standard error.
std::vector<TaskResult::Metric> glue_metrics(const GlueTask& task, std::span<const int64_t> predicted,
                                             std::span<const int64_t> labels);
std::vector<TaskResult::Metric> glue_metrics(const GlueTask& task, std::span<const double> predicted,
                                             std::span<const double> grades);

}  // namespace octet

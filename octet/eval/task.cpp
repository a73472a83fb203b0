// SPDX-License-Identifier: Apache-2.0
#include "octet/eval/task.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/suggest.h"

namespace octet {

namespace {

template <class T>
std::vector<std::string> lines_of(std::span<const T> labels, std::span<const T> predicted) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < labels.size(); ++i)
    lines.push_back(json_text(nlohmann::ordered_json({{"label", labels[i]}, {"predicted", predicted[i]}})));
  return lines;
}

std::vector<Task> make_tasks() {
  std::vector<Task> table = {
      {"similarity", "cosine of sentence vectors on pairs of sentences, graded (STS-B's tsv) or labelled (MRPC's tsv)",
       Task::Data::kPairs, "pairs", run_similarity},
      {"classification", "labels of texts or pairs of texts by a model with such a head (GLUE's tsv files)",
       Task::Data::kTexts, "texts", run_classification},
      {"perplexity", "how well a decoder predicts a text, per token, word and byte, in windows of its tokens",
       Task::Data::kText, "windows", run_perplexity},
      {"mlm", "masked tokens of a text, found by an encoder with such a head: loss, pseudo-perplexity, accuracy",
       Task::Data::kText, "windows", run_masked_language},
      {"multiple_choice",
       "questions that a decoder answers by the likelihood of each choice (JSON lines: context, choices, answer)",
       Task::Data::kLines, "questions", run_multiple_choice},
      {"last_word", "the last word of texts, predicted by a decoder from the others (LAMBADA; JSON lines: text)",
       Task::Data::kLines, "texts", run_last_word},
      {"squad", "answers to questions, found in their contexts by a model with a head for spans (SQuAD 1.1's json)",
       Task::Data::kSpans, "questions", run_squad},
  };
  for (const GlueTask& task : glue_tasks()) {
    table.push_back({task.name, fmt::format("GLUE's {}: {}", task.folder, task.description), Task::Data::kTexts,
                     "texts",
                     [&task](Session& session, const TaskInput& input) { return run_glue(task, session, input); }});
  }
  return table;
}

}  // namespace

std::span<const Task> tasks() {
  static const std::vector<Task> table = make_tasks();
  return table;
}

const Task& find_task(const std::string& name) {
  const std::span<const Task> all = tasks();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Task& task) { return task.name == name; });
  if (found != all.end()) return *found;
  std::vector<std::string> names;
  for (const Task& task : all) names.push_back(task.name);
  fail<UsageError>("unknown task '{}'.{}", name, did_you_mean(name, names));
}

std::vector<std::string> prediction_lines(std::span<const int64_t> labels, std::span<const int64_t> predicted) {
  return lines_of(labels, predicted);
}

std::vector<std::string> prediction_lines(std::span<const double> labels, std::span<const double> predicted) {
  return lines_of(labels, predicted);
}

TaskResult::Metric share_metric(const std::string& name, double share, size_t count) {
  TaskResult::Metric metric{.name = name, .value = share};
  if (count > 1) metric.standard_error = std::sqrt(share * (1 - share) / (static_cast<double>(count) - 1));
  return metric;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/data/glue.h"

#include <algorithm>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/data/tsv.h"
#include "octet/eval/metrics.h"
#include "octet/eval/text_labels.h"

namespace octet {
namespace {

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
  return text;
}

// "LABEL_0": what transformers writes where nobody named the classes.
bool says_nothing(const std::string& name) { return lower(name).starts_with("label_"); }

template <class Parse>
auto parse_labels(const LabelledTexts& texts, const std::string& path, Parse parse, const std::string& needed) {
  std::vector<typename std::invoke_result_t<Parse, const std::string&>::value_type> labels;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto label = parse(texts.labels[i]);
    if (!label)
      fail<FormatError>("{}: line {}: the label is '{}'; {}", path, texts.lines[i], excerpt(texts.labels[i]), needed);
    labels.push_back(*label);
  }
  return labels;
}

void keep_first(LabelledTexts& texts, std::optional<int64_t> limit) {
  if (!limit || std::cmp_greater_equal(*limit, texts.size())) return;
  const auto kept = static_cast<size_t>(*limit);
  texts.first.resize(kept);
  if (texts.in_pairs()) texts.second.resize(kept);
  texts.labels.resize(kept);
  texts.lines.resize(kept);
}

}  // namespace

std::map<std::string, int64_t> names_of_classes(const Config& config, int64_t outputs) {
  std::map<std::string, int64_t> names;
  if (!config.has("id2label")) return names;
  const Config object = config.object("id2label");
  for (int64_t i = 0; i < outputs; ++i) {
    const std::string key = std::to_string(i);
    if (object.has(key)) names.emplace(object.text(key), i);
  }
  return names;
}

ModelClasses classes_of_model(const GlueTask& task, const Config& config, int64_t outputs) {
  if (outputs != task.outputs()) {
    fail("{}: the model has {} output{}; the task '{}' needs {}", config.source(), outputs, outputs == 1 ? "" : "s",
         task.name, task.outputs());
  }
  std::map<std::string, int64_t> names;
  std::vector<std::string> given;
  for (const auto& [name, number] : names_of_classes(config, outputs)) {
    names.emplace(lower(name), number);
    given.push_back(name);
  }
  ModelClasses classes;
  for (size_t i = 0; i < task.labels.size(); ++i) {
    const auto named = names.find(task.labels[i]);
    if (named != names.end()) classes.numbers.push_back(named->second);
  }
  if (classes.numbers.size() == task.labels.size()) return classes;
  classes.numbers.clear();
  for (size_t i = 0; i < task.labels.size(); ++i) classes.numbers.push_back(static_cast<int64_t>(i));
  if (!std::ranges::all_of(given, says_nothing)) {
    classes.note = fmt::format("config.json calls the classes '{}', which the task does not; they were taken for '{}'",
                               fmt::join(given, "', '"), fmt::join(task.labels, "', '"));
  }
  return classes;
}

std::vector<int64_t> glue_classes(const GlueTask& task, const LabelledTexts& texts, const std::string& path) {
  return parse_labels(
      texts, path, [&](const std::string& label) { return task.class_of(label); },
      fmt::format("those of the task '{}' are '{}', or 0 to {}", task.name, fmt::join(task.labels, "', '"),
                  task.outputs() - 1));
}

std::vector<double> glue_grades(const GlueTask& task, const LabelledTexts& texts, const std::string& path) {
  return parse_labels(
      texts, path, [](const std::string& label) { return finite_number(label); },
      fmt::format("those of the task '{}' are numbers", task.name));
}

std::vector<TaskResult::Metric> glue_metrics(const GlueTask& task, std::span<const int64_t> predicted,
                                             std::span<const int64_t> labels) {
  std::vector<TaskResult::Metric> metrics;
  for (const std::string& name : task.metrics) {
    if (name == "accuracy") metrics.push_back(share_metric(name, accuracy(predicted, labels), labels.size()));
    if (name == "f1") metrics.push_back({name, f1_score(predicted, labels)});
    if (name == "matthews") metrics.push_back({name, matthews(predicted, labels)});
  }
  return metrics;
}

std::vector<TaskResult::Metric> glue_metrics(const GlueTask& task, std::span<const double> predicted,
                                             std::span<const double> grades) {
  std::vector<TaskResult::Metric> metrics;
  for (const std::string& name : task.metrics) {
    if (name == "pearson") metrics.push_back({name, pearson(predicted, grades)});
    if (name == "spearman") metrics.push_back({name, spearman(predicted, grades)});
  }
  return metrics;
}

TaskResult run_glue(const GlueTask& task, Session& session, const TaskInput& input) {
  struct Part {
    std::string suffix;
    LabelledTexts texts;
    std::vector<int64_t> classes;
    std::vector<double> grades;
  };
  // All labels are read before anything runs.
  std::vector<Part> parts;
  int64_t total = 0, done = 0;
  for (const auto& [path, suffix] : task.dev_files(input.data)) {
    Part part{.suffix = suffix, .texts = read_labelled_texts(path, input.columns), .classes = {}, .grades = {}};
    keep_first(part.texts, input.limit);
    if (task.is_regression()) {
      part.grades = glue_grades(task, part.texts, path.string());
    } else {
      part.classes = glue_classes(task, part.texts, path.string());
    }
    total += static_cast<int64_t>(part.texts.size());
    parts.push_back(std::move(part));
  }

  const Tokenizer tokenizer = Tokenizer::load(input.model);
  TaskResult result{.metrics = {}, .counts = {}, .examples = total, .notes = {}};
  for (const Part& part : parts) {
    const LabelLogits logits = run_label_logits(session, tokenizer, part.texts, part.texts.size(),
                                                [&](int64_t more) { input.advance(done += more, total); });
    ModelClasses classes =
        classes_of_model(task, session.checkpoint().config(), static_cast<int64_t>(logits.rows.front().size()));
    // F1 is of the task's class 1, so that predictions take the task's numbers.
    std::vector<int64_t> predicted;
    for (const int64_t number : logits.classes())
      predicted.push_back(std::ranges::find(classes.numbers, number) - classes.numbers.begin());
    const std::vector<std::string> lines = task.is_regression() ? prediction_lines(part.grades, logits.grades())
                                                                : prediction_lines(part.classes, predicted);
    result.predictions.insert(result.predictions.end(), lines.begin(), lines.end());
    std::vector<TaskResult::Metric> metrics = task.is_regression() ? glue_metrics(task, logits.grades(), part.grades)
                                                                   : glue_metrics(task, predicted, part.classes);
    for (TaskResult::Metric& metric : metrics) {
      metric.name += part.suffix;
      result.metrics.push_back(std::move(metric));
    }
    if (!classes.note.empty() && result.notes.empty()) result.notes.push_back(std::move(classes.note));
    if (logits.truncated > 0) {
      result.notes.push_back(fmt::format("{} of {} texts were truncated", logits.truncated, part.texts.size()));
    }
  }
  return result;
}

}  // namespace octet

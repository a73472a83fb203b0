// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/data/labelled_texts.h"
#include "octet/data/tsv.h"
#include "octet/eval/metrics.h"
#include "octet/eval/text_labels.h"

namespace octet {
namespace {

// What a model's classes are called: by config.json, or as GLUE's files spell them in the order that they usually have.
class Classes {
 public:
  Classes(const Config& config, int64_t count) : count_(count), by_name_(names_of_classes(config, count)) {
    const std::vector<std::string> usual = count == 2 ? std::vector<std::string>{"entailment", "not_entailment"}
                                           : count == 3
                                               ? std::vector<std::string>{"entailment", "neutral", "contradiction"}
                                               : std::vector<std::string>{};
    for (size_t i = 0; i < usual.size(); ++i) usual_.emplace(usual[i], static_cast<int64_t>(i));
  }

  int64_t find(const std::string& label, const std::string& where) {
    if (const auto named = by_name_.find(label); named != by_name_.end()) return named->second;
    if (const std::optional<double> number = finite_number(label)) {
      if (*number == std::floor(*number) && *number >= 0 && *number < static_cast<double>(count_)) {
        return static_cast<int64_t>(*number);
      }
      fail<FormatError>("{}: the label is {}; the model has the classes 0 to {}", where, label, count_ - 1);
    }
    if (const auto usual = usual_.find(label); usual != usual_.end()) {
      assumed_ = true;
      return usual->second;
    }
    fail<FormatError>(
        "{}: the label '{}' is none of the model's {} classes; its config.json can name them in 'id2label'", where,
        label, count_);
  }
  // Whether config.json did not name a label that is a word.
  bool assumed() const noexcept { return assumed_; }

 private:
  int64_t count_;
  std::map<std::string, int64_t> by_name_, usual_;
  bool assumed_ = false;
};

}  // namespace

TaskResult run_classification(Session& session, const TaskInput& input) {
  const LabelledTexts texts = read_labelled_texts(input.data, input.columns);
  const size_t count = input.limit ? std::min(texts.size(), static_cast<size_t>(*input.limit)) : texts.size();
  int64_t done = 0;
  const LabelLogits logits = run_label_logits(session, Tokenizer::load(input.model), texts, count, [&](int64_t more) {
    input.advance(done += more, static_cast<int64_t>(count));
  });

  const auto where = [&](size_t i) { return fmt::format("{}: line {}", input.data.string(), texts.lines[i]); };
  TaskResult result{.metrics = {}, .counts = {}, .examples = static_cast<int64_t>(count), .notes = {}};
  if (const auto classes = std::ssize(logits.rows.front()); classes == 1) {
    std::vector<double> grades;
    for (size_t i = 0; i < count; ++i) {
      const std::optional<double> grade = finite_number(texts.labels[i]);
      if (!grade)
        fail<FormatError>("{}: the label '{}' is no number, which this model predicts", where(i), texts.labels[i]);
      grades.push_back(*grade);
    }
    const std::vector<double> predicted = logits.grades();
    result.predictions = prediction_lines(grades, predicted);
    result.metrics = {{"pearson", pearson(predicted, grades)}, {"spearman", spearman(predicted, grades)}};
  } else {
    Classes names(session.checkpoint().config(), classes);
    const std::vector<int64_t> predicted = logits.classes();
    std::vector<int64_t> labels;
    for (size_t i = 0; i < count; ++i) labels.push_back(names.find(texts.labels[i], where(i)));
    result.predictions = prediction_lines(labels, predicted);
    result.metrics.push_back(share_metric("accuracy", accuracy(predicted, labels), count));
    if (classes == 2) result.metrics.push_back({"f1", f1_score(predicted, labels)});
    result.metrics.push_back({"matthews", matthews(predicted, labels)});
    if (names.assumed()) {
      result.notes.emplace_back("config.json does not name the classes; entailment was taken for class 0");
    }
  }
  if (logits.truncated > 0)
    result.notes.push_back(fmt::format("{} of {} texts were truncated", logits.truncated, count));
  return result;
}

}  // namespace octet

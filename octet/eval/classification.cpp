// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/data/labelled_texts.h"
#include "octet/data/tsv.h"
#include "octet/eval/metrics.h"
#include "octet/eval/task.h"
#include "octet/models/batches.h"

namespace octet {
namespace {

// What a model's classes are called: by config.json, or as GLUE's files spell them in the order that they usually have.
class Classes {
 public:
  Classes(const Config& config, int64_t count) : count_(count) {
    if (config.has("id2label")) {
      const Config names = config.object("id2label");
      for (int64_t i = 0; i < count; ++i) {
        const std::string key = std::to_string(i);
        if (names.has(key)) by_name_.emplace(names.text(key), i);
      }
    }
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
  const ModelInfo& info = session.model().info();
  if (info.output != OutputKind::kSequenceLogits) {
    fail("{}: {} has no head that gives a label to a text; one such as BertForSequenceClassification is needed",
         session.checkpoint().folder().string(), info.architecture);
  }
  const LabelledTexts texts = read_labelled_texts(input.data);
  const size_t count = input.limit ? std::min(texts.size(), static_cast<size_t>(*input.limit)) : texts.size();
  const Tokenizer tokenizer = Tokenizer::load(input.model);
  const int64_t longest = std::min(tokenizer.model_max_length().value_or(info.max_positions), info.max_positions);

  std::vector<Encoding> encodings;
  int64_t truncated = 0;
  for (size_t i = 0; i < count; ++i) {
    const EncodeOptions options{.truncation = Truncation{.max_length = longest}};
    encodings.push_back(texts.in_pairs() ? tokenizer.encode_pair(texts.first[i], texts.second[i], options)
                                         : tokenizer.encode(texts.first[i], options));
    truncated += encodings.back().dropped > 0 ? 1 : 0;
  }
  int64_t done = 0;
  std::vector<std::vector<float>> logits(count);
  for_batches_by_length(encodings, [&](const TokenBatch& batch, std::span<const size_t> places) {
    const Tensor out = session.run(batch);
    const int64_t classes = out.shape()[1];
    for (size_t i = 0; i < places.size(); ++i) {
      const auto row = out.as<float>().subspan(i * static_cast<size_t>(classes), static_cast<size_t>(classes));
      logits[places[i]].assign(row.begin(), row.end());
    }
    input.advance(done += std::ssize(places), static_cast<int64_t>(count));
  });

  const auto where = [&](size_t i) { return fmt::format("{}: line {}", input.data.string(), texts.lines[i]); };
  TaskResult result{.metrics = {}, .counts = {}, .examples = static_cast<int64_t>(count), .notes = {}};
  if (const auto classes = std::ssize(logits.front()); classes == 1) {
    std::vector<double> predicted, grades;
    for (size_t i = 0; i < count; ++i) {
      const std::optional<double> grade = finite_number(texts.labels[i]);
      if (!grade)
        fail<FormatError>("{}: the label '{}' is no number, which this model predicts", where(i), texts.labels[i]);
      predicted.push_back(logits[i].front());
      grades.push_back(*grade);
    }
    result.metrics = {{"pearson", pearson(predicted, grades)}, {"spearman", spearman(predicted, grades)}};
  } else {
    Classes names(session.checkpoint().config(), classes);
    std::vector<int64_t> predicted, labels;
    for (size_t i = 0; i < count; ++i) {
      predicted.push_back(std::ranges::max_element(logits[i]) - logits[i].begin());
      labels.push_back(names.find(texts.labels[i], where(i)));
    }
    const double right = accuracy(predicted, labels);
    result.metrics.push_back({.name = "accuracy",
                              .value = right,
                              .standard_error = std::sqrt(right * (1 - right) / (static_cast<double>(count) - 1))});
    if (classes == 2) result.metrics.push_back({"f1", f1_score(predicted, labels)});
    result.metrics.push_back({"matthews", matthews(predicted, labels)});
    if (names.assumed()) {
      result.notes.emplace_back("config.json does not name the classes; entailment was taken for class 0");
    }
  }
  if (truncated > 0) result.notes.push_back(fmt::format("{} of {} texts were truncated", truncated, count));
  return result;
}

}  // namespace octet

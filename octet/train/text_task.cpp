// SPDX-License-Identifier: Apache-2.0
#include "octet/train/text_task.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "octet/base/error.h"
#include "octet/data/labelled_texts.h"
#include "octet/data/tsv.h"
#include "octet/models/session.h"

namespace octet {
namespace {

constexpr int64_t kUsualLength = 128;

// The number of classes in `labels`, if all are numbers of classes.
std::optional<int64_t> count_numbered(const std::vector<std::string>& labels) {
  double largest = 0;
  for (const std::string& label : labels) {
    const std::optional<double> number = finite_number(label);
    if (!number || *number != std::floor(*number) || *number < 0 || *number > 1 << 20) return std::nullopt;
    largest = std::max(largest, *number);
  }
  return static_cast<int64_t>(largest) + 1;
}

class TextTask : public TrainingTask {
 public:
  TextTask(const TrainConfig& config, const GlueTask* glue) : config_(config), glue_(glue) {
    const std::filesystem::path file = train_file();
    LabelledTexts texts = read_labelled_texts(file);
    const size_t count = config.limit > 0 ? std::min(texts.size(), static_cast<size_t>(config.limit)) : texts.size();
    set_head(texts);
    const Tokenizer tokenizer = Tokenizer::load(config.model);
    const int64_t length = config.max_length > 0 ? config.max_length : kUsualLength;
    const EncodeOptions options{.truncation = Truncation{.max_length = length}};
    int64_t truncated = 0;
    for (size_t i = 0; i < count; ++i) {
      encodings_.push_back(texts.in_pairs() ? tokenizer.encode_pair(texts.first[i], texts.second[i], options)
                                            : tokenizer.encode(texts.first[i], options));
      truncated += encodings_.back().dropped > 0 ? 1 : 0;
      add_label(texts.labels[i], fmt::format("{}: line {}", file.string(), texts.lines[i]));
    }
    if (truncated > 0) {
      notes_.push_back(
          fmt::format("{} of {} training texts were cut to {} tokens (max_length)", truncated, count, length));
    }
  }

  LossKind loss() const noexcept override { return head_.outputs == 1 ? LossKind::kGrades : LossKind::kClasses; }
  TaskHead head() const override { return head_; }
  int64_t examples() const noexcept override { return std::ssize(encodings_); }
  int64_t tokens(size_t example) const override { return std::ssize(encodings_.at(example).ids); }

  LabelledBatch batch(std::span<const size_t> examples, int64_t /*step*/) const override {
    LabelledBatch out;
    for (const size_t i : examples) {
      out.tokens.add(encodings_.at(i).ids, encodings_[i].type_ids);
      if (head_.outputs == 1) {
        out.grades.push_back(grades_[i]);
      } else {
        out.labels.push_back(labels_[i]);
      }
    }
    return out;
  }

  TaskResult evaluate(Session& session) const override {
    const std::string data = !config_.eval_data.empty() ? config_.eval_data : config_.data;
    if (data.empty()) fail<UsageError>("the task '{}' needs 'eval_data', a file to judge the model on", config_.task);
    TaskInput input{.model = session.checkpoint().folder(), .data = data};
    if (config_.eval_limit > 0) input.limit = config_.eval_limit;
    return find_task(glue_ != nullptr ? glue_->name : "classification").run(session, input);
  }
  std::string metric() const override {
    if (glue_ != nullptr) return glue_->best_metric();
    return head_.outputs == 1 ? "pearson" : "accuracy";
  }
  std::vector<std::string> notes() const override { return notes_; }

 private:
  std::filesystem::path train_file() const {
    if (!config_.train_data.empty()) return config_.train_data;
    if (glue_ != nullptr && !config_.data.empty()) return glue_->train_file(config_.data);
    fail<UsageError>("the task '{}' needs {}", config_.task,
                     glue_ != nullptr ? "'data', its folder, or 'train_data', a file" : "'train_data', a file");
  }

  void set_head(const LabelledTexts& texts) {
    head_.kind = TaskHead::Kind::kClassification;
    if (glue_ != nullptr) {
      head_.outputs = glue_->outputs();
      head_.labels = glue_->labels;
      return;
    }
    head_.outputs = config_.labels;
    if (head_.outputs == 1) return;
    if (const std::optional<int64_t> numbered = count_numbered(texts.labels)) {
      if (head_.outputs == 0) head_.outputs = std::max<int64_t>(2, *numbered);
      return;
    }
    const std::set<std::string> names(texts.labels.begin(), texts.labels.end());
    head_.labels.assign(names.begin(), names.end());
    if (head_.outputs != 0 && head_.outputs != std::ssize(head_.labels)) {
      fail<UsageError>("the training data has {} labels, but 'labels' says {}", head_.labels.size(), head_.outputs);
    }
    head_.outputs = std::ssize(head_.labels);
    if (head_.outputs < 2)
      fail<FormatError>("all training texts have the label '{}': there is nothing to learn", head_.labels.front());
  }

  void add_label(const std::string& label, const std::string& where) {
    const std::optional<double> number = finite_number(label);
    if (head_.outputs == 1) {
      if (!number) fail<FormatError>("{}: the label '{}' is no number, and grades are to be learned", where, label);
      grades_.push_back(static_cast<float>(*number));
      return;
    }
    std::optional<int64_t> found;
    if (glue_ != nullptr) {
      found = glue_->class_of(label);
    } else if (!head_.labels.empty()) {
      found = std::ranges::find(head_.labels, label) - head_.labels.begin();
    } else if (number && *number == std::floor(*number) && *number >= 0 &&
               *number < static_cast<double>(head_.outputs)) {
      found = static_cast<int64_t>(*number);
    }
    if (!found) fail<FormatError>("{}: the label '{}' is none of the {} classes", where, label, head_.outputs);
    labels_.push_back(static_cast<int32_t>(*found));
  }

  TrainConfig config_;
  const GlueTask* glue_;
  TaskHead head_;
  std::vector<Encoding> encodings_;
  std::vector<int32_t> labels_;
  std::vector<float> grades_;
  std::vector<std::string> notes_;
};

}  // namespace

std::unique_ptr<TrainingTask> make_text_task(const TrainConfig& config, const GlueTask* glue) {
  return std::make_unique<TextTask>(config, glue);
}

}  // namespace octet

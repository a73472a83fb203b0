// SPDX-License-Identifier: Apache-2.0
#include "octet/train/language_task.h"

#include <limits>

#include "octet/base/error.h"
#include "octet/eval/text_windows.h"
#include "octet/models/session.h"

namespace octet {
namespace {

constexpr int64_t kUsualLength = 512;

class LanguageTask : public TrainingTask {
 public:
  explicit LanguageTask(const TrainConfig& config) : config_(config) {
    if (config.train_data.empty()) fail<UsageError>("the task 'lm' needs 'train_data', a text to learn from");
    if (config.eval_data.empty()) fail<UsageError>("the task 'lm' needs 'eval_data', a text to judge the model on");
    options_.documents = parse_documents(config.documents);
    options_.window = config.max_length > 0 ? config.max_length : kUsualLength;
    WindowOptions training = options_;
    if (config.limit > 0) training.limit = config.limit;
    // What the model's context allows is checked when it meets a batch.
    windows_ =
        read_windows(config.train_data, Tokenizer::load(config.model), training, std::numeric_limits<int32_t>::max());
  }

  LossKind loss() const noexcept override { return LossKind::kClasses; }
  TaskHead head() const override { return {}; }
  int64_t examples() const noexcept override { return std::ssize(windows_.windows); }
  int64_t tokens(size_t example) const override {
    const TextWindows::Window& window = windows_.windows.at(example);
    return window.end - window.begin;
  }

  LabelledBatch batch(std::span<const size_t> examples) const override {
    LabelledBatch out;
    for (const size_t i : examples) {
      const TextWindows::Window& window = windows_.windows.at(i);
      const std::span<const int32_t> ids =
          std::span(windows_.documents[window.document].ids)
              .subspan(static_cast<size_t>(window.begin), static_cast<size_t>(window.end - window.begin));
      out.tokens.add(ids);
      out.labels.insert(out.labels.end(), ids.begin() + 1, ids.end());
      out.labels.push_back(-1);  // what follows the last token is not in the window
    }
    return out;
  }

  TaskResult evaluate(Session& session) const override {
    TaskInput input{.model = session.checkpoint().folder(), .data = config_.eval_data, .windows = options_};
    if (config_.eval_limit > 0) input.windows.limit = config_.eval_limit;
    return find_task("perplexity").run(session, input);
  }
  std::string metric() const override { return "perplexity"; }

 private:
  TrainConfig config_;
  WindowOptions options_;
  TextWindows windows_;
};

}  // namespace

std::unique_ptr<TrainingTask> make_language_task(const TrainConfig& config) {
  return std::make_unique<LanguageTask>(config);
}

}  // namespace octet

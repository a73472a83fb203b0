// SPDX-License-Identifier: Apache-2.0
#include "octet/train/language_task.h"

#include <optional>

#include "octet/base/error.h"
#include "octet/data/token_windows.h"
#include "octet/models/session.h"

namespace octet {
namespace {

constexpr int64_t kUsualLength = 512;

// What the model's context allows is checked when it meets a batch.
TokenWindows read_windows(const TrainConfig& config) {
  if (config.train_data.empty()) fail<UsageError>("the task 'lm' needs 'train_data', a text to learn from");
  if (config.eval_data.empty()) fail<UsageError>("the task 'lm' needs 'eval_data', a text to judge the model on");
  if (is_token_file(config.eval_data)) {
    fail<UsageError>("{}: 'eval_data' is to be a text: its perplexity is counted by words and bytes too",
                     config.eval_data);
  }
  const Tokenizer tokenizer = Tokenizer::load(config.model);
  return {TokenDocuments::load(config.train_data, tokenizer, parse_documents(config.documents)),
          tokenizer,
          config.max_length > 0 ? config.max_length : kUsualLength,
          TokenWindows::Frame::kDocument,
          config.limit > 0 ? std::optional(config.limit) : std::nullopt,
          config.end_of_text ? tokenizer.eos_id() : std::nullopt};
}

class LanguageTask : public TrainingTask {
 public:
  explicit LanguageTask(const TrainConfig& config) : config_(config), windows_(read_windows(config)) {}

  LossKind loss() const noexcept override { return LossKind::kClasses; }
  TaskHead head() const override { return {}; }
  int64_t examples() const noexcept override { return windows_.size(); }
  int64_t tokens(size_t example) const override { return windows_.tokens(example); }

  LabelledBatch batch(std::span<const size_t> examples, int64_t /*step*/) const override {
    LabelledBatch out;
    for (const size_t i : examples) {
      const std::vector<int32_t> ids = windows_.ids(i);
      out.tokens.add(ids);
      out.labels.insert(out.labels.end(), ids.begin() + 1, ids.end());
      out.labels.push_back(-1);  // what follows the last token is not in the window
    }
    return out;
  }

  TaskResult evaluate(Session& session) const override {
    TaskInput input{.model = session.checkpoint().folder(), .data = config_.eval_data};
    input.windows.documents = parse_documents(config_.documents);
    input.windows.window = config_.max_length > 0 ? config_.max_length : kUsualLength;
    if (config_.eval_limit > 0) input.limit = config_.eval_limit;
    return find_task("perplexity").run(session, input);
  }
  std::string metric() const override { return "perplexity"; }

 private:
  const TrainConfig config_;
  TokenWindows windows_;
};

}  // namespace

std::unique_ptr<TrainingTask> make_language_task(const TrainConfig& config) {
  return std::make_unique<LanguageTask>(config);
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/train/masked_language_task.h"

#include <algorithm>

#include "octet/base/error.h"
#include "octet/data/token_mask.h"
#include "octet/data/token_windows.h"
#include "octet/eval/masked_language.h"
#include "octet/models/session.h"

namespace octet {
namespace {

constexpr int64_t kUsualLength = 512;

// Tokens of a window: what the config says, or as many as model and tokenizer take, but no more than is usual.
int64_t window_length(const TrainConfig& config, const Tokenizer& tokenizer) {
  const std::unique_ptr<Model> model = load_model(Checkpoint::open(config.model), nullptr);
  require_masked_lm(model->info(), config.model);
  if (config.max_length > 0) return config.max_length;
  const int64_t longest = model->info().max_positions;
  return std::min({kUsualLength, longest, tokenizer.model_max_length().value_or(longest)});
}

TokenWindows read_windows(const TrainConfig& config, const Tokenizer& tokenizer, int64_t length) {
  if (config.train_data.empty()) fail<UsageError>("the task 'mlm' needs 'train_data', a text to learn from");
  if (config.eval_data.empty()) fail<UsageError>("the task 'mlm' needs 'eval_data', a text to judge the model on");
  return {TokenDocuments::load(config.train_data, tokenizer, parse_documents(config.documents)), tokenizer, length,
          TokenWindows::Frame::kWindow, config.limit > 0 ? std::optional(config.limit) : std::nullopt};
}

class MaskedLanguageTask : public TrainingTask {
 public:
  MaskedLanguageTask(const TrainConfig& config, const Tokenizer& tokenizer)
      : config_(config),
        length_(window_length(config, tokenizer)),
        mask_(tokenizer, config.mask_probability),
        windows_(read_windows(config, tokenizer, length_)) {}

  LossKind loss() const noexcept override { return LossKind::kClasses; }
  TaskHead head() const override { return {}; }
  int64_t examples() const noexcept override { return windows_.size(); }
  int64_t tokens(size_t example) const override { return windows_.tokens(example); }

  LabelledBatch batch(std::span<const size_t> examples, int64_t step) const override {
    LabelledBatch out;
    for (const size_t i : examples) {
      std::vector<int32_t> ids = windows_.ids(i);
      const std::vector<int32_t> labels =
          mask_.apply(ids, config_.seed, static_cast<uint32_t>(step), static_cast<uint32_t>(i));
      out.tokens.add(ids);
      out.labels.insert(out.labels.end(), labels.begin(), labels.end());
    }
    return out;
  }

  TaskResult evaluate(Session& session) const override {
    TaskInput input{.model = session.checkpoint().folder(), .data = config_.eval_data};
    input.windows.documents = parse_documents(config_.documents);
    input.windows.window = length_;
    input.mask_probability = config_.mask_probability;
    if (config_.eval_limit > 0) input.limit = config_.eval_limit;
    return find_task("mlm").run(session, input);
  }
  std::string metric() const override { return "loss"; }

 private:
  const TrainConfig config_;
  int64_t length_;
  TokenMask mask_;
  TokenWindows windows_;
};

}  // namespace

std::unique_ptr<TrainingTask> make_masked_language_task(const TrainConfig& config) {
  return std::make_unique<MaskedLanguageTask>(config, Tokenizer::load(config.model));
}

}  // namespace octet

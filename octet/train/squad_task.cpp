// SPDX-License-Identifier: Apache-2.0
#include "octet/train/squad_task.h"

#include <algorithm>
#include <filesystem>

#include "octet/base/error.h"
#include "octet/base/parallel.h"
#include "octet/data/squad.h"
#include "octet/eval/answers.h"
#include "octet/models/session.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

// Questions whose windows are made at once: they have offsets, which training does not keep.
constexpr size_t kQuestionsAtOnce = 256;

class SquadTask : public TrainingTask {
 public:
  explicit SquadTask(const TrainConfig& config)
      : config_(config),
        train_file_(file_of(config.train_data, "train", "train_data")),
        eval_file_(file_of(config.eval_data, "dev", "eval_data")) {
    const Tokenizer tokenizer = Tokenizer::load(config.model);
    spans_ = span_options(tokenizer, load_model(Checkpoint::open(config.model), nullptr)->info(),
                          config.max_length > 0 ? std::optional(config.max_length) : std::nullopt, config.doc_stride);
    const std::vector<SquadQuestion> questions =
        read_squad(train_file_, config.limit > 0 ? std::optional(config.limit) : std::nullopt);
    const size_t parts = (questions.size() + kQuestionsAtOnce - 1) / kQuestionsAtOnce;
    std::vector<std::vector<Window>> windows(parts);
    parallel_for(available_threads(), static_cast<int64_t>(parts), [&](int64_t part, int) {
      const size_t first = static_cast<size_t>(part) * kQuestionsAtOnce,
                   last = std::min(first + kQuestionsAtOnce, questions.size());
      const std::vector<SquadQuestion> some(questions.begin() + static_cast<std::ptrdiff_t>(first),
                                            questions.begin() + static_cast<std::ptrdiff_t>(last));
      for (SpanFeature& feature : make_span_features(some, tokenizer, spans_)) {
        windows[static_cast<size_t>(part)].push_back(
            {std::move(feature.ids),
             std::move(feature.type_ids),
             {static_cast<int32_t>(feature.start), static_cast<int32_t>(feature.end)}});
      }
    });
    for (std::vector<Window>& part : windows) std::ranges::move(part, std::back_inserter(windows_));
    const auto without =
        std::ranges::count_if(windows_, [](const Window& window) { return window.answer == std::pair(0, 0); });
    notes_.push_back(fmt::format("{} questions in {} windows of at most {} tokens; {} do not hold the whole answer",
                                 questions.size(), windows_.size(), spans_.length, without));
  }

  LossKind loss() const noexcept override { return LossKind::kSpan; }
  TaskHead head() const override { return {.kind = TaskHead::Kind::kSpan, .outputs = 0, .labels = {}}; }
  int64_t examples() const noexcept override { return std::ssize(windows_); }
  int64_t tokens(size_t example) const override { return std::ssize(windows_.at(example).ids); }

  LabelledBatch batch(std::span<const size_t> examples, int64_t /*step*/) const override {
    LabelledBatch out;
    for (const size_t i : examples) {
      out.tokens.add(windows_.at(i).ids, windows_[i].type_ids);
      out.answers.push_back(windows_[i].answer);
    }
    return out;
  }

  TaskResult evaluate(Session& session) const override {
    TaskInput input{.model = session.checkpoint().folder(), .data = eval_file_};
    if (config_.eval_limit > 0) input.limit = config_.eval_limit;
    input.windows.window = spans_.length;
    input.overlap = spans_.stride;
    return find_task("squad").run(session, input);
  }
  std::string metric() const override { return "f1"; }
  std::vector<std::string> notes() const override { return notes_; }

 private:
  struct Window {
    std::vector<int32_t> ids, type_ids;
    std::pair<int32_t, int32_t> answer;
  };

  // `given`, or the file of SQuAD in the folder of the data.
  fs::path file_of(const std::string& given, const std::string& part, const char* key) const {
    if (!given.empty()) return given;
    if (config_.data.empty()) {
      fail<UsageError>(
          "the task 'squad' needs 'data', a folder with train-v1.1.json and dev-v1.1.json, or '{}', a file", key);
    }
    const fs::path folder = config_.data;
    for (const std::string& name : {part + "-v1.1.json", part + ".json"}) {
      if (fs::exists(folder / name)) return folder / name;
    }
    fail("{}: neither {}-v1.1.json nor {}.json is there; say which file is meant by '{}'", folder.string(), part, part,
         key);
  }

  const TrainConfig config_;
  fs::path train_file_, eval_file_;
  SpanOptions spans_;
  std::vector<Window> windows_;
  std::vector<std::string> notes_;
};

}  // namespace

std::unique_ptr<TrainingTask> make_squad_task(const TrainConfig& config) { return std::make_unique<SquadTask>(config); }

}  // namespace octet

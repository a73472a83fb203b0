// SPDX-License-Identifier: Apache-2.0
#include "octet/data/glue.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/data/tsv.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

std::vector<GlueTask> make_tasks() {
  const std::vector<std::string> accuracy = {"accuracy"}, f1 = {"f1", "accuracy"}, matthews = {"matthews"},
                                 correlations = {"spearman", "pearson"};
  const std::vector<GlueTask::File> dev = {{"dev.tsv", ""}},
                                    both = {{"dev_matched.tsv", ""}, {"dev_mismatched.tsv", "_mismatched"}};
  const std::string train = "train.tsv";
  return {
      {"cola", "CoLA", "whether a sentence is grammatical", {"unacceptable", "acceptable"}, train, dev, matthews},
      {"sst2", "SST-2", "whether a film review is positive", {"negative", "positive"}, train, dev, accuracy},
      {"mrpc", "MRPC", "whether two sentences mean the same", {"not_equivalent", "equivalent"}, train, dev, f1},
      {"stsb", "STS-B", "how near the meanings of two sentences are, 0 to 5", {}, train, dev, correlations},
      {"qqp", "QQP", "whether two questions ask the same", {"not_duplicate", "duplicate"}, train, dev, f1},
      {"mnli",
       "MNLI",
       "whether a premise entails a hypothesis, contradicts it, or neither",
       {"entailment", "neutral", "contradiction"},
       train,
       both,
       accuracy},
      {"qnli", "QNLI", "whether a sentence answers a question", {"entailment", "not_entailment"}, train, dev, accuracy},
      {"rte", "RTE", "whether a text entails another", {"entailment", "not_entailment"}, train, dev, accuracy},
      {"wnli",
       "WNLI",
       "whether a sentence with its pronoun replaced is entailed",
       {"not_entailment", "entailment"},
       train,
       dev,
       accuracy},
  };
}

// The file in `data` or in data/FOLDER, whichever is there; none where neither is.
std::optional<fs::path> find_file(const fs::path& data, const GlueTask& task, const std::string& name) {
  for (const fs::path& folder : {data, data / task.folder}) {
    if (fs::is_regular_file(folder / name)) return folder / name;
  }
  return std::nullopt;
}

[[noreturn]] void fail_to_find(const fs::path& data, const GlueTask& task, const std::string& name) {
  fail("{}: no {} there, nor in {}; the task '{}' needs it, or name a file", data.string(), name,
       (data / task.folder).string(), task.name);
}

}  // namespace

std::optional<int64_t> GlueTask::class_of(std::string_view label) const {
  if (const auto named = std::ranges::find(labels, label); named != labels.end()) return named - labels.begin();
  const std::optional<double> number = finite_number(label);
  if (!number || *number != std::floor(*number) || *number < 0 || *number >= static_cast<double>(labels.size()))
    return std::nullopt;
  return static_cast<int64_t>(*number);
}

fs::path GlueTask::train_file(const fs::path& data) const {
  if (!fs::is_directory(data)) return data;
  if (const std::optional<fs::path> path = find_file(data, *this, train)) return *path;
  fail_to_find(data, *this, train);
}

std::vector<GlueTask::DevFile> GlueTask::dev_files(const fs::path& data) const {
  if (!fs::is_directory(data)) return {{data, ""}};
  std::vector<DevFile> files;
  for (const File& file : dev) {
    if (const std::optional<fs::path> path = find_file(data, *this, file.name)) files.push_back({*path, file.suffix});
  }
  if (files.empty()) fail_to_find(data, *this, dev.front().name);
  return files;
}

std::span<const GlueTask> glue_tasks() {
  static const std::vector<GlueTask> tasks = make_tasks();
  return tasks;
}

const GlueTask* find_glue_task(std::string_view name) {
  const std::span<const GlueTask> tasks = glue_tasks();
  const auto found = std::ranges::find(tasks, name, &GlueTask::name);
  return found == tasks.end() ? nullptr : &*found;
}

}  // namespace octet

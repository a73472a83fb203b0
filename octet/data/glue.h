// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// A task of GLUE (Wang et al., 2018).
struct GlueTask {
  /// Files of one split: MNLI has two for validation, of the genres of its training texts and of others.
  struct File {
    std::string name;    ///< "dev.tsv"
    std::string suffix;  ///< of its metrics' names: "", "_mismatched"
  };

  std::string name;         ///< as `transformers` and `datasets` spell it: "sst2"
  std::string folder;       ///< of its files in GLUE's own download: "SST-2"
  std::string description;  ///< one line
  /// Of the classes, in the order of their numbers in the data set glue of `datasets`; none: grades are predicted.
  std::vector<std::string> labels;
  std::string train;      ///< file name
  std::vector<File> dev;  ///< file names; the first is the one by which a checkpoint is chosen
  /// By their names in TaskResult, the first is the one by which a checkpoint is chosen: what Devlin et al. (2019)
  /// report, and Matthews' correlation for CoLA.
  std::vector<std::string> metrics;

  bool is_regression() const noexcept { return labels.empty(); }
  /// Outputs of a model for it: its classes, or 1.
  int64_t outputs() const noexcept { return is_regression() ? 1 : static_cast<int64_t>(labels.size()); }
  const std::string& best_metric() const { return metrics.front(); }

  /// The class of a label as files spell it, its number or its name; none where it is neither.
  std::optional<int64_t> class_of(std::string_view label) const;

  /// The files that `data` means: itself where it is a file; of a folder the task's, there or in a folder of its own
  /// in it. Throws Error where there is none.
  std::filesystem::path train_file(const std::filesystem::path& data) const;
  struct DevFile {
    std::filesystem::path path;
    std::string suffix;
  };
  std::vector<DevFile> dev_files(const std::filesystem::path& data) const;
};

/// All nine.
std::span<const GlueTask> glue_tasks();
/// Null where no task has this name.
const GlueTask* find_glue_task(std::string_view name);

}  // namespace octet

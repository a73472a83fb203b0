// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/train/csv_log.h"
#include "octet/train/event_file.h"

namespace octet {

/// What a training says of itself while it runs, in a folder: `log.csv`, a line a step (CsvLog), and an EventFile for
/// TensorBoard. For one thread at a time.
class TrainingLog {
 public:
  /// Makes the folder. `columns` are those of log.csv beside the step; `resumed_step` is the last step of an earlier
  /// run that counts: what that run logged of later ones goes. Throws as CsvLog and EventFile do, and Error where
  /// `resumed_step` is negative.
  TrainingLog(const std::filesystem::path& folder, std::vector<std::string> columns,
              std::optional<int64_t> resumed_step = std::nullopt);

  /// A line of log.csv, which is written at once, and a scalar with the column's name for each of its values.
  void record(int64_t step, const std::vector<CsvLog::Value>& values);
  /// For TensorBoard only, as EventFile's.
  void scalar(std::string_view tag, int64_t step, double value) { events_.scalar(tag, step, value); }
  void histogram(std::string_view tag, int64_t step, std::span<const float> values) {
    events_.histogram(tag, step, values);
  }
  /// Writes what the event file still keeps in memory.
  void flush() { events_.flush(); }

 private:
  CsvLog table_;  // first: where it refuses, no event file is made
  EventFile events_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/train/training_log.h"

#include "octet/base/checked.h"
#include "octet/base/error.h"

namespace octet {
namespace {

const std::filesystem::path& made(const std::filesystem::path& folder) {
  std::error_code reason;
  std::filesystem::create_directories(folder, reason);
  if (reason) fail("{}: cannot make this folder: {}", folder.string(), reason.message());
  return folder;
}

int64_t step_after(std::optional<int64_t> resumed_step) {
  if (resumed_step.value_or(0) < 0) fail("a run cannot go on after step {}", *resumed_step);
  return resumed_step ? checked_add(*resumed_step, 1) : 0;
}

}  // namespace

TrainingLog::TrainingLog(const std::filesystem::path& folder, std::vector<std::string> columns,
                         std::optional<int64_t> resumed_step)
    : table_(made(folder) / "log.csv", std::move(columns), resumed_step), events_(folder, step_after(resumed_step)) {}

void TrainingLog::record(int64_t step, const std::vector<CsvLog::Value>& values) {
  table_.add(step, values);
  for (const CsvLog::Value& value : values) events_.scalar(value.column, step, value.value);
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// A table that grows by a line a step, for people and plots:
///
///   step,epoch,loss,learning_rate          columns are fixed when the run begins; a value that was not given is empty
///   1,0.01,2.3125,0.0001                   numbers in the fewest digits that give the same double again; nan, inf
///
/// A line is written at once and whole, so that a killed process leaves whole lines. For one thread at a time.
class CsvLog {
 public:
  struct Value {
    std::string_view column;
    double value;
  };

  /// `columns` beside the step. With `resumed_step` it goes on with the file of an earlier run, or begins one: lines of
  /// later steps are cut off. Throws Error where the file is there and nothing is resumed, where its columns are
  /// others, where it cannot be written, or where a column's name is no such (a comma, a quotation mark, twice);
  /// FormatError, with the line, where it is no such table.
  CsvLog(std::filesystem::path path, std::vector<std::string> columns, std::optional<int64_t> resumed_step);
  CsvLog(const CsvLog&) = delete;
  CsvLog& operator=(const CsvLog&) = delete;
  ~CsvLog();

  /// Throws Error where the step is not above the last one's, or where a column is unknown or given twice.
  void add(int64_t step, const std::vector<Value>& values);

 private:
  int64_t bytes_to_keep(int64_t resumed_step);
  void write_line(std::string line);

  std::filesystem::path path_;
  std::vector<std::string> columns_;
  std::string header_;
  std::optional<int64_t> last_step_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

}  // namespace octet

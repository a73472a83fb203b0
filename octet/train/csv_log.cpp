// SPDX-License-Identifier: Apache-2.0
#include "octet/train/csv_log.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <set>

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "octet/base/error.h"

namespace octet {
namespace {

// The longest double takes 24 characters (-2.2250738585072014e-308), the longest step 19; with its comma, 25.
constexpr size_t kLongestCell = 25;

}  // namespace

CsvLog::CsvLog(std::filesystem::path path, std::vector<std::string> columns, std::optional<int64_t> resumed_step)
    : path_(std::move(path)), columns_(std::move(columns)), header_(fmt::format("step,{}", fmt::join(columns_, ","))) {
  std::set<std::string_view> names = {"step"};
  for (const std::string& column : columns_) {
    const bool plain = std::ranges::none_of(column, [](unsigned char c) { return c < ' ' || c == ',' || c == '"'; });
    if (column.empty() || !plain || !names.insert(column).second) {
      fail(
          "{}: '{}' cannot be a column's name: it is empty, there already or has a comma, a quotation mark or a "
          "control character",
          path_.string(), column);
    }
  }
  const int64_t kept = resumed_step ? bytes_to_keep(*resumed_step) : 0;
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (resumed_step ? 0 : O_EXCL), 0666);
  if (descriptor_ < 0 && errno == EEXIST) {
    fail("{}: exists already. Go on with that run, or choose another folder.", path_.string());
  }
  if (descriptor_ < 0) fail("{}: cannot write here: {}", path_.string(), std::strerror(errno));
  try {
    if (::ftruncate(descriptor_, kept) != 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
    size_ = kept;
    if (size_ == 0) write_line(header_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

CsvLog::~CsvLog() { ::close(descriptor_); }

// How long the file is up to the last whole line whose step is not after `resumed_step`; 0 where there is none.
int64_t CsvLog::bytes_to_keep(int64_t resumed_step) {
  std::ifstream file(path_, std::ios::binary);
  if (!file && !std::filesystem::exists(path_)) return 0;
  if (!file) fail("{}: cannot read: {}", path_.string(), std::strerror(errno));
  // No line of such a table is longer, so no more of one is read.
  std::vector<char> buffer(std::max(header_.size(), kLongestCell * (columns_.size() + 1)) + 2);
  int64_t kept = 0;
  for (int64_t number = 1;; ++number) {
    file.getline(buffer.data(), std::ssize(buffer));
    if (file.eof()) return kept;  // a line without an end, if any: a process was killed in it
    const std::string_view line(buffer.data(), std::max<std::streamsize>(file.gcount(), 1) - 1);
    if (number == 1) {
      if (file.fail() || line != header_) {
        fail("{}: its columns are not those of this run, '{}'. Choose another folder, or move it away.", path_.string(),
             header_);
      }
    } else {
      int64_t step = 0;
      const char* const end = line.data() + line.size();
      const auto [rest, error] = std::from_chars(line.data(), end, step);
      const bool ends_well = error == std::errc() && (rest == end || *rest == ',') &&
                             std::ranges::count(line, ',') == std::ssize(columns_);
      if (file.fail() || !ends_well || (last_step_ && step <= *last_step_)) {
        fail<FormatError>(
            "{}: line {} is no line of this table: {} columns, and a step above the one before. "
            "Mend it, or move the file away.",
            path_.string(), number, columns_.size() + 1);
      }
      if (step > resumed_step) return kept;
      last_step_ = step;
    }
    kept += std::ssize(line) + 1;
  }
}

void CsvLog::add(int64_t step, const std::vector<Value>& values) {
  if (last_step_ && step <= *last_step_) {
    fail("{}: step {} cannot come after step {}", path_.string(), step, *last_step_);
  }
  std::vector<std::string> cells(columns_.size());
  for (const Value& value : values) {
    const auto place = std::ranges::find(columns_, value.column);
    if (place == columns_.end()) {
      fail("{}: there is no column '{}'; the columns are {}", path_.string(), value.column, header_);
    }
    std::string& cell = cells[static_cast<size_t>(place - columns_.begin())];
    if (!cell.empty()) fail("{}: step {} has two values of '{}'", path_.string(), step, value.column);
    cell = fmt::format("{}", value.value);
  }
  write_line(fmt::format("{}{}{}", step, cells.empty() ? "" : ",", fmt::join(cells, ",")));
  last_step_ = step;
}

// One call of the system a line. At its place in the file, so that after half a line (a full disk) the next one
// overwrites that half.
void CsvLog::write_line(std::string line) {
  line += '\n';
  ssize_t written = 0;
  do written = ::pwrite(descriptor_, line.data(), line.size(), size_);
  while (written < 0 && errno == EINTR);
  if (written != std::ssize(line)) {
    const int reason = written < 0 ? errno : ENOSPC;
    if (::ftruncate(descriptor_, size_) != 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
    fail("{}: cannot write: {}", path_.string(), std::strerror(reason));
  }
  size_ += written;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/data/lines.h"

#include <algorithm>
#include <string_view>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"

namespace octet {

std::string read_plain_text(const std::filesystem::path& path, int64_t limit) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  std::string text = read_text_file(path, limit);
  if (const size_t zero = text.find('\0'); zero != std::string::npos) {
    fail<FormatError>("{}: byte {} is zero, so this is no UTF-8 text. Convert it if it is UTF-16.", path.string(),
                      zero);
  }
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  lines.reserve(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

std::vector<std::string> read_lines(const std::filesystem::path& path, int64_t limit) {
  const std::string text = read_plain_text(path, limit);
  const std::vector<std::string_view> lines = split_lines(text);
  return {lines.begin(), lines.end()};
}

}  // namespace octet

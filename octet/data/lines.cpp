// SPDX-License-Identifier: Apache-2.0
#include "octet/data/lines.h"

#include <algorithm>
#include <string_view>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"

namespace octet {

std::vector<std::string> read_lines(const std::filesystem::path& path, int64_t limit) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  const std::string file = read_text_file(path, limit);
  std::string_view text = file;
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    fail<FormatError>("{}: byte {} is zero, so this is no UTF-8 text. Convert it if it is UTF-16.", path.string(),
                      zero);
  }
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());

  std::vector<std::string> lines;
  lines.reserve(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

}  // namespace octet

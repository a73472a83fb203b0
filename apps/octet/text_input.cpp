// SPDX-License-Identifier: Apache-2.0
#include "apps/octet/text_input.h"

#include <iostream>

#include <unistd.h>

#include "octet/base/error.h"
#include "octet/data/lines.h"

namespace octet::cli {

std::vector<std::string> input_lines(const std::optional<std::string>& file) {
  if (file) return read_lines(*file);
  if (::isatty(STDIN_FILENO) != 0) fail<UsageError>("no text: name a file with --file, or pipe text in");
  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace octet::cli

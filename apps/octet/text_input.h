// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace octet::cli {

/// Lines of a text file, or of standard input where none is named.
std::vector<std::string> input_lines(const std::optional<std::string>& file);

}  // namespace octet::cli

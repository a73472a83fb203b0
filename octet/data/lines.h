// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

/// What read_lines takes unless told otherwise. An empty line costs a byte in the file and 32 in memory, so this bounds
/// the lines of any file to 8 GiB.
constexpr int64_t kLargestLinesFile = int64_t{256} << 20;

/// A text file, without the UTF-8 byte order mark that may begin it. The bytes are not checked to be UTF-8. Throws as
/// read_lines does.
std::string read_plain_text(const std::filesystem::path& path, int64_t limit = kLargestLinesFile);

/// The lines of `text` without their ends (LF or CRLF), in order; an end of line at its end starts no further line.
std::vector<std::string_view> split_lines(std::string_view text);

/// Both for a file.
///
/// Throws Error where the file cannot be read, FormatError where it has more than `limit` bytes or holds a zero byte,
/// as binary files and UTF-16 do.
std::vector<std::string> read_lines(const std::filesystem::path& path, int64_t limit = kLargestLinesFile);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace octet {

/// What read_lines takes unless told otherwise. An empty line costs a byte in the file and 32 in memory, so this bounds
/// the lines of any file to 8 GiB.
constexpr int64_t kLargestLinesFile = int64_t{256} << 20;

/// The lines of a text file without their ends (LF or CRLF), in order. A UTF-8 byte order mark at the start is dropped;
/// an end of line at the end of the file starts no further line. The bytes are not checked to be UTF-8.
///
/// Throws Error where the file cannot be read, FormatError where it has more than `limit` bytes or holds a zero byte,
/// as binary files and UTF-16 do.
std::vector<std::string> read_lines(const std::filesystem::path& path, int64_t limit = kLargestLinesFile);

}  // namespace octet

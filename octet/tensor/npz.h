// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "octet/tensor/tensor.h"

namespace octet {

/// NumPy's archive of arrays (numpy.savez and numpy.savez_compressed): a zip file of npy files, by their names without
/// ".npy". Throws FormatError for what is no such archive, for two arrays of one name, and where the arrays take more
/// than `limit` bytes unpacked; Error where the file cannot be opened.
std::map<std::string, Tensor> read_npz(const std::filesystem::path& path, int64_t limit);
/// The same from memory; `source` names it in errors.
std::map<std::string, Tensor> parse_npz(std::span<const std::byte> bytes, const std::string& source, int64_t limit);

/// Whether a file that begins with these bytes is a zip archive, an empty one included.
bool is_zip(std::span<const std::byte> bytes) noexcept;

}  // namespace octet

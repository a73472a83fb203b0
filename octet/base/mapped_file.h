// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace octet {

/// A file mapped read-only. Pages are read when touched, and shared with every other process that maps the file.
/// A file that another process shortens while it is mapped ends this one with SIGBUS, as with any mapping.
class MappedFile {
 public:
  /// Throws Error (naming the path and the system's reason) where the file cannot be opened or is not a regular file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Lets go of the whole pages inside `range` (a part of bytes()): they leave this process's resident memory and are
  /// read again when touched.
  void release(std::span<const std::byte> range) const;

 private:
  MappedFile(std::filesystem::path path, const std::byte* data, size_t size);

  std::filesystem::path path_;
  const std::byte* data_;
  size_t size_;
};

/// The whole of a small text file. Throws Error where it cannot be read or is larger than `limit` bytes.
std::string read_text_file(const std::filesystem::path& path, int64_t limit);

}  // namespace octet

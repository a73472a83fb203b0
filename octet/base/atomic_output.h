// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace octet {

/// A file that appears whole or not at all: written beside its place under another name, renamed by commit().
/// Destroyed without commit, it leaves nothing behind. Every failure to write (a full disk) throws Error.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Flushes to the disk and gives the file its name, replacing one that was there.
  void commit();

 private:
  std::filesystem::path path_, aside_;
  int descriptor_ = -1;
};

/// A folder that appears whole or not at all. Files are made in path(); commit() renames it into place.
/// Throws Error at once if the destination exists: Octet never writes into somebody's folder.
class OutputDirectory {
 public:
  explicit OutputDirectory(const std::filesystem::path& destination);
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  ~OutputDirectory();

  const std::filesystem::path& path() const { return aside_; }
  void commit();

 private:
  std::filesystem::path destination_, aside_;
  bool committed_ = false;
};

}  // namespace octet

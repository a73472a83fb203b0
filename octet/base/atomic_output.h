// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
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
  /// At an offset; write() goes on where the last write() ended. What lies between is zeros until it is written.
  void write_at(int64_t offset, std::span<const std::byte> bytes);
  /// Flushes to the disk and gives the file its name, replacing one that was there.
  void commit();

 private:
  std::filesystem::path path_, aside_;
  int descriptor_ = -1;
  int64_t written_ = 0;  ///< by write()
};

/// A folder that appears whole or not at all: files are made one by one in path(), and commit() renames it into place.
/// Those that a killed run has finished the next run of the same job need not make again; an exception leaves nothing
/// behind.
class ResumableDirectory {
 public:
  /// `job` says everything that decides what the files hold. What a run of another job left is removed. Throws Error at
  /// once if the destination exists, for Octet never writes into somebody's folder, or if another process is making it.
  ResumableDirectory(const std::filesystem::path& destination, const std::string& job);
  ResumableDirectory(const ResumableDirectory&) = delete;
  ResumableDirectory& operator=(const ResumableDirectory&) = delete;
  ~ResumableDirectory();

  const std::filesystem::path& path() const { return aside_; }
  /// What finish() was told of a file in path(), if an earlier run has finished it.
  std::optional<std::string> finished(const std::string& file) const;
  /// The file is on the disk. One whose name begins with a dot is for runs that follow, and gone after commit().
  void finish(const std::string& file, const std::string& note);
  /// The file, if it is there, is not finished any more, and removed.
  void discard(const std::string& file);
  void commit();

 private:
  void take_up();
  void write_state() const;

  std::filesystem::path destination_, aside_;
  std::string job_;
  std::map<std::string, std::string> notes_;  ///< by file
  int lock_ = -1;
  bool committed_ = false;
};

}  // namespace octet

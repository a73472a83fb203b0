// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace octet {

/// A new folder in `parent`, hidden, for files that nobody is to keep: it goes with all that it holds when this does.
/// Throws Error where it cannot be made.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(const std::filesystem::path& parent);
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory();

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace octet

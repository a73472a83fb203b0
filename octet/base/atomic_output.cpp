// SPDX-License-Identifier: Apache-2.0
#include "octet/base/atomic_output.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "octet/base/error.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() || path.parent_path() == path ? path : path.parent_path();
}

// Beside the destination, so that the rename stays within one file system.
fs::path aside_of(const fs::path& path) {
  return path.parent_path() / fmt::format(".{}.{}.partial", path.filename().string(), ::getpid());
}

}  // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)), aside_(aside_of(path_)) {
  descriptor_ = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("{}: cannot write here: {}", path_.string(), std::strerror(errno));
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(aside_.c_str());
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    // Linux writes at most 2 GiB - 4 KiB a call; smaller pieces also let a signal in.
    const ssize_t written = ::write(descriptor_, bytes.data(), std::min<size_t>(bytes.size(), size_t{64} << 20));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void OutputFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void OutputFile::commit() {
  if (::fsync(descriptor_) != 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0 || ::rename(aside_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(aside_.c_str());
    fail("{}: cannot write: {}", path_.string(), std::strerror(reason));
  }
}

OutputDirectory::OutputDirectory(const fs::path& destination)
    : destination_(without_trailing_slash(destination)), aside_(aside_of(destination_)) {
  if (fs::exists(fs::symlink_status(destination_))) {
    fail("{}: exists already. Choose another folder, or remove it first.", destination_.string());
  }
  std::error_code reason;
  fs::remove_all(aside_, reason);
  if (!fs::create_directory(aside_, reason)) {
    fail("{}: cannot make this folder: {}", destination_.string(), reason.message());
  }
}

OutputDirectory::~OutputDirectory() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(aside_, ignored);
}

void OutputDirectory::commit() {
  // rename(2) replaces an empty folder that appeared meanwhile, and refuses one with files in it.
  if (::rename(aside_.c_str(), destination_.c_str()) != 0) {
    fail("{}: cannot make this folder: {}", destination_.string(), std::strerror(errno));
  }
  committed_ = true;
}

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#include "octet/base/atomic_output.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"

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

// Of a ResumableDirectory; names that no file of a model has.
constexpr const char* kState = ".octet_state.json";
constexpr const char* kLock = ".octet_lock";
constexpr int64_t kLargestState = 64 << 20;

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

void OutputFile::write_at(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    // Linux writes at most 2 GiB - 4 KiB a call; smaller pieces also let a signal in.
    const ssize_t written =
        ::pwrite(descriptor_, bytes.data(), std::min<size_t>(bytes.size(), size_t{64} << 20), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("{}: cannot write: {}", path_.string(), std::strerror(errno));
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
}

void OutputFile::write(std::span<const std::byte> bytes) {
  write_at(written_, bytes);
  written_ += std::ssize(bytes);
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

ResumableDirectory::ResumableDirectory(const fs::path& destination, const std::string& job)
    : destination_(without_trailing_slash(destination)),
      // Not named after the process, so that the next one finds it.
      aside_(destination_.parent_path() / fmt::format(".{}.partial", destination_.filename().string())),
      job_(job) {
  if (fs::exists(fs::symlink_status(destination_))) {
    fail("{}: exists already. Choose another folder, or remove it first.", destination_.string());
  }
  std::error_code reason;
  fs::create_directory(aside_, reason);
  if (!fs::is_directory(fs::symlink_status(aside_))) {
    fail("{}: cannot make this folder: {}", destination_.string(),
         reason ? reason.message() : fmt::format("{} is in the way", aside_.string()));
  }
  lock_ = ::open((aside_ / kLock).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (lock_ < 0) fail("{}: cannot write here: {}", aside_.string(), std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    fail("{}: another process is making it", destination_.string());
  }
  try {
    take_up();
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(aside_, ignored);
    ::close(lock_);
    throw;
  }
}

ResumableDirectory::~ResumableDirectory() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(aside_, ignored);
  ::close(lock_);
}

// Keeps the files that a run of the same job has finished; whatever else is there, halves of files too, goes.
void ResumableDirectory::take_up() {
  const fs::path file = aside_ / kState;
  if (fs::is_regular_file(fs::symlink_status(file))) {
    const nlohmann::json state = nlohmann::json::parse(read_text_file(file, kLargestState), nullptr, false);
    const nlohmann::json files = state.is_object() ? state.value("files", nlohmann::json()) : nlohmann::json();
    if (state.is_object() && state.value("job", nlohmann::json()) == job_ && files.is_object()) {
      for (const auto& [name, note] : files.items()) {
        if (note.is_string() && fs::is_regular_file(fs::symlink_status(aside_ / name))) notes_.emplace(name, note);
      }
    }
  }
  std::vector<fs::path> others;
  for (const fs::directory_entry& entry : fs::directory_iterator(aside_)) {
    const std::string name = entry.path().filename().string();
    if (name != kLock && !notes_.contains(name)) others.push_back(entry.path());
  }
  for (const fs::path& other : others) fs::remove_all(other);
  write_state();
}

void ResumableDirectory::write_state() const {
  OutputFile file(aside_ / kState);
  file.write(json_text(nlohmann::json{{"job", job_}, {"files", notes_}}));
  file.commit();
}

std::optional<std::string> ResumableDirectory::finished(const std::string& file) const {
  const auto note = notes_.find(file);
  return note == notes_.end() ? std::nullopt : std::optional(note->second);
}

void ResumableDirectory::finish(const std::string& file, const std::string& note) {
  notes_[file] = note;
  write_state();
}

void ResumableDirectory::discard(const std::string& file) {
  if (notes_.erase(file) > 0) write_state();
  std::error_code ignored;
  fs::remove(aside_ / file, ignored);
}

void ResumableDirectory::commit() {
  // rename(2) replaces an empty folder that appeared meanwhile, and refuses one with files in it.
  if (::rename(aside_.c_str(), destination_.c_str()) != 0) {
    fail("{}: cannot make this folder: {}", destination_.string(), std::strerror(errno));
  }
  committed_ = true;
  // Only now: without them another process could take the folder for its own.
  std::error_code ignored;
  for (const auto& [file, note] : notes_) {
    if (file.starts_with('.')) fs::remove(destination_ / file, ignored);
  }
  for (const char* file : {kState, kLock}) fs::remove(destination_ / file, ignored);
}

}  // namespace octet

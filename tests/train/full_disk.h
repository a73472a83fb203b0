// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdint>

#include <sys/resource.h>

namespace octet {

/// While it lives no file of this process can grow beyond so many bytes: a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(int64_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &limits_);
    const rlimit narrow{static_cast<rlim_t>(bytes), limits_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &narrow);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &limits_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit limits_{};
  void (*handler_)(int);
};

}  // namespace octet

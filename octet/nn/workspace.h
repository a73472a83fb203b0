// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "octet/backend/backend.h"

namespace octet {

/// Memory of a backend, owned.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(Backend& backend, int64_t bytes) : backend_(&backend), span_(backend.allocate(bytes)) {}
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceMemory() {
    if (backend_ != nullptr) backend_->free(span_);
  }

  DeviceSpan span() const noexcept { return span_; }

 private:
  void swap(DeviceMemory& other) noexcept {
    std::swap(backend_, other.backend_);
    std::swap(span_, other.span_);
  }

  Backend* backend_ = nullptr;
  DeviceSpan span_;
};

/// The memory of a forward pass, handed out as a stack: a Scope gives back what was taken since it opened. The first
/// pass of a shape may grow it; when the outermost scope has closed it is one piece large enough for the worst so far,
/// so that later passes of such shapes allocate nothing.
class Workspace {
 public:
  explicit Workspace(Backend& backend) : backend_(&backend) {}

  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), used_(workspace.used_), taken_(workspace.taken_) {
      ++workspace_.open_scopes_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { workspace_.close_scope(used_, taken_); }

   private:
    Workspace& workspace_;
    int64_t used_, taken_;
  };

  /// `bytes` of memory, aligned to 64, good until the scope around the call closes. Throws Error outside any scope.
  DeviceSpan take(int64_t bytes);
  /// A matrix of fp32, or of codes, without gaps between its rows.
  Activation take_matrix(int64_t rows, int64_t cols, const std::optional<StaticCodes>& codes = std::nullopt);
  /// `values` uploaded.
  template <class T>
  DeviceSpan upload(std::span<const T> values) {
    const DeviceSpan memory = take(static_cast<int64_t>(values.size_bytes()));
    backend_->upload(std::as_bytes(values), memory);
    return memory;
  }

  int64_t bytes() const noexcept;  ///< held from the backend

 private:
  void count(int64_t size) noexcept;
  void close_scope(int64_t used_before, int64_t taken_before);

  Backend* backend_;
  std::vector<DeviceMemory> pieces_;    ///< each begins where the one before ends, in the count of used_
  int64_t used_ = 0;                    ///< with what was left at the ends of pieces
  int64_t taken_ = 0, most_taken_ = 0;  ///< without
  int open_scopes_ = 0;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "octet/tensor/scheme.h"

namespace octet {

/// Memory of a backend: an address that only that backend may follow, and a size in bytes. Owns nothing.
class DeviceSpan {
 public:
  DeviceSpan() = default;
  DeviceSpan(std::byte* address, int64_t bytes) noexcept : address_(address), bytes_(bytes) {}

  int64_t bytes() const noexcept { return bytes_; }
  bool empty() const noexcept { return bytes_ == 0; }
  /// For backends, and for tables that only they read.
  std::byte* address() const noexcept { return address_; }
  DeviceSpan slice(int64_t offset, int64_t bytes) const noexcept { return {address_ + offset, bytes}; }

 private:
  std::byte* address_ = nullptr;
  int64_t bytes_ = 0;
};

/// What bytes of an Activation stand for: the INT8 codes, or UINT8 codes less 128, that a product with static
/// activations makes of its x, made by the operation that has x in a cache.
struct StaticCodes {
  ActivationMode mode = ActivationMode::kStaticPerTensor;
  ActivationScale scale = {};
  int site = 0;  ///< whom to name if NaN or infinity was to become a code

  /// Whether the same numbers give the same codes, whoever asks for them.
  bool matches(ActivationMode other_mode, const ActivationScale& other) const noexcept {
    return mode == other_mode && scale == other;
  }
};

/// What flows between operations: a matrix [rows, cols] of fp32, or of bytes if it has codes, in a backend's memory,
/// its rows `stride` elements apart. Owns nothing; a slice of columns is another Activation on the same memory.
struct Activation {
  DeviceSpan memory;
  int64_t rows = 0, cols = 0, stride = 0;
  std::optional<StaticCodes> codes = {};  ///< only where an operation says that it takes or makes them

  int64_t element_bytes() const noexcept { return codes ? 1 : int64_t{sizeof(float)}; }
  Activation columns(int64_t first, int64_t count) const noexcept { return {from(first), rows, count, stride, codes}; }
  Activation row_range(int64_t first, int64_t count) const noexcept {
    return {from(first * stride), count, cols, stride, codes};
  }

 private:
  DeviceSpan from(int64_t element) const noexcept {
    const int64_t offset = element * element_bytes();
    return memory.slice(offset, memory.bytes() - offset);
  }
};

}  // namespace octet

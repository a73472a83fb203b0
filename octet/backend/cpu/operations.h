// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "octet/backend/backend.h"
#include "octet/backend/cpu/kernels.h"
#include "octet/backend/cpu/workspace.h"

namespace octet::cpu {

/// Throws ShapeError, naming the operation and the operand, unless `x` is [rows, cols] and lies in its memory.
void check_shape(const Activation& x, int64_t rows, int64_t cols, const char* operand);
/// The same for a vector of `count` elements of four bytes.
void check_vector(DeviceSpan memory, int64_t count, const char* operand);

inline float* data(const Activation& x) { return reinterpret_cast<float*>(x.memory.address()); }
inline const float* floats(DeviceSpan memory) { return reinterpret_cast<const float*>(memory.address()); }
inline const int32_t* int32s(DeviceSpan memory) { return reinterpret_cast<const int32_t*>(memory.address()); }

/// Checks offsets [sequences + 1]: ascending from 0 to `rows`. Returns the length of the longest sequence.
int64_t check_offsets(DeviceSpan offsets, int64_t sequences, int64_t rows);

/// Threads worth starting for `work` multiplications; starting one costs as much as about 2^17 of them.
int threads_for(int64_t work, int threads);

/// Returns the lowest row of x that could not be quantized, if any.
std::optional<int64_t> linear(const KernelTable& table, Workspace& workspace, const LinearOp& op);
void attention(const KernelTable& table, Workspace& workspace, const AttentionOp& op);

}  // namespace octet::cpu

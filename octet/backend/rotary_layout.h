// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// Which two columns of a head turn together in a rotary position embedding, of `pairs` pairs. In a header of its own
/// because kernels compiled for one instruction set read it, and they may see no inline function.
enum class RotaryLayout : uint8_t {
  kHalves,      ///< i and i + pairs (GPT-NeoX, Llama)
  kNeighbours,  ///< 2 · i and 2 · i + 1 (the paper, GPT-J)
};

}  // namespace octet

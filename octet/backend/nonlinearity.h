// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace octet {

/// What an epilogue applies to a product. GELU is x/2 · (1 + erf(x/√2)); kGeluTanh its tanh approximation
/// (Hendrycks and Gimpel, 2016); SiLU is x / (1 + e^-x). In a header of its own because kernels compiled for one
/// instruction set read it, and they may see no inline function.
enum class Nonlinearity : uint8_t { kNone, kGelu, kGeluTanh, kRelu, kTanh, kSilu };

}  // namespace octet

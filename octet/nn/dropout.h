// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/nn/trainable.h"

namespace octet {

/// x ← dropout(x) in training, or its gradient: the same mask. `stream` says which of the pass's dropouts it is.
void drop(const Training& training, uint32_t stream, const Activation& x);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/nn/quant_site.h"
#include "octet/nn/workspace.h"

namespace octet {

/// What a forward pass needs besides its input, handed down explicitly. A model has no state of its own that a pass
/// changes, so one model may serve several contexts of the same backend in turn.
struct Context {
  Backend& backend;
  Workspace& workspace;
};

/// Throws NumericError if NaN or infinity was met while quantizing since the last call. `offsets` are those of the
/// batch (see AttentionOp), to say which sequence it was.
void check_numerics(Context& context, const QuantSites& sites, std::span<const int32_t> offsets);

}  // namespace octet

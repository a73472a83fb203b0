// SPDX-License-Identifier: Apache-2.0
#include "octet/nn/dropout.h"

namespace octet {

void drop(const Training& training, uint32_t stream, const Activation& x) {
  if (training.dropout == 0) return;
  training.context.backend.dropout({.x = x, .dropout = training.dropout_of(training.dropout, stream), .y = x});
}

}  // namespace octet

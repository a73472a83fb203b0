// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/tensor/tensor.h"

namespace octet {

/// A matrix turned around, in its dtype, in memory of its own. Throws ShapeError for another number of dimensions.
Tensor transposed(ConstTensorView matrix);

}  // namespace octet

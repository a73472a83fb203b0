// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/tensor/scheme.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// The canonical quantized weight: value[o, i] = codes[o, i] · scales[o].
///
///   codes   [out, in]  I8, in [-127, 127]
///   scales  [out]      F32, finite, any sign
///
/// Every quantizer makes one, every reader and writer of files speaks it, every backend packs from it.
struct QTensor {
  WeightScheme scheme;
  Tensor codes;
  Tensor scales;

  int64_t rows() const noexcept { return codes.shape()[0]; }
  int64_t cols() const noexcept { return codes.shape()[1]; }
  int64_t bytes() const noexcept { return codes.bytes() + scales.bytes(); }
};

/// Throws ShapeError or NumericError, naming the tensor as `what`, unless `tensor` is as described above.
void check(const QTensor& tensor, const std::string& what);

}  // namespace octet

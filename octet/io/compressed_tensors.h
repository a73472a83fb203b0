// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/io/quantization_config.h"
#include "octet/io/safetensors.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// The tensors in which compressed-tensors (vllm-project/compressed-tensors 0.20) stores the weight [out, in] of layer
/// X:
///
///   int-quantized    X.weight         I8   [out, in]         codes
///   pack-quantized   X.weight_packed  I32  [out, ⌈in / 4⌉]   codes + 128, four to a word, the first in the lowest
///   byte;
///                                                            what is left of a row's last word is 0
///                    X.weight_shape   I64  [2]               out, in
///   both             X.weight_scale   F32  [out, 1]          also F16 and BF16 in files of others
///
/// `weight` must live until the sources have been written.
std::vector<TensorSource> encode_weight(const std::string& layer, const QTensor& weight, WeightFormat format);

/// Bytes of those tensors for a weight [out, in].
int64_t encoded_bytes(const Shape& weight, WeightFormat format);

/// Reads it back. Codes of int-quantized files stay mapped; narrow scales are widened exactly. Throws FormatError where
/// a tensor is missing, has another dtype or shape, or holds what a symmetric 8-bit weight cannot: the code -128, a
/// scale that is not finite, a zero point.
QTensor decode_weight(const Checkpoint& checkpoint, const std::string& layer, WeightFormat format);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/io/quantization_config.h"
#include "octet/io/safetensors.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// The tensors in which compressed-tensors (vllm-project/compressed-tensors 0.20) stores the weight [out, in] of layer
/// X, a linear layer or a table of embeddings:
///
///   int-quantized    X.weight             I8   [out, in]              codes, a byte each at 4 bits too
///                    X.weight_zero_point  I8   [out, groups]          of a scheme with zero points
///   pack-quantized   X.weight_packed      I32  [out, ⌈in / n⌉]        codes + 2^(bits-1), n = 32 / bits to a word, the
///                                                                     first in the lowest bits; what is left of a
///                                                                     row's last word is 0
///                    X.weight_shape       I64  [2]                    out, in
///                    X.weight_zero_point  I32  [⌈out / n⌉, groups]    packed likewise, down the columns
///   both             X.weight_scale       F32  [out, groups]          also F16 and BF16 in files of others
///                    X.weight_g_idx       I32  [in]                   the group of each column, of a reordered scheme
///
///   static scales    X.input_scale        F32  [1]                    of what X multiplies; F16 and BF16 too, and []
///                    X.input_zero_point   I8   [1]                    of a scheme with one
///
///   outliers         X.outlier_columns    I32  [n]                    Octet's own, of a scheme with outliers: the
///   columns,
///                    X.outliers           F16  [out, n]               ascending, that are no codes, and their values;
///                                                                     BF16 too
///
/// A reordered scheme is what compressed-tensors up to 0.18 reads; later versions refuse its "actorder": "group".
///
/// 4-bit codes with a zero point lie in [-8, 7] there, as the zero point does: each is 8 less than in a QTensor; and so
/// in [-128, 127] an activation's, 128 less than in an ActivationScale. Of the strategy "tensor", which is read and not
/// written, weight_scale and weight_zero_point are [1] or [], the latter I8 in either format.
///
/// Others do not know outliers and would take the columns for zeros; quantization_config sees to it that they refuse.
///
/// `weight` must live until the sources have been written.
std::vector<TensorSource> encode_weight(const std::string& layer, const QTensor& weight, WeightFormat format);
/// The same for a weight [rows, cols] that is made when its turn comes: `weight` is asked for it once a tensor, one
/// right after another, and what it gives must live until it is asked again.
/// `outliers` says what it will have of them.
struct OutlierShape {
  int64_t columns = 0;
  DType dtype = DType::kF16;
};
std::vector<TensorSource> encode_weight(const std::string& layer, const Shape& shape, const WeightScheme& scheme,
                                        const std::function<const QTensor&()>& weight, WeightFormat format,
                                        const OutlierShape& outliers = {});

/// Bytes of those tensors for a weight [out, in], outliers aside.
int64_t encoded_bytes(const Shape& weight, const WeightScheme& scheme, WeightFormat format);
/// Bytes of `columns` outlier columns.
int64_t encoded_outlier_bytes(int64_t outputs, int64_t columns);
/// The outlier columns that are stored with a layer of `inputs` inputs. Throws as decode_weight does.
std::vector<int32_t> decode_outlier_columns(const Checkpoint& checkpoint, const std::string& layer, int64_t inputs);

/// The tensors that hold a static scale, and their bytes; none in other modes.
std::vector<TensorSource> encode_activation_scale(const std::string& layer, const ActivationScale& scale,
                                                  ActivationMode mode);
int64_t encoded_scale_bytes(ActivationMode mode);
/// Reads it back. Throws FormatError where a tensor is missing, has another dtype or shape, or holds what no scale can
/// be.
ActivationScale decode_activation_scale(const Checkpoint& checkpoint, const std::string& layer, ActivationMode mode,
                                        int bits = 8);

/// The tensor OPERAND_scale that holds the scale of what static attention reads, OPERAND being MODULE.q, .k or .v: the
/// library's own names, of a kv_cache_scheme. Throws as decode_activation_scale does.
TensorSource encode_attention_scale(const std::string& operand, float scale);
float decode_attention_scale(const Checkpoint& checkpoint, const std::string& operand);

/// Reads a weight back. Codes of int-quantized files that lie as a QTensor's stay mapped; narrow scales are widened
/// exactly. Throws FormatError where a tensor is missing, has another dtype or shape, or holds what a weight of the
/// scheme cannot: a 4-bit code in a byte that is none, a scale that is not finite, a zero point of a symmetric weight,
/// groups of unequal sizes.
QTensor decode_weight(const Checkpoint& checkpoint, const std::string& layer, const StoredScheme& stored);

}  // namespace octet

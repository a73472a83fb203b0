// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"

/// The products of the instruction set ref: the plain reading of the contract. Panels are one output wide, so that a
/// panel is a row of W; a byte of nibbles holds two neighbouring k.
namespace octet::cpu::ref {

void product_f32(const FloatProduct& p);
void product_f16(const FloatProduct& p);
void product_bf16(const FloatProduct& p);
void product_w8a16(const FloatProduct& p);
void product_w4a16(const FloatProduct& p);
void product_w8a8(const Int8Product& p);
void product_w4a8(const Int8Product& p);
void widen_f16(const Widen& w);
void widen_bf16(const Widen& w);
void widen_w8(const Widen& w);
void widen_w4(const Widen& w);
uint32_t absmax_bits(const float* x, int64_t count);
void quantize(const QuantizeRow& q);
void arrange(const ArrangeRow& a);

// Attention in INT8. A panel of keys is a token's codes, one of values the codes of one column.
void absmax_rows(const AbsmaxRows& a);
void quantize_rows(const QuantizeRows& q);
void pack_keys(const PackTokens& p);
void pack_values(const PackTokens& p);
void scale_sums(const ScaleSums& s);

}  // namespace octet::cpu::ref

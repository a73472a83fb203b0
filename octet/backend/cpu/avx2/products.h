// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"

/// The products of the avx2 instruction set; float_products.cpp, byte_products.cpp and nibble_products.cpp say how they
/// are built.
namespace octet::cpu::avx2 {

void product_f32(const FloatProduct& p);
void product_f16(const FloatProduct& p);
void product_bf16(const FloatProduct& p);
void product_w8a16(const FloatProduct& p);
void product_w4a16(const FloatProduct& p);
void widen_f16(const Widen& w);
void widen_bf16(const Widen& w);
void widen_w8(const Widen& w);
void widen_w4(const Widen& w);

/// k whose codes the 4-bit product wants summed.
inline constexpr int64_t kNibbleSums = 32;

void product_w8a8(const Int8Product& p);
void product_w4a8(const Int8Product& p);
uint32_t absmax_bits(const float* x, int64_t count);
int64_t byte_row_bytes(int64_t depth);
void quantize_for_bytes(const QuantizeRow& q);
void quantize_for_nibbles(const QuantizeRow& q);
void arrange_for_bytes(const ArrangeRow& a);
void arrange_for_nibbles(const ArrangeRow& a);

void absmax_rows(const AbsmaxRows& a);
void quantize_rows(const QuantizeRows& q);
void product_scores(const Int8Product& p);
void product_mix(const Int8Product& p);

}  // namespace octet::cpu::avx2

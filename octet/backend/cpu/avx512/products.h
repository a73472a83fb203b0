// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"

/// The products of the avx512_vnni instruction set; float_products.cpp and int8_products.cpp say how they are built.
namespace octet::cpu::avx512 {

void product_f32(const FloatProduct& p);
void product_f16(const FloatProduct& p);
void product_bf16(const FloatProduct& p);
void product_w8a16(const FloatProduct& p);
void product_w4a16(const FloatProduct& p);
void widen_f16(const Widen& w);
void widen_bf16(const Widen& w);
void widen_w8(const Widen& w);
void widen_w4(const Widen& w);

void product_w8a8(const Int8Product& p);
void product_w4a8(const Int8Product& p);
uint32_t absmax_bits(const float* x, int64_t count);
void quantize(const QuantizeRow& q);
void arrange(const ArrangeRow& a);

void absmax_rows(const AbsmaxRows& a);
void quantize_rows(const QuantizeRows& q);

}  // namespace octet::cpu::avx512

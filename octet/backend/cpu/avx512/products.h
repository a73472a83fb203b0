// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "octet/backend/cpu/kernels.h"

/// The products of the avx512_vnni instruction set; products.cpp says how they are built.
namespace octet::cpu::avx512 {

void product_f32(const FloatProduct& p);
void product_w8(const FloatProduct& p);
void product_int8(const Int8Product& p);
void widen(const int8_t* codes, int64_t count, float* out);
uint32_t absmax_bits(const float* x, int64_t count);
int32_t quantize(const float* x, int64_t count, float inverse, void* codes);

}  // namespace octet::cpu::avx512

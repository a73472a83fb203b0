// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "octet/tensor/dtype.h"
#include "octet/tensor/scheme.h"

/// The element types of GGUF files (ggml-org/llama.cpp, ggml-common.h and ggml-quants.c). A tensor is a run of blocks,
/// each of some neighbours of one row; d and m below are fp16, little-endian:
///
///   F32, F16, BF16, F64, I8, I16, I32, I64      one element a block
///   Q8_0   d, 32 int8                           x = d · q
///   Q4_0   d, 32 of 4 bits                      x = d · (q - 8)
///   Q4_1   d, m, 32 of 4 bits                   x = d · q + m
///   Q5_0   d, 32 fifth bits, 32 of 4 bits       x = d · (q - 16)
///   Q5_1   d, m, 32 fifth bits, 32 of 4 bits    x = d · q + m
///   Q4_K   d, m, eight 6-bit pairs (s, t), 256 of 4 bits                    x = (d · s) · q - m · t
///   Q5_K   d, m, eight 6-bit pairs (s, t), 256 fifth bits, 256 of 4 bits    x = (d · s) · q - m · t
///   Q6_K   256 of 4 bits, their upper 2 bits, sixteen int8 s, d             x = (d · s) · (q - 32)
///
/// In blocks of 32 the 4-bit codes i and i + 16 share byte i, the first in its lower half.
namespace octet {

/// Numbers as in the file. Those that Octet knows the size of, but does not decode, are not named here.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
};

struct GgufBlock {
  std::string_view name;  ///< "Q4_K"
  int64_t elements;
  int64_t bytes;
};

/// None for a type that Octet does not read.
std::optional<GgufBlock> find_block(GgufType type) noexcept;
/// The name of any type that llama.cpp has or had, "Q2_K" or "IQ4_XS"; "type 99" for others is left to the caller.
std::optional<std::string_view> gguf_type_name(uint32_t type) noexcept;
/// Bytes of so many elements, which fill whole blocks.
int64_t gguf_bytes(GgufType type, int64_t elements);

/// The same type as a tensor's, where it is one: plain numbers but I16.
std::optional<DType> plain_dtype(GgufType type) noexcept;
/// How the codes of a type are kept as a weight: groups of 32 in Q8_0, Q4_0 and Q4_1; none for others.
std::optional<WeightScheme> code_scheme(GgufType type) noexcept;

/// The values of `blocks`, which fill `values`, in fp32: rounded as the expressions above say, which is what llama.cpp
/// gives; F64 rounds once. Integers are not values: throws Error for them.
void decode_values(GgufType type, std::span<const std::byte> blocks, std::span<float> values);

/// What a type with a code_scheme stores: codes as a QTensor has them (Q4_0: q - 8), a scale a block and, of Q4_1, a
/// minimum a block, widened exactly. `minima` is empty for the others.
void decode_codes(GgufType type, std::span<const std::byte> blocks, std::span<int8_t> codes, std::span<float> scales,
                  std::span<float> minima);

/// The inverse. False, and `blocks` is of no use, where a scale or minimum is no fp16 number.
bool encode_codes(GgufType type, std::span<const int8_t> codes, std::span<const float> scales,
                  std::span<const float> minima, std::span<std::byte> blocks);

/// Values as F32, F16, Q8_0 or Q4_0, by llama.cpp's definitions: with x the block's value of the largest magnitude
/// (the first of several),
///
///   Q8_0   d = |x| / 127    q = round(v · (1/d)), halves away from zero
///   Q4_0   d = x / -8       q = min(15, trunc(v · (1/d) + 8.5))
///
/// codes by d in fp32, which is then stored as fp16. 1/d counts as 0 where it overflows. False, and `blocks` is of no
/// use, where a value is not finite or an fp16 number would not be.
bool encode_values(GgufType type, std::span<const float> values, std::span<std::byte> blocks);

}  // namespace octet

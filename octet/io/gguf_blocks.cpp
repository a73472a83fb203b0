// SPDX-License-Identifier: Apache-2.0
#include "octet/io/gguf_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/tensor/half.h"

namespace octet {
namespace {

// Elements of the blocks that have one scale, and of those that have several ("K" types).
constexpr int kSmall = 32, kLarge = 256;

uint8_t byte_at(const std::byte* at) { return static_cast<uint8_t>(*at); }

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float half_at(const std::byte* at) { return to_float(load<Half>(at)); }

// False for what is no finite fp16 number, not even rounded.
bool store_half(float value, std::byte* at) {
  const Half half = to_half(value);
  std::memcpy(at, &half, sizeof half);
  return std::isfinite(to_float(half));
}

// Code i of 32 in 16 bytes.
int nibble(const std::byte* packed, int i) {
  return i < 16 ? byte_at(packed + i) & 0xf : byte_at(packed + i - 16) >> 4;
}

template <class T>
void widen(std::span<const std::byte> blocks, std::span<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_arithmetic_v<T>) {
      values[i] = static_cast<float>(load<T>(blocks.data() + i * sizeof(T)));
    } else {
      values[i] = to_float(load<T>(blocks.data() + i * sizeof(T)));
    }
  }
}

void decode_q8_0(const std::byte* block, float* values) {
  const float d = half_at(block);
  for (int i = 0; i < kSmall; ++i) values[i] = static_cast<float>(load<int8_t>(block + 2 + i)) * d;
}

void decode_q4_0(const std::byte* block, float* values) {
  const float d = half_at(block);
  for (int i = 0; i < kSmall; ++i) values[i] = static_cast<float>(nibble(block + 2, i) - 8) * d;
}

void decode_q4_1(const std::byte* block, float* values) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int i = 0; i < kSmall; ++i) values[i] = static_cast<float>(nibble(block + 4, i)) * d + m;
}

int fifth_bit(uint32_t bits, int i) { return static_cast<int>(bits >> i & 1) << 4; }

void decode_q5_0(const std::byte* block, float* values) {
  const float d = half_at(block);
  const auto high = load<uint32_t>(block + 2);
  for (int i = 0; i < kSmall; ++i) values[i] = static_cast<float>((nibble(block + 6, i) | fifth_bit(high, i)) - 16) * d;
}

void decode_q5_1(const std::byte* block, float* values) {
  const float d = half_at(block), m = half_at(block + 2);
  const auto high = load<uint32_t>(block + 4);
  for (int i = 0; i < kSmall; ++i) values[i] = static_cast<float>(nibble(block + 8, i) | fifth_bit(high, i)) * d + m;
}

// Pair j of eight: a scale and a minimum of 6 bits each, in 12 bytes. The first four scales have the lower 6 bits of
// bytes 0-3, the first four minima those of bytes 4-7; the others have 4 bits in the halves of bytes 8-11, and their
// upper 2 bits are the upper 2 of the bytes before.
std::pair<float, float> scale_and_minimum(const std::byte* packed, int j) {
  const auto at = [packed](int i) { return byte_at(packed + i); };
  if (j < 4) return {static_cast<float>(at(j) & 63), static_cast<float>(at(j + 4) & 63)};
  const int scale = (at(j + 4) & 0xf) | (at(j - 4) >> 6 << 4), minimum = (at(j + 4) >> 4) | (at(j) >> 6 << 4);
  return {static_cast<float>(scale), static_cast<float>(minimum)};
}

// Eight stretches of 32 with a pair each; stretches 2k and 2k + 1 are the lower and upper halves of the same 32 bytes.
// `high` holds the fifth bits, stretch j's in bit j of 32 bytes; null for Q4_K.
void decode_pairs(const std::byte* block, const std::byte* high, const std::byte* low, float* values) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int j = 0; j < kLarge / kSmall; ++j) {
    const auto [scale, minimum] = scale_and_minimum(block + 4, j);
    const float step = d * scale, offset = m * minimum;
    for (int i = 0; i < kSmall; ++i) {
      const uint8_t both = byte_at(low + j / 2 * kSmall + i);
      int code = j % 2 == 0 ? both & 0xf : both >> 4;
      if (high != nullptr) code |= fifth_bit(byte_at(high + i), j);
      values[j * kSmall + i] = step * static_cast<float>(code) - offset;
    }
  }
}

void decode_q4_k(const std::byte* block, float* values) { decode_pairs(block, nullptr, block + 16, values); }
void decode_q5_k(const std::byte* block, float* values) { decode_pairs(block, block + 16, block + 48, values); }

// Two halves of 128: in each, stretch j of 32 has its lower 4 bits in a half of bytes j % 2 · 32 + i of 64, its upper 2
// bits at 2j of 32 bytes, and a scale for each 16.
void decode_q6_k(const std::byte* block, float* values) {
  const float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const std::byte* low = block + half * 64;
    const std::byte* high = block + 128 + half * 32;
    const std::byte* scales = block + 192 + half * 8;
    for (int j = 0; j < 4; ++j) {
      for (int i = 0; i < kSmall; ++i) {
        const uint8_t both = byte_at(low + j % 2 * kSmall + i);
        const int code = (j < 2 ? both & 0xf : both >> 4) | (byte_at(high + i) >> (2 * j) & 3) << 4;
        const float step = d * static_cast<float>(load<int8_t>(scales + 2 * j + i / 16));
        values[half * 128 + j * kSmall + i] = step * static_cast<float>(code - 32);
      }
    }
  }
}

using DecodeBlock = void (*)(const std::byte* block, float* values);

DecodeBlock block_decoder(GgufType type) {
  switch (type) {
    case GgufType::kQ8_0:
      return decode_q8_0;
    case GgufType::kQ4_0:
      return decode_q4_0;
    case GgufType::kQ4_1:
      return decode_q4_1;
    case GgufType::kQ5_0:
      return decode_q5_0;
    case GgufType::kQ5_1:
      return decode_q5_1;
    case GgufType::kQ4_K:
      return decode_q4_k;
    case GgufType::kQ5_K:
      return decode_q5_k;
    case GgufType::kQ6_K:
      return decode_q6_k;
    default:
      fail("values of the GGUF type {} cannot be read", gguf_type_name(static_cast<uint32_t>(type)).value_or("?"));
  }
}

float largest_magnitude(const float* values) {
  return *std::max_element(values, values + kSmall, [](float a, float b) { return std::abs(a) < std::abs(b); });
}

// d is 0 in fp16 long before 1/d overflows.
float inverse_of(float d) { return std::abs(d) < 0x1p-126f ? 0.0f : 1.0f / d; }

bool encode_q8_0(const float* values, std::byte* block) {
  const float d = std::abs(largest_magnitude(values)) / 127, inverse = inverse_of(d);
  for (int i = 0; i < kSmall; ++i) {
    const auto code = static_cast<int8_t>(std::round(values[i] * inverse));
    block[2 + i] = static_cast<std::byte>(code);
  }
  return store_half(d, block);
}

bool encode_q4_0(const float* values, std::byte* block) {
  const float d = largest_magnitude(values) / -8, inverse = inverse_of(d);
  // |v · (1/d)| ≤ 8 but for rounding, so the sum lies in [0.49, 16.51] and is cut to [0, 15].
  const auto code = [&](int i) {
    return static_cast<uint8_t>(std::min(15, static_cast<int>(values[i] * inverse + 8.5f)));
  };
  for (int i = 0; i < kSmall / 2; ++i) block[2 + i] = static_cast<std::byte>(code(i) | code(i + 16) << 4);
  return store_half(d, block);
}

void check_sizes(GgufType type, size_t blocks, size_t codes, size_t scales, size_t minima) {
  if (code_scheme(type) && std::cmp_equal(blocks, gguf_bytes(type, static_cast<int64_t>(codes))) &&
      scales * kSmall == codes && minima == (type == GgufType::kQ4_1 ? scales : 0)) {
    return;
  }
  fail("{} bytes for {} codes of a GGUF tensor", blocks, codes);
}

}  // namespace

std::optional<GgufBlock> find_block(GgufType type) noexcept {
  switch (type) {
    case GgufType::kF32:
      return GgufBlock{"F32", 1, 4};
    case GgufType::kF16:
      return GgufBlock{"F16", 1, 2};
    case GgufType::kQ4_0:
      return GgufBlock{"Q4_0", kSmall, 18};
    case GgufType::kQ4_1:
      return GgufBlock{"Q4_1", kSmall, 20};
    case GgufType::kQ5_0:
      return GgufBlock{"Q5_0", kSmall, 22};
    case GgufType::kQ5_1:
      return GgufBlock{"Q5_1", kSmall, 24};
    case GgufType::kQ8_0:
      return GgufBlock{"Q8_0", kSmall, 34};
    case GgufType::kQ4_K:
      return GgufBlock{"Q4_K", kLarge, 144};
    case GgufType::kQ5_K:
      return GgufBlock{"Q5_K", kLarge, 176};
    case GgufType::kQ6_K:
      return GgufBlock{"Q6_K", kLarge, 210};
    case GgufType::kI8:
      return GgufBlock{"I8", 1, 1};
    case GgufType::kI16:
      return GgufBlock{"I16", 1, 2};
    case GgufType::kI32:
      return GgufBlock{"I32", 1, 4};
    case GgufType::kI64:
      return GgufBlock{"I64", 1, 8};
    case GgufType::kF64:
      return GgufBlock{"F64", 1, 8};
    case GgufType::kBF16:
      return GgufBlock{"BF16", 1, 2};
  }
  return std::nullopt;
}

std::optional<std::string_view> gguf_type_name(uint32_t type) noexcept {
  if (const auto block = find_block(static_cast<GgufType>(type))) return block->name;
  // Those of files that people have; what is told of them is their name alone.
  constexpr std::array<std::pair<uint32_t, std::string_view>, 18> kOthers = {{{9, "Q8_1"},
                                                                              {10, "Q2_K"},
                                                                              {11, "Q3_K"},
                                                                              {15, "Q8_K"},
                                                                              {16, "IQ2_XXS"},
                                                                              {17, "IQ2_XS"},
                                                                              {18, "IQ3_XXS"},
                                                                              {19, "IQ1_S"},
                                                                              {20, "IQ4_NL"},
                                                                              {21, "IQ3_S"},
                                                                              {22, "IQ2_S"},
                                                                              {23, "IQ4_XS"},
                                                                              {29, "IQ1_M"},
                                                                              {34, "TQ1_0"},
                                                                              {35, "TQ2_0"},
                                                                              {39, "MXFP4"},
                                                                              {40, "NVFP4"},
                                                                              {41, "Q1_0"}}};
  const auto found =
      std::find_if(kOthers.begin(), kOthers.end(), [type](const auto& one) { return one.first == type; });
  return found == kOthers.end() ? std::nullopt : std::optional(found->second);
}

int64_t gguf_bytes(GgufType type, int64_t elements) {
  const std::optional<GgufBlock> block = find_block(type);
  if (!block || elements % block->elements != 0) {
    fail("{} elements do not fill blocks of the GGUF type {}", elements, static_cast<uint32_t>(type));
  }
  return checked_mul(elements / block->elements, block->bytes);
}

std::optional<DType> plain_dtype(GgufType type) noexcept {
  switch (type) {
    case GgufType::kF32:
      return DType::kF32;
    case GgufType::kF16:
      return DType::kF16;
    case GgufType::kBF16:
      return DType::kBF16;
    case GgufType::kF64:
      return DType::kF64;
    case GgufType::kI8:
      return DType::kI8;
    case GgufType::kI32:
      return DType::kI32;
    case GgufType::kI64:
      return DType::kI64;
    default:
      return std::nullopt;
  }
}

std::optional<WeightScheme> code_scheme(GgufType type) noexcept {
  switch (type) {
    case GgufType::kQ8_0:
      return WeightScheme{.bits = 8, .group_size = kSmall};
    case GgufType::kQ4_0:
      return WeightScheme{.bits = 4, .group_size = kSmall};
    case GgufType::kQ4_1:
      return WeightScheme{.bits = 4, .group_size = kSmall, .mapping = CodeMapping::kMinimum};
    default:
      return std::nullopt;
  }
}

void decode_values(GgufType type, std::span<const std::byte> blocks, std::span<float> values) {
  if (std::cmp_not_equal(blocks.size(), gguf_bytes(type, static_cast<int64_t>(values.size())))) {
    fail("{} bytes for {} elements of a GGUF tensor", blocks.size(), values.size());
  }
  switch (type) {
    case GgufType::kF32:
      return widen<float>(blocks, values);
    case GgufType::kF16:
      return widen<Half>(blocks, values);
    case GgufType::kBF16:
      return widen<BFloat16>(blocks, values);
    case GgufType::kF64:
      return widen<double>(blocks, values);
    default:
      break;
  }
  const DecodeBlock decode = block_decoder(type);
  const GgufBlock block = *find_block(type);
  const std::byte* from = blocks.data();
  for (size_t at = 0; at < values.size(); at += static_cast<size_t>(block.elements), from += block.bytes) {
    decode(from, values.data() + at);
  }
}

void decode_codes(GgufType type, std::span<const std::byte> blocks, std::span<int8_t> codes, std::span<float> scales,
                  std::span<float> minima) {
  check_sizes(type, blocks.size(), codes.size(), scales.size(), minima.size());
  const bool has_minima = !minima.empty();
  const int64_t block_bytes = find_block(type)->bytes;
  for (size_t b = 0; b < scales.size(); ++b) {
    const std::byte* block = blocks.data() + static_cast<int64_t>(b) * block_bytes;
    int8_t* to = codes.data() + b * kSmall;
    scales[b] = half_at(block);
    if (has_minima) minima[b] = half_at(block + 2);
    if (type == GgufType::kQ8_0) {
      std::memcpy(to, block + 2, kSmall);
      continue;
    }
    const std::byte* packed = block + (has_minima ? 4 : 2);
    const int offset = has_minima ? 0 : 8;
    for (int i = 0; i < kSmall; ++i) to[i] = static_cast<int8_t>(nibble(packed, i) - offset);
  }
}

bool encode_codes(GgufType type, std::span<const int8_t> codes, std::span<const float> scales,
                  std::span<const float> minima, std::span<std::byte> blocks) {
  check_sizes(type, blocks.size(), codes.size(), scales.size(), minima.size());
  const auto store_exactly = [](float value, std::byte* at) { return store_half(value, at) && half_at(at) == value; };
  const int64_t block_bytes = find_block(type)->bytes;
  for (size_t b = 0; b < scales.size(); ++b) {
    std::byte* block = blocks.data() + static_cast<int64_t>(b) * block_bytes;
    const int8_t* from = codes.data() + b * kSmall;
    if (!store_exactly(scales[b], block)) return false;
    if (!minima.empty() && !store_exactly(minima[b], block + 2)) return false;
    if (type == GgufType::kQ8_0) {
      std::memcpy(block + 2, from, kSmall);
      continue;
    }
    std::byte* packed = block + (minima.empty() ? 2 : 4);
    const int offset = minima.empty() ? 8 : 0;
    for (int i = 0; i < kSmall / 2; ++i) {
      packed[i] = static_cast<std::byte>((from[i] + offset) | (from[i + 16] + offset) << 4);
    }
  }
  return true;
}

bool encode_values(GgufType type, std::span<const float> values, std::span<std::byte> blocks) {
  if (std::cmp_not_equal(blocks.size(), gguf_bytes(type, static_cast<int64_t>(values.size())))) {
    fail("{} bytes for {} elements of a GGUF tensor", blocks.size(), values.size());
  }
  if (!std::ranges::all_of(values, [](float x) { return std::isfinite(x); })) return false;
  bool fits = true;
  switch (type) {
    case GgufType::kF32:
      std::memcpy(blocks.data(), values.data(), blocks.size());
      return fits;
    case GgufType::kF16:
      for (size_t i = 0; i < values.size(); ++i) fits = store_half(values[i], blocks.data() + 2 * i) && fits;
      return fits;
    case GgufType::kQ8_0:
    case GgufType::kQ4_0: {
      const auto encode = type == GgufType::kQ8_0 ? encode_q8_0 : encode_q4_0;
      const int64_t block_bytes = find_block(type)->bytes;
      for (size_t b = 0; b < values.size() / kSmall; ++b) {
        fits = encode(values.data() + b * kSmall, blocks.data() + static_cast<int64_t>(b) * block_bytes) && fits;
      }
      return fits;
    }
    default:
      fail("values are not written as the GGUF type {}", gguf_type_name(static_cast<uint32_t>(type)).value_or("?"));
  }
}

}  // namespace octet

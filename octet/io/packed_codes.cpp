// SPDX-License-Identifier: Apache-2.0
#include "octet/io/packed_codes.h"

namespace octet {

int64_t words_for(int64_t codes, int bits) {
  const int64_t in_a_word = 32 / bits;
  return codes / in_a_word + (codes % in_a_word != 0);
}

Tensor pack_codes(ConstTensorView codes, int bits, int offset) {
  const int64_t rows = codes.shape[0], cols = codes.shape[1];
  Tensor out(DType::kI32, {rows, words_for(cols, bits)});
  const std::span<const int8_t> from = codes.as<int8_t>();
  auto* to = reinterpret_cast<uint8_t*>(out.mutable_view().data);
  const int64_t row_bytes = words_for(cols, bits) * byte_size(DType::kI32);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const auto code = static_cast<uint8_t>(from[r * cols + c] + offset);
      if (bits == 8) {
        to[r * row_bytes + c] = code;
      } else {
        to[r * row_bytes + c / 2] = static_cast<uint8_t>(to[r * row_bytes + c / 2] | code << (c % 2 * 4));
      }
    }
  }
  return out;
}

Tensor unpack_codes(ConstTensorView words, int64_t cols, int bits, int offset) {
  const int64_t rows = words.shape[0], row_bytes = words.shape[1] * byte_size(DType::kI32);
  Tensor out(DType::kI8, {rows, cols});
  if (cols == 0) return out;  // of any number of rows
  const auto* from = reinterpret_cast<const uint8_t*>(words.data);
  const std::span<int8_t> to = out.mutable_as<int8_t>();
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      const int code = bits == 8 ? from[r * row_bytes + c] : from[r * row_bytes + c / 2] >> (c % 2 * 4) & 0xf;
      to[r * cols + c] = static_cast<int8_t>(code - offset);
    }
  }
  return out;
}

}  // namespace octet

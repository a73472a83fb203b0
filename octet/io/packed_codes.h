// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "octet/tensor/tensor.h"

namespace octet {

/// Words of 32 bits that hold a row of codes of 8 or 4 bits, the first in the lowest bits; the last may have room left.
int64_t words_for(int64_t codes, int bits);

/// Rows of codes [rows, cols] I8 as rows of words [rows, words_for(cols)] I32, in which each is `offset` more, from 0
/// on. What is left of a row's last word is 0.
Tensor pack_codes(ConstTensorView codes, int bits, int offset);

/// The reverse: `cols` codes a row, fewer than the words hold or as many, each `offset` less than in its word.
Tensor unpack_codes(ConstTensorView words, int64_t cols, int bits, int offset);

}  // namespace octet

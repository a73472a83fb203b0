// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// How a row of activations lies for the products with bytes.
//
// vpmaddubsw multiplies two unsigned bytes by two signed ones and adds the products in int16, where they saturate:
// 2 · 255 · 127 = 64,770. But codes of activations are small in most places, for a row's scale is that of its largest:
// with |a| + |b| ≤ 128 no two weights can do harm, 255 · 128 = 32,640 < 32,768, and where four codes have that sum,
// even two such results may be added up before they are widened. So each row is stored twice: as it is, and calm: less
// the code of 0, around which the others lie, and with zeros where a code was too much for its neighbours. Those are
// its outliers, which are multiplied one by one.
namespace octet::cpu::avx2 {
namespace {

// What was taken out of the calm codes, or half of it, in its place among the four at k = 4 · quad.
struct Outlier {
  int32_t quad;
  int8_t codes[4];
};

// What a row's calm codes allow: results of vpmaddubsw that may be added up. 0: too many would be outliers.
enum class Calm : int32_t { kNot = 0, kPairs = 1, kFours = 2 };

// k whose outliers are found at once.
constexpr int64_t kByteBlock = 1024;

// Where its parts lie in a row, in bytes: int8 codes, int8 calm codes, Calm, int32 starts [blocks + 1] (block b has
// outliers [starts[b], starts[b + 1]), in the order of k), and room for outliers.
struct ByteRow {
  int64_t padded;  // codes
  int64_t blocks;
  int64_t most_outliers;  // more than one to eight codes cost more than they save
  int64_t calm_codes, calm, starts, outliers, bytes;

  explicit ByteRow(int64_t depth)
      : padded((depth + 31) / 32 * 32),
        blocks((depth + kByteBlock - 1) / kByteBlock),
        most_outliers(padded / 8),
        calm_codes(padded),
        calm(2 * padded),
        starts(calm + int64_t{sizeof(Calm)}),
        outliers(starts + (blocks + 1) * int64_t{sizeof(int32_t)}),
        bytes((outliers + most_outliers * int64_t{sizeof(Outlier)} + 63) / 64 * 64) {}
};

}  // namespace
}  // namespace octet::cpu::avx2

// SPDX-License-Identifier: Apache-2.0
#include "octet/backend/cpu/avx2/byte_row.h"
#include "octet/backend/cpu/avx2/int8_lanes.h"
#include "octet/backend/cpu/avx2/products.h"

namespace octet::cpu::avx2 {
namespace {

// What QuantizeRow says of all codes.
class Codes {
 public:
  explicit Codes(const QuantizeRow& q)
      : inverse_(_mm256_set1_ps(q.inverse)),
        low_(_mm256_set1_ps(q.low)),
        high_(_mm256_set1_ps(q.high)),
        offset_(_mm256_set1_epi32(q.offset)) {}
  // Sixteen as int16. packs interleaves the 128-bit halves of its operands; the permutation mends that.
  __m256i sixteen(const float* x) const {
    const __m256i both = _mm256_packs_epi32(of(_mm256_loadu_ps(x)), of(_mm256_loadu_ps(x + 8)));
    return _mm256_permute4x64_epi64(both, 0b11'01'10'00);
  }
  int32_t one(const float* x) const { return _mm256_extract_epi32(of(_mm256_broadcast_ss(x)), 0); }

 private:
  // Eight as int32: cvtps rounds to nearest, ties to even.
  __m256i of(__m256 x) const {
    const __m256 scaled = _mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(x, inverse_), high_), low_);
    return _mm256_add_epi32(_mm256_cvtps_epi32(scaled), offset_);
  }

  __m256 inverse_, low_, high_;
  __m256i offset_;
};

// Codes that exist.
struct SameCodes {
  __m256i sixteen(const int8_t* codes) const {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  }
  int32_t one(const int8_t* code) const { return *code; }
};

inline void store_codes(__m256i codes, int8_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   _mm_packs_epi16(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1)));
}

// Σ of the codes at k % 4 = 0 and 1, and of those at 2 and 3.
struct PairSums {
  int32_t first = 0, second = 0;
};

template <class Value, class Making>
[[gnu::always_inline]] inline PairSums make_codes(const Value* x, int64_t count, const Making& by, int8_t* out) {
  __m256i pairs = _mm256_setzero_si256();  // those of sixteen codes: first, second, first, …
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i codes = by.sixteen(x + i);
    pairs = _mm256_add_epi32(pairs, _mm256_madd_epi16(codes, _mm256_set1_epi16(1)));
    store_codes(codes, out + i);
  }
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), pairs);
  PairSums sums{lanes[0] + lanes[2] + lanes[4] + lanes[6], lanes[1] + lanes[3] + lanes[5] + lanes[7]};
  for (; i < count; ++i) {
    const int32_t code = by.one(x + i);
    out[i] = static_cast<int8_t>(code);
    (i % 4 < 2 ? sums.first : sums.second) += code;
  }
  return sums;
}

// What the products of a row see of its codes where they are calm: a code less that of 0, as int8. Where the difference
// may not fit, it counts as larger than any neighbours allow.
class Centred {
 public:
  explicit Centred(int32_t zero) : zero_(zero), zeros_(_mm256_set1_epi8(static_cast<char>(zero))) {}

  __m256i of(const int8_t* codes) const { return _mm256_subs_epi8(load(codes), zeros_); }
  int32_t exactly(int8_t code) const { return code - zero_; }

  __m256i magnitudes(__m256i centred) const {
    const __m256i all = _mm256_abs_epi8(centred);
    if (zero_ == 0) return all;
    return _mm256_or_si256(all, _mm256_cmpeq_epi8(_mm256_max_epu8(all, _mm256_set1_epi8(127)), all));
  }
  int32_t magnitude(int8_t centred) const {
    const int32_t all = centred < 0 ? -centred : centred;
    return zero_ != 0 && all >= 127 ? 255 : all;
  }

 private:
  int32_t zero_;
  __m256i zeros_;
};

// Bits of those int16 lanes, two each, where codes meet whose magnitudes have a sum above 128.
template <Calm calm>
uint32_t loud_lanes(__m256i magnitudes) {
  __m256i sums = _mm256_maddubs_epi16(magnitudes, _mm256_set1_epi8(1));
  if constexpr (calm == Calm::kFours) {
    // Of eight codes, the pairs 0 and 2 meet, and 1 and 3: their sums stand in the low halves of 64 bits.
    sums = _mm256_add_epi16(sums, _mm256_srli_epi64(sums, 32));
    sums = _mm256_and_si256(sums, _mm256_set1_epi64x(0xffffffff));
  }
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpgt_epi16(sums, _mm256_set1_epi16(128))));
}

// What the products of a row should count on. Measured on Zen 3, they take 1/106 where fours are calm, 1/94 where pairs
// are, 1/66 for codes as they are; an outlier takes 1.4 times as long as a quad. So pairs pay where they leave as many
// outliers fewer as make one to eleven quads, and neither pays beyond 0.3 outliers a quad.
Calm best_calm(const int8_t* codes, int64_t padded_depth, const Centred& centred) {
  int64_t fours = 0, pairs = 0;
  for (int64_t k = 0; k < padded_depth; k += 32) {
    const __m256i some = centred.magnitudes(centred.of(codes + k));
    fours += __builtin_popcount(loud_lanes<Calm::kFours>(some)) / 2;
    pairs += __builtin_popcount(loud_lanes<Calm::kPairs>(some)) / 2;
  }
  const int64_t quads = padded_depth / 4, calm_enough = quads * 3 / 10;
  if (fours <= calm_enough && fours <= pairs + quads / 11) return Calm::kFours;
  return pairs <= calm_enough ? Calm::kPairs : Calm::kNot;
}

// Centres codes and takes out those that are too much for their neighbours.
class Calming {
 public:
  Calming(const ByteRow& layout, const Centred& centred, char* row)
      : layout_(layout),
        centred_(centred),
        codes_(reinterpret_cast<const int8_t*>(row)),
        calm_(reinterpret_cast<int8_t*>(row + layout.calm_codes)),
        starts_(reinterpret_cast<int32_t*>(row + layout.starts)),
        outliers_(reinterpret_cast<Outlier*>(row + layout.outliers)) {}

  // False if there are more outliers than the row has room for.
  template <Calm calm>
  bool run() {
    for (int64_t block = 0; block < layout_.blocks; ++block) {
      starts_[block] = static_cast<int32_t>(count_);
      const int64_t first = block * kByteBlock;
      const int64_t last = first + kByteBlock < layout_.padded ? first + kByteBlock : layout_.padded;
      for (int64_t k = first; k < last; k += 32) {
        const __m256i codes = centred_.of(codes_ + k);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(calm_ + k), codes);
        for (uint32_t loud = loud_lanes<calm>(centred_.magnitudes(codes)); loud != 0;
             loud &= loud - 1, loud &= loud - 1) {
          if (!take<calm>(k + __builtin_ctz(loud))) return false;
        }
      }
    }
    starts_[layout_.blocks] = static_cast<int32_t>(count_);
    return true;
  }

  void clear() {
    for (int64_t block = 0; block <= layout_.blocks; ++block) starts_[block] = 0;
  }

 private:
  // Makes outliers of the largest of the codes that meet those at k until 128 suffice for the rest.
  template <Calm calm>
  bool take(int64_t k) {
    constexpr int kCount = calm == Calm::kFours ? 4 : 2;
    const int64_t places[4] = {k, k + 1, k + 4, k + 5};
    int sum = 0;
    for (int i = 0; i < kCount; ++i) sum += centred_.magnitude(calm_[places[i]]);
    while (sum > 128) {
      int64_t largest = places[0];
      for (int i = 1; i < kCount; ++i) {
        if (centred_.magnitude(calm_[places[i]]) > centred_.magnitude(calm_[largest])) largest = places[i];
      }
      if (!add(largest)) return false;
      sum -= centred_.magnitude(calm_[largest]);
      calm_[largest] = 0;
    }
    return true;
  }

  // In two parts where it is no int8: at most 255 = 127 + 128.
  bool add(int64_t k) {
    const int32_t code = centred_.exactly(codes_[k]);
    const int32_t part = code > 127 ? 127 : code < -128 ? -128 : code;
    return add(k, part) && (part == code || add(k, code - part));
  }

  bool add(int64_t k, int32_t code) {
    if (count_ == layout_.most_outliers) return false;
    Outlier& outlier = outliers_[count_++];
    outlier = {static_cast<int32_t>(k / 4), {}};
    outlier.codes[k % 4] = static_cast<int8_t>(code);
    return true;
  }

  const ByteRow& layout_;
  const Centred& centred_;
  const int8_t* codes_;
  int8_t* calm_;
  int32_t* starts_;
  Outlier* outliers_;
  int64_t count_ = 0;
};

}  // namespace

uint32_t absmax_bits(const float* x, int64_t count) {
  // Floats without their sign are ordered as their bits are; NaN and infinity are above all others.
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256(), other = largest;
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i* p = reinterpret_cast<const __m256i*>(x + i);
    largest = _mm256_max_epi32(largest, _mm256_and_si256(magnitude, _mm256_loadu_si256(p)));
    other = _mm256_max_epi32(other, _mm256_and_si256(magnitude, _mm256_loadu_si256(p + 1)));
  }
  largest = _mm256_max_epi32(largest, other);
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b01'00'11'10));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b10'11'00'01));
  uint32_t result = static_cast<uint32_t>(_mm_cvtsi128_si32(four));
  for (; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_castps_si128(_mm_load_ss(x + i)))) & 0x7fffffffu;
    result = bits > result ? bits : result;
  }
  return result;
}

namespace {

// Codes of a row are summed by 32: -Σ of the first and second of each four in the low half, of the others in the high
// one.
template <class Value, class Making>
void row_for_nibbles(const Value* x, int64_t depth, const Making& by, void* out, int32_t* sums) {
  int8_t* codes = static_cast<int8_t*>(out);
  for (int64_t k = 0; k < depth; k += kNibbleSums) {
    const int64_t count = k + kNibbleSums < depth ? kNibbleSums : depth - k;
    const PairSums pairs = make_codes(x + k, count, by, codes + k);
    *sums++ = static_cast<int32_t>(static_cast<uint32_t>(-pairs.second) << 16 |
                                   (static_cast<uint32_t>(-pairs.first) & 0xffff));
  }
  for (int64_t k = depth; k < plain_row_bytes(depth); ++k) codes[k] = 0;
}

// Makes the calm codes of a row; those beyond its depth must be 0's.
Calm calmed(const ByteRow& layout, const Centred& centred, char* row) {
  Calming calming(layout, centred, row);
  const Calm calm = best_calm(reinterpret_cast<const int8_t*>(row), layout.padded, centred);
  if (calm == Calm::kFours && calming.run<Calm::kFours>()) return calm;
  if (calm == Calm::kPairs && calming.run<Calm::kPairs>()) return calm;
  calming.clear();
  return Calm::kNot;
}

template <class Value, class Making>
void row_for_bytes(const Value* x, int64_t depth, int64_t step, int32_t zero, const Making& by, void* out,
                   int32_t* sums) {
  const ByteRow layout(depth);
  char* const row = static_cast<char*>(out);
  int8_t* const codes = reinterpret_cast<int8_t*>(row);
  for (int64_t k = 0; k < depth; k += step) {
    const int64_t count = k + step < depth ? step : depth - k;
    const PairSums pairs = make_codes(x + k, count, by, codes + k);
    *sums++ = pairs.first + pairs.second;
  }
  for (int64_t k = depth; k < layout.padded; ++k) codes[k] = static_cast<int8_t>(zero);
  *reinterpret_cast<Calm*>(row + layout.calm) = calmed(layout, Centred(zero), row);
  for (int64_t k = depth; k < layout.padded; ++k) codes[k] = 0;
}

}  // namespace

void quantize_for_nibbles(const QuantizeRow& q) { row_for_nibbles(q.x, q.depth, Codes(q), q.codes, q.sums); }
void quantize_for_bytes(const QuantizeRow& q) {
  row_for_bytes(q.x, q.depth, q.step, q.offset, Codes(q), q.codes, q.sums);
}
void arrange_for_nibbles(const ArrangeRow& a) { row_for_nibbles(a.given, a.depth, SameCodes(), a.codes, a.sums); }
void arrange_for_bytes(const ArrangeRow& a) {
  row_for_bytes(a.given, a.depth, a.step, a.zero, SameCodes(), a.codes, a.sums);
}

void absmax_rows(const AbsmaxRows& a) {
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.stride;
    // A head's rows lie too far apart for the processor to foresee the next.
    if (r + kRowsAhead < a.rows) {
      for (int64_t i = 0; i < a.cols; i += 16) __builtin_prefetch(x + kRowsAhead * a.stride + i);
    }
    a.bits[r] = absmax_bits(x, a.cols);
  }
}

// The products of attention need no sums.
void quantize_rows(const QuantizeRows& q) {
  const int64_t padded = plain_row_bytes(q.cols);
  for (int64_t r = 0; r < q.rows; ++r) {
    int8_t* codes = q.codes + r * q.codes_stride;
    const float inverse = q.inverses[r];
    int64_t k = 0;
    if (inverse == inverse) {
      make_codes(q.x + r * q.x_stride, q.cols, Codes({.inverse = inverse, .low = q.low, .high = q.high}), codes);
      k = q.cols;
    }
    for (; k < padded; ++k) codes[k] = 0;
  }
}

int64_t byte_row_bytes(int64_t depth) { return ByteRow(depth).bytes; }

}  // namespace octet::cpu::avx2

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octet/tensor/qtensor.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// The scalar definition of every quantizer. Kernels are tested against these functions, bit for bit.
///
///   INT8                s = max(absmax / 127, 2^-100)             code = rne(clamp(x · (1/s), -127, 127))
///   INT4                s = max(absmax / 7.5, 2^-100)             code = rne(clamp(x · (1/s), -8, 7))
///   INT4 + zero point   s = max((high - low) / 15, 2^-100)        code = clamp(rne(x · (1/s)) + z, 0, 15)
///                       z = clamp(rne(-low / s), 0, 15)           at INT8 255 for 15, z and code 128 less
///   INT4 + minimum      s = max((high - low) / 15, 2^-100)        code = rne(clamp((x - m) · (1/s), 0, 15))
///                       m = low
///
/// Of fewer bits b that are used: 2^(b-1) - 1 for 127, 2^(b-1) - 1/2 for 7.5, codes from -2^(b-1) to 2^(b-1) - 1 for -8
/// to 7, 2^b - 1 for 15 and 255, 2^(b-1) for 128.
///
/// s = 1 where absmax, or high - low, is 0, and high / 15 - low / 15 where high - low overflows. Only what is stored
/// decides the codes. (The floor keeps 1/s finite: 2^100 is far below the largest float.)
float int8_scale(float absmax, int bits = 8) noexcept;
float int4_scale(float absmax, int bits = 4) noexcept;
/// That of the two which codes of a symmetric scheme have.
float symmetric_scale(float absmax, const WeightScheme& scheme) noexcept;

/// The least scale that a quantizer makes.
inline constexpr float kSmallestScale = 0x1p-100f;

/// The code of x for inverse = 1/s; rounds half to even. x must not be NaN.
int8_t int8_code(float x, float inverse, int bits = 8) noexcept;
int8_t int4_code(float x, float inverse, int bits = 4) noexcept;

/// A scale and the code that stands for 0.
struct ScaleAndZeroPoint {
  float scale;
  int8_t zero_point;
};

/// For values in [low, high], low ≤ 0 ≤ high: 0 has a code of its own.
ScaleAndZeroPoint uint4_scale(float low, float high, int bits = 4) noexcept;
int8_t uint4_code(float x, float inverse, int8_t zero_point, int bits = 4) noexcept;

/// For values in [low, high], wherever 0 lies; low is the minimum.
float minimum_scale(float low, float high, int bits = 4) noexcept;
/// The difference x - minimum counts even where it overflows.
int8_t minimum_code(float x, float inverse, float minimum, int bits = 4) noexcept;

/// The same for activations in UINT8: s = max((high - low) / 255, 2^-100), code = clamp(rne(x · (1/s)) + z, 0, 255).
ActivationScale uint8_scale(float low, float high, int bits = 8) noexcept;
uint8_t uint8_code(float x, float inverse, int zero_point, int bits = 8) noexcept;

/// What the values of a group share: a scale, and a zero point or a minimum where the mapping has one.
struct GroupGrid {
  float scale = 1.0f;
  int8_t zero_point = 0;
  float minimum = 0.0f;

  friend bool operator==(const GroupGrid&, const GroupGrid&) = default;
};

/// Shares of a group's range, in hundredths, that searches try. Clipping an outlier of magnitude a to c costs (a - c)²,
/// and the step c / 7.5 costs n (c / 7.5)² / 12 over the n other values of the group: least at c / a = 1 / (1 + n /
/// 675), which is 0.95 for groups of 32, 0.73 for 256 and 0.54 for a row of 576. Longer rows could gain from less, but
/// there the error is a poor guide: a lone outlier often meets a large activation. Around its minimum the error is
/// flat; a hundredth is finer than it can tell. With the steps c / 1.5 of 2 bits and c / 3.5 of 3, the same is 0.46 and
/// 0.82 for groups of 32, 0.10 and 0.36 for 256: there even a normal distribution wants less than half of its range.
inline constexpr int kLargestShare = 100;
constexpr int smallest_share(const WeightScheme& scheme) noexcept { return scheme.used_bits() < 4 ? 20 : 50; }

/// The codes that quantizers choose from: those of the scheme, but in 8 symmetric bits as many below 0 as above.
CodeRange chosen_codes(const WeightScheme& scheme) noexcept;

/// The grid of a group of finite values as quantize_weight finds it.
GroupGrid find_group_grid(std::span<const float> values, const WeightScheme& scheme) noexcept;
/// The grid of the group's range shortened to so many hundredths.
GroupGrid shortened_group_grid(std::span<const float> values, const WeightScheme& scheme, int hundredths) noexcept;
/// Whether there are SAWB's coefficients for so many bits.
bool has_sawb(int used_bits) noexcept;
/// Fills `codes` (as many as values) with those of finite values on a grid, whichever way it was found.
void encode_group(std::span<const float> values, const GroupGrid& grid, const WeightScheme& scheme,
                  std::span<int8_t> codes) noexcept;
/// What the code stands for, without the rounding to fp32.
double decode(int8_t code, const GroupGrid& grid) noexcept;

/// A weight of zeros to be filled, and what a row's group shares there.
QTensor make_qtensor(const WeightScheme& scheme, int64_t rows, int64_t cols);
void set_group_grid(QTensor& tensor, int64_t row, int64_t group, const GroupGrid& grid);
GroupGrid group_grid(const QTensor& tensor, int64_t row, int64_t group);
/// The group of each column.
std::vector<int32_t> group_of_columns(const QTensor& tensor);

/// Makes columns of a quantized weight outliers (see QTensor): their values from the float weight [out, in], and the
/// codes that stand for nothing in their place. BF16 where the weight is BF16, or holds there what F16 has no place
/// for, else F16. Throws NumericError, naming `what`, for a value that neither has a place for.
void set_outliers(QTensor& tensor, std::span<const int32_t> columns, ConstTensorView weight, const std::string& what);
/// What they will be.
DType outlier_dtype(std::span<const int32_t> columns, ConstTensorView weight);
/// The values, the first of which lies in column `first`, that lie in none of the outlier columns.
std::vector<float> without_outliers(std::span<const float> values, int64_t first, std::span<const int32_t> columns);
/// For each of the columns its place among the outliers, or -1.
std::vector<int32_t> outlier_places(const QTensor& tensor);
/// The value of a row's outlier.
float outlier_value(const QTensor& tensor, int64_t row, int64_t place);

/// Dynamic INT8 of one row, as an activation: fills `codes` (as many as x) and returns the scale. Throws NumericError
/// for NaN or infinity.
float quantize_row(std::span<const float> x, std::span<int8_t> codes);

/// A float weight [out, in] of any width by `scheme`, each group for itself:
///
///   kAbsmax   absmax is the group's largest magnitude; low and high are its smallest and largest value, and 0 unless
///             the scheme has minima
///   kMse      that range shortened to the share 1.00, 0.99, … 0.50 (of 2 and 3 bits: 0.20) that gives the least
///             squared error of the dequantized values, summed in double; of equal errors the largest share. Its ends
///             are multiplied by the share; with minima, both move towards the middle.
///   kSawb     c₁ · √(mean of w²) - c₂ · mean of |w|, summed in double in ascending order, is the largest magnitude; c₁
///             and c₂ are 31.76 and 35.04 for 8 bits, 28.24 and 30.81 for 7, 17.74 and 18.64 for 5, 12.68 and 12.80
///             for 4, 7.509 and 6.892 for 3, 3.12 and 2.064 for 2, fitted by the authors of SAWB (Choi et al.,
///             "Accurate and Efficient 2-bit Quantized Neural Networks", 2019; those that the paper does not have, in
///             IBM's FMS Model Optimizer) so that bell-shaped weights have the least squared error. Where that is not
///             above 0 or exceeds absmax, absmax. There are none for 6.
///
/// A group's values are those that lie in none of `outlier_columns` (ascending), which become what set_outliers makes
/// of them; there are some exactly if the scheme says so.
///
/// Throws NumericError, naming `what` and the first channel that holds NaN or infinity; ShapeError unless the weight
/// has two dimensions and the scheme fits them and the outliers, for a reordered scheme, whose order comes from data,
/// and for kSawb where has_sawb says no. The bits do not depend on `threads` (0: as many as there are).
QTensor quantize_weight(ConstTensorView weight, const WeightScheme& scheme, const std::string& what, int threads = 0,
                        std::span<const int32_t> outlier_columns = {});

/// The codes [out, in] of a float weight for scales, zero points and minima that quantize_weight, or a search of
/// another kind, has found; those in `grid`, whose own codes are not looked at, nor are its outliers. Throws as
/// quantize_weight does.
Tensor quantize_codes(ConstTensorView weight, const QTensor& grid, const std::string& what, int threads = 0);

/// (codes - zero points) · scales, or fma(codes, scales, minima), or an outlier; [out, in] F32.
Tensor dequantize(const QTensor& tensor);

/// ‖W - dequantize(Q)‖ / ‖W‖ in the Frobenius norm; 0 where W is 0. Shapes must agree.
double relative_error(ConstTensorView weight, const QTensor& quantized);

}  // namespace octet

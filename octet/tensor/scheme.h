// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace octet {

/// How a quantizer finds the range that a scale covers. It does not change what codes and scales mean.
enum class RangeEstimator : uint8_t {
  kAbsmax,  ///< the largest magnitude (if not symmetric: the smallest and the largest value)
  kMse,     ///< of some shares of that range, the one with the least squared error
  kSawb,    ///< what mean magnitude and mean square say (SAWB: Choi et al., 2019); symmetric only
};

/// How a code stands for a value.
enum class CodeMapping : uint8_t {
  kSymmetric,  ///< code · scale
  kZeroPoint,  ///< (code - zero point) · scale
  kMinimum,    ///< code · scale + minimum; 4 bits only
};

/// How a weight [out, in] is quantized. Every output channel has a scale, or one for each group of inputs.
struct WeightScheme {
  /// 8: codes in [-128, 127], Octet's in [-127, 127] if symmetric; 4: [-8, 7] if symmetric, else [0, 15]. With unused
  /// bits, see code_range.
  int bits = 8;
  /// Neighbouring inputs that share a scale, and a zero point or a minimum: 32, 64, 128 or 256, dividing `in`; 0: all
  /// of them.
  int64_t group_size = 0;
  CodeMapping mapping = CodeMapping::kSymmetric;
  RangeEstimator range = RangeEstimator::kAbsmax;
  /// Groups are of any columns, not of neighbours: QTensor::group_index says of which. (GPTQ's act_order puts columns
  /// of like importance together.) Needs a group_size.
  bool reordered = false;
  /// Some columns are no codes but 16-bit floats that meet float activations, as their inputs are too large for the
  /// others' scale (Dettmers et al., 2022): QTensor::outlier_columns says which.
  bool outliers = false;
  /// Of `bits`, the width of a code as it is stored and multiplied, those that no code has a use for: of 4 up to 2, of
  /// 8 up to 3.
  int unused_bits = 0;

  constexpr int used_bits() const noexcept { return bits - unused_bits; }
  int64_t groups(int64_t inputs) const noexcept { return group_size == 0 ? 1 : inputs / group_size; }

  friend bool operator==(const WeightScheme&, const WeightScheme&) = default;
};

/// From the lowest code to the highest.
struct CodeRange {
  int lowest, highest;

  int steps() const noexcept { return highest - lowest; }
};

/// The codes that a weight of this scheme may hold. (Octet's own symmetric ones of 5 bits and more leave out the
/// lowest.)
constexpr CodeRange code_range(const WeightScheme& scheme) noexcept {
  const int half = 1 << (scheme.used_bits() - 1);
  const bool with_sign = scheme.bits == 8 || scheme.mapping == CodeMapping::kSymmetric;
  return with_sign ? CodeRange{-half, half - 1} : CodeRange{0, 2 * half - 1};
}

/// What a product with a quantized weight reads on its other side.
enum class ActivationMode : uint8_t {
  kFloat,                     ///< activations stay fp32; each code is widened ("A16" in recipe names)
  kDynamicPerToken,           ///< INT8 with one scale a row (token), found in the row when it is met
  kStaticPerTensor,           ///< INT8 with one scale for all, fixed beforehand
  kStaticPerTensorZeroPoint,  ///< UINT8 with one scale and zero point for all, fixed beforehand; 8-bit weights only
};

constexpr bool is_static(ActivationMode mode) noexcept {
  return mode == ActivationMode::kStaticPerTensor || mode == ActivationMode::kStaticPerTensorZeroPoint;
}

/// What a static mode fixes: value = (code - zero_point) · scale. Products read INT8 or UINT8 codes whatever the bits;
/// of fewer than 8 they only meet those in ±(2^(bits - 1) - 1), or from 0 to 2^bits - 1.
struct ActivationScale {
  float scale = 1;
  int zero_point = 0;  ///< a code of uint8 ones; 0 of int8 codes
  int bits = 8;        ///< 2 to 8

  friend bool operator==(const ActivationScale&, const ActivationScale&) = default;
};

/// The last code of symmetric ones with a sign, of this many bits: 127 of 8.
constexpr int last_code(int bits) noexcept { return (1 << (bits - 1)) - 1; }

/// What static codes of activations less their zero point may be: [-127, 127] of INT8, [-z, 255 - z] of UINT8.
constexpr CodeRange code_range(ActivationMode mode, const ActivationScale& scale) noexcept {
  if (mode != ActivationMode::kStaticPerTensorZeroPoint) return {-last_code(scale.bits), last_code(scale.bits)};
  return {-scale.zero_point, (1 << scale.bits) - 1 - scale.zero_point};
}

/// The bits of codes of queries and keys, and of values: 2 to 8, 8 in any mode but a static one.
struct AttentionBits {
  int qk = 8, v = 8;

  friend bool operator==(const AttentionBits&, const AttentionBits&) = default;
};

/// What kStaticPerTensor fixes of the products of attention: the scales of queries, keys and values.
struct AttentionScales {
  float q = 1, k = 1, v = 1;
  AttentionBits bits = {};

  friend bool operator==(const AttentionScales&, const AttentionScales&) = default;
};

/// What a recipe does to a layer, and what a checkpoint records of it.
struct Scheme {
  WeightScheme weight;
  ActivationMode activations = ActivationMode::kFloat;
  int activation_bits = 8;  ///< of static ones 2 to 8, see ActivationScale

  friend bool operator==(const Scheme&, const Scheme&) = default;
};

/// "int8 activations per token, dynamic", …
std::string to_string(ActivationMode mode);
/// "int8 weights per channel, float activations", "int4 weights in groups of 32 with zero points, …", "int2 weights (as
/// int4 codes) per channel, int4 activations (as int8 codes) per tensor, static"
std::string to_string(const Scheme& scheme);

}  // namespace octet

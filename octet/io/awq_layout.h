// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "octet/io/packed_layer.h"

namespace octet {

/// The layouts of AutoAWQ ("quant_method": "awq"; AutoAWQ 0.2.9, also written by GPTQModel) for a weight [out, in] of
/// layer X, of 4-bit codes with zero points, eight to a word:
///
///   "gemm"   X.qweight  I32  [in, out / 8]       eight outputs 0, 2, 4, 6, 1, 3, 5, 7 of an input, from the lowest
///   bits
///            X.qzeros   I32  [groups, out / 8]   likewise
///            X.scales   F16  [groups, out]
///   "gemv"   X.qweight  I32  [out, in / 8]       eight neighbouring inputs of an output, in their order
///            X.qzeros   I32  [out, w]            eight neighbouring groups; w is ⌈groups / 8⌉, at groups of 64 and 32
///            X.scales   F16  [out, 8 w]          rounded up to a multiple of 2 and 4; what is left over means nothing
///
///   value[o, i] = (code - zero point) · scale
///
/// A layer is float where it has no such tensors, whatever "modules_to_not_convert" says.
class AwqLayout : public PackedLayout {
 public:
  /// `tensors` are the names of all in the checkpoint. Throws FormatError, naming file and key, for what Octet does not
  /// have: other widths, groups and versions, codes without zero points, and activation functions with scales of their
  /// own (AutoAWQ's ScaledActivation, of GPT-J, GPT-NeoX and others).
  static AwqLayout parse(const Config& quantization_config, std::span<const std::string> tensors);

  std::optional<WeightScheme> scheme_of(const Checkpoint& checkpoint, const std::string& layer) const override;
  QTensor codes(const Checkpoint& checkpoint, const std::string& layer) const override;

 private:
  enum class Version : uint8_t { kGemm, kGemv };

  WeightScheme scheme_;
  Version version_ = Version::kGemm;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "octet/io/name_pattern.h"
#include "octet/io/packed_layer.h"

namespace octet {

/// The layout of AutoGPTQ and GPTQModel ("quant_method": "gptq"; AutoGPTQ 0.7, GPTQModel 7.7) for a weight [out, in] of
/// layer X, n = 32 / bits codes to a word, the first in the lowest bits:
///
///   X.qweight  I32  [in / n, out]        codes from 0 on, n neighbouring inputs of an output to a word
///   X.qzeros   I32  [groups, ⌈out / n⌉]  zero points, n neighbouring outputs to a word; see below
///   X.scales   F16  [groups, out]        also F32 and BF16
///   X.g_idx    I32  [in]                 the group of each input; where it is missing, i / group_size
///
///   value[o, i] = (code - zero point) · scale
///
/// In the format "gptq" words of zero points hold 1 less a zero point (0x11111111 or 0x01010101 taken off the whole
/// word, so that a zero point of 0 borrows from its neighbour); "gptq_v2" holds them as they are. "sym" says that all
/// are 8, or 128 of 8-bit codes.
///
/// A layer is float where it has no such tensors: what a config says of exclusions ("lm_head", "-:" in "dynamic",
/// "modules_in_block_to_quantize") shows in the file. Keys that say how codes were found are passed over.
class GptqLayout : public PackedLayout {
 public:
  /// Throws FormatError, naming file and key, for what Octet does not have: other widths and groups, zero points at 8
  /// bits, other formats and words, rotations and adapters.
  static GptqLayout parse(const Config& quantization_config);

  std::optional<WeightScheme> scheme_of(const Checkpoint& checkpoint, const std::string& layer) const override;
  QTensor codes(const Checkpoint& checkpoint, const std::string& layer) const override;

 private:
  /// What "dynamic" says of the layers that a pattern matches.
  struct Override {
    std::string text;
    NamePattern pattern;
    WeightScheme scheme;
  };

  WeightScheme stored_scheme(const Checkpoint& checkpoint, const std::string& layer) const;

  std::string source_;
  WeightScheme common_;
  std::vector<Override> overrides_;
  bool zero_points_are_one_less_ = true;
};

}  // namespace octet

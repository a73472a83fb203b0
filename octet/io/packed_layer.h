// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "octet/io/config.h"
#include "octet/tensor/qtensor.h"

namespace octet {

class Checkpoint;

/// How another quantizer's checkpoints store the weights of linear layers as codes.
class PackedLayout {
 public:
  virtual ~PackedLayout() = default;

  /// None where the layer has no codes, and so is float.
  virtual std::optional<WeightScheme> scheme_of(const Checkpoint& checkpoint, const std::string& layer) const = 0;
  /// The codes of a layer that has some. Throws FormatError where a tensor is missing, has another dtype or shape, or
  /// holds what a weight of the scheme cannot.
  virtual QTensor codes(const Checkpoint& checkpoint, const std::string& layer) const = 0;
};

/// The tensors that GPTQ and AWQ layouts have in common, of layer X [out, in], fetched and checked one by one:
///
///   X.qweight  I32  codes, n = 32 / bits to a word
///   X.qzeros   I32  zero points, packed likewise
///   X.scales   F16  also F32 and BF16
class PackedLayer {
 public:
  /// Keeps references.
  PackedLayer(const Checkpoint& checkpoint, const std::string& layer) : checkpoint_(checkpoint), layer_(layer) {}

  /// Whether the checkpoint holds the layer as codes: X.qweight or what belongs to it, and no float X.weight.
  bool exists() const;
  bool contains(const char* part) const;
  /// A tensor I32 of two dimensions; of this shape.
  Tensor words(const char* part) const;
  Tensor words(const char* part, const Shape& shape) const;
  /// X.scales, which must have this shape, widened exactly.
  Tensor scales(const Shape& shape) const;
  /// X.g_idx, the group of each input, I32 of one dimension.
  Tensor group_index() const;
  /// `weight`, if it is one that can be.
  QTensor checked(QTensor weight) const;
  /// Throws FormatError unless the group size divides `inputs`.
  void expect_whole_groups(const WeightScheme& scheme, int64_t inputs) const;

  std::string where(const char* part = "") const;

 private:
  void expect_shape(const Tensor& tensor, const char* part, const Shape& shape) const;

  const Checkpoint& checkpoint_;
  const std::string& layer_;
};

/// A weight's scheme as such configs write it, `group_size` -1 being a whole row. Throws FormatError, naming the file,
/// for one that Octet does not have.
WeightScheme packed_scheme(const Config& config, int64_t bits, int64_t group_size, bool symmetric);

/// A text, in lower case, that different writers store under different `keys`; the first of those `offered` where all
/// are missing. Throws FormatError, naming file and key, for one that is not offered, and for keys that differ.
std::string packed_text(const Config& config, std::initializer_list<std::string_view> keys,
                        std::initializer_list<std::string_view> offered);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "octet/io/checkpoint.h"
#include "octet/nn/layers.h"
#include "octet/nn/linear.h"
#include "octet/quant/recipe.h"

namespace octet {

/// Where a model takes its weights from: a checkpoint's tensors under Hugging Face's names, checked for shape, each
/// with the scheme that the checkpoint records or the recipe asks for.
class WeightSource {
 public:
  /// What a linear layer is in its model: recipes speak of block layers, heads stay float.
  enum class Role : uint8_t { kBlock, kHead };

  /// Throws UsageError for a recipe on a checkpoint that is quantized already.
  WeightSource(const Checkpoint& checkpoint, const Recipe* recipe);

  const Config& config() const { return checkpoint_.config(); }
  bool contains(const std::string& name) const { return checkpoint_.contains(name); }
  /// A float tensor. Throws FormatError if it is missing or not float, ShapeError if its shape is another.
  Tensor tensor(const std::string& name) const;
  Tensor tensor(const std::string& name, const Shape& shape) const;
  /// LAYER.weight [outputs, inputs] as stored, and LAYER.bias [outputs] where there is one.
  Linear::Part linear(const std::string& layer, int64_t outputs, int64_t inputs, Role role = Role::kBlock) const;
  /// LAYER.weight and LAYER.bias [width], or gamma and beta, as old checkpoints call them.
  LayerNorm layer_norm(const std::string& layer, int64_t width, float eps) const;

 private:
  const Checkpoint& checkpoint_;
  const Recipe* recipe_;
};

}  // namespace octet

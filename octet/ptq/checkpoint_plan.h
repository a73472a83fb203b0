// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "octet/io/checkpoint.h"
#include "octet/io/safetensors.h"
#include "octet/models/model.h"
#include "octet/ptq/quantized_pieces.h"
#include "octet/quant/recipe.h"

namespace octet {

/// What the checkpoint of a quantized model will hold; nothing of it is made yet.
struct CheckpointPlan {
  /// A tensor or more that are made together.
  struct Unit {
    std::vector<TensorSource> tensors;
    const Linear::Part* layer = nullptr;  ///< none: a tensor that is no quantized weight

    int64_t bytes() const;
  };

  std::vector<Unit> units;
  std::map<std::string, Scheme> schemes, embeddings;  ///< of layers in blocks; over the vocabulary
  std::vector<std::string> float_layers;
};

/// Makes the quantized weight of one layer at a time, as the tensors that it consists of are written one after another.
class LayerWeights {
 public:
  /// `pieces` has those that were quantized with data; all others are quantized by the recipe when their turn comes,
  /// and `made` is told of them.
  LayerWeights(const Recipe& recipe, const QuantizedPieces& pieces, int threads,
               std::function<void(const std::string& layer, const WeightReport& report)> made)
      : recipe_(recipe), pieces_(pieces), threads_(threads), made_(std::move(made)) {}

  const QTensor& of(const Parameter& weight);

 private:
  QTensor make(const Parameter& weight) const;

  const Recipe& recipe_;
  const QuantizedPieces& pieces_;
  int threads_;
  std::function<void(const std::string&, const WeightReport&)> made_;
  std::string layer_;
  std::optional<QTensor> value_;
};

/// The plan for `model`, which a recipe gave schemes to. Throws UsageError where its weights are codes already, and
/// FormatError for a scheme that no file can hold. All must live until the plan is carried out.
CheckpointPlan plan_checkpoint(const Checkpoint& checkpoint, const Model& model, const QuantizedPieces& pieces,
                               const std::shared_ptr<LayerWeights>& weights);

/// What the file has of a float weight; of a head that is tied and has no tensor of its own, what it would be.
StoredTensor describe_values(const Checkpoint& checkpoint, const Parameter& weight);

/// The units in files of at most `largest` bytes, but one unit at least.
std::vector<std::vector<CheckpointPlan::Unit>> into_shards(std::vector<CheckpointPlan::Unit> units, int64_t largest);

}  // namespace octet

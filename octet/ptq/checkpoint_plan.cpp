// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/checkpoint_plan.h"

#include <set>
#include <utility>

#include "octet/base/checked.h"
#include "octet/base/error.h"
#include "octet/base/memory.h"
#include "octet/io/compressed_tensors.h"
#include "octet/ptq/weight_quantizer.h"
#include "octet/quant/quantize.h"
#include "octet/tensor/transpose.h"

namespace octet {

int64_t CheckpointPlan::Unit::bytes() const {
  int64_t sum = 0;
  for (const TensorSource& tensor : tensors)
    sum = checked_add(sum, checked_mul(tensor.shape.elements(), byte_size(tensor.dtype)));
  return sum;
}

const QTensor& LayerWeights::of(const Parameter& weight) {
  if (weight.layer == layer_) return *value_;
  value_.reset();
  layer_.clear();
  release_free_memory();  // else what is freed in pieces adds up to more than a layer
  value_ = pieces_.has_weight(weight.layer) ? pieces_.weight(weight.layer, weight.scheme->weight) : make(weight);
  layer_ = weight.layer;
  return *value_;
}

QTensor LayerWeights::make(const Parameter& weight) const {
  const FloatWeight floats(weight);
  // The search that a recipe asks for is one of blocks' layers.
  const WeightAlgorithmOptions options =
      weight.over_vocabulary ? WeightAlgorithmOptions() : recipe_.weight_algorithm(weight.layer);
  QuantizedWeight made = quantize_weight(floats.view(), weight.scheme->weight, options, nullptr, weight.layer, threads_,
                                         weight.outlier_columns);
  made_(weight.layer, {.relative_error = relative_error(floats.view(), made.tensor),
                       .output_error = made.output_error,
                       .notes = std::move(made.notes)});
  floats.release_pages();
  return std::move(made.tensor);
}

StoredTensor describe_values(const Checkpoint& checkpoint, const Parameter& weight) {
  const std::string name = weight.layer + ".weight";
  if (checkpoint.contains(name)) return checkpoint.describe(name);
  const FloatWeight values(weight);
  return {.type = "", .dtype = values.view().dtype, .shape = weight.shape, .bytes = values.view().bytes()};
}

namespace {

using Unit = CheckpointPlan::Unit;

void refuse_codes(const Checkpoint& checkpoint, const Parameter& weight) {
  if (!weight.stored_codes) return;
  fail<UsageError>(
      "{}: is quantized already: layer '{}' is stored as codes ({}). Quantize the float model it was made from; to "
      "run it with quantized activations, give the recipe to the command that runs it.",
      checkpoint.folder().string(), weight.layer, to_string(*weight.scheme));
}

OutlierShape outlier_shape(const Parameter& weight, const QuantizedPieces& pieces) {
  const std::vector<int32_t>& columns = weight.outlier_columns;
  if (columns.empty()) return {};
  return {.columns = std::ssize(columns),
          .dtype = pieces.has_weight(weight.layer) ? pieces.outlier_dtype(weight.layer)
                                                   : outlier_dtype(columns, FloatWeight(weight).view())};
}

// A float weight that is not in the file as it is to be: its values, [out, in], as Hugging Face's files hold them.
std::optional<TensorSource> float_source(const Checkpoint& checkpoint, const Parameter& weight,
                                         const QuantizedPieces& pieces) {
  const std::string name = weight.layer + ".weight";
  if (pieces.changes(name)) {
    const auto [out, in] = std::pair(weight.shape[0], weight.shape[1]);
    return TensorSource{name, DType::kF32, weight.in_out ? Shape{in, out} : weight.shape,
                        [&pieces, name, turn = weight.in_out] {
                          return turn ? transposed(pieces.tensor(name).view()) : pieces.tensor(name);
                        }};
  }
  // A GGUF file has it the other way.
  if (!weight.in_out || weight.transposed) return std::nullopt;
  return TensorSource{name, describe_values(checkpoint, weight).dtype, {weight.shape[1], weight.shape[0]}, [&weight] {
                        return transposed(FloatWeight(weight).view());
                      }};
}

}  // namespace

CheckpointPlan plan_checkpoint(const Checkpoint& checkpoint, const Model& model, const QuantizedPieces& pieces,
                               const std::shared_ptr<LayerWeights>& weights) {
  CheckpointPlan plan;
  std::set<std::string> replaced;
  for (const Linear::Part* part : model.linear_parts()) {
    const Parameter& weight = part->weight;
    refuse_codes(checkpoint, weight);
    if (!weight.scheme) {
      plan.float_layers.push_back(weight.layer);
      if (std::optional<TensorSource> source = float_source(checkpoint, weight, pieces)) {
        replaced.insert(source->name);
        plan.units.push_back({.tensors = {std::move(*source)}});
      }
      continue;
    }
    check_storable(weight.scheme->weight, weight.layer);
    Unit unit{.tensors = {}, .layer = part};
    const auto value = [weights, &weight]() -> const QTensor& { return weights->of(weight); };
    if (weight.tied_head.empty()) {
      (weight.over_vocabulary ? plan.embeddings : plan.schemes).emplace(weight.layer, *weight.scheme);
    } else {
      // To others the head is a layer of its own, which shares the codes and lacks only what lies beside them.
      plan.embeddings.emplace(weight.layer, Scheme{weight.scheme->weight, ActivationMode::kFloat});
      plan.embeddings.emplace(weight.tied_head, *weight.scheme);
      const Shape scales{weight.shape[0], weight.scheme->weight.groups(weight.shape[1])};
      if (repeats_scales(weight)) {
        unit.tensors.push_back({weight.tied_head + ".weight_scale", DType::kF32, scales,
                                [value] { return Tensor::copy_of(value().scales.view()); }});
        if (weight.scheme->weight.mapping == CodeMapping::kZeroPoint) {
          unit.tensors.push_back({weight.tied_head + ".weight_zero_point", DType::kI8, scales,
                                  [value] { return Tensor::copy_of(value().zero_points.view()); }});
        }
      }
      // Some checkpoints store the table twice.
      replaced.insert(weight.tied_head + ".weight");
    }
    replaced.insert(weight.layer + ".weight");
    for (TensorSource& source : encode_weight(weight.layer, weight.shape, weight.scheme->weight, value,
                                              stored_format(weight), outlier_shape(weight, pieces)))
      unit.tensors.push_back(std::move(source));
    const std::string& reader = weight.tied_head.empty() ? weight.layer : weight.tied_head;
    for (TensorSource& source :
         encode_activation_scale(reader, pieces.scale(reader).value_or(weight.input), weight.scheme->activations))
      unit.tensors.push_back(std::move(source));
    plan.units.push_back(std::move(unit));
  }
  if (is_static(model.info().attention)) {
    for (const auto& [site, scales] : model.attention_sites()) {
      Unit unit;
      for (const auto& [operand, scale] :
           {std::pair{"q", scales.q}, std::pair{"k", scales.k}, std::pair{"v", scales.v}}) {
        const std::string name = attention_operand(site, operand);
        unit.tensors.push_back(
            encode_attention_scale(name, pieces.scale(name).value_or(ActivationScale{.scale = scale}).scale));
        replaced.insert(unit.tensors.back().name);
      }
      plan.units.push_back(std::move(unit));
    }
  }
  for (const std::string& name : checkpoint.names()) {
    if (replaced.contains(name)) continue;
    const StoredTensor stored = checkpoint.describe(name);
    if (pieces.changes(name)) {
      plan.units.push_back(
          {.tensors = {{name, DType::kF32, stored.shape, [&pieces, name] { return pieces.tensor(name); }}}});
    } else {
      plan.units.push_back(
          {.tensors = {{name, stored.dtype, stored.shape, [&checkpoint, name] { return checkpoint.tensor(name); }}}});
    }
  }
  return plan;
}

std::vector<std::vector<Unit>> into_shards(std::vector<Unit> units, int64_t largest) {
  std::vector<std::vector<Unit>> shards(1);
  int64_t bytes = 0;
  for (Unit& unit : units) {
    const int64_t more = unit.bytes();
    if (!shards.back().empty() && more > largest - bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    shards.back().push_back(std::move(unit));
  }
  return shards;
}

}  // namespace octet

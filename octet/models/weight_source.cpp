// SPDX-License-Identifier: Apache-2.0
#include "octet/models/weight_source.h"

#include "octet/base/error.h"
#include "octet/io/compressed_tensors.h"

namespace octet {

WeightSource::WeightSource(const Checkpoint& checkpoint, const Recipe* recipe)
    : checkpoint_(checkpoint), recipe_(recipe) {
  if (recipe != nullptr && checkpoint.quantization()) {
    fail<UsageError>("{}: is quantized already; the recipe '{}' needs the float model it was made from",
                     checkpoint.folder().string(), recipe->name());
  }
}

Tensor WeightSource::tensor(const std::string& name) const {
  Tensor tensor = checkpoint_.tensor(name);
  if (!is_float(tensor.dtype())) {
    fail<FormatError>("{}: tensor '{}' is {}; floating point is needed", checkpoint_.folder().string(), name,
                      octet::name(tensor.dtype()));
  }
  return tensor;
}

Tensor WeightSource::tensor(const std::string& name, const Shape& shape) const {
  Tensor tensor = this->tensor(name);
  if (tensor.shape() != shape) {
    fail<ShapeError>("{}: tensor '{}' has the shape {}; config.json asks for {}", checkpoint_.folder().string(), name,
                     to_string(tensor.shape()), to_string(shape));
  }
  return tensor;
}

Linear::Part WeightSource::linear(const std::string& layer, int64_t outputs, int64_t inputs, Role role) const {
  const Shape shape{outputs, inputs};
  Linear::Part part{.weight = {.layer = layer, .shape = shape, .value = {}, .scheme = {}}, .bias = {}};
  const std::optional<StoredQuantization>& quantization = checkpoint_.quantization();
  const std::optional<StoredScheme> stored = quantization ? quantization->scheme_for(layer) : std::nullopt;
  if (stored) {
    part.weight.scheme = stored->scheme;
    QTensor codes = decode_weight(checkpoint_, layer, *stored);
    if (codes.codes.shape() != shape) {
      fail<ShapeError>("{}: the quantized weight of '{}' has the shape {}; config.json asks for {}",
                       checkpoint_.folder().string(), layer, to_string(codes.codes.shape()), to_string(shape));
    }
    part.weight.value = std::move(codes);
  } else {
    part.weight.value = tensor(layer + ".weight", shape);
    if (recipe_ != nullptr && role == Role::kBlock) part.weight.scheme = recipe_->scheme_for(layer, inputs);
  }
  if (contains(layer + ".bias")) part.bias = tensor(layer + ".bias", {outputs});
  return part;
}

LayerNorm WeightSource::layer_norm(const std::string& layer, int64_t width, float eps) const {
  const bool old_names = !contains(layer + ".weight") && contains(layer + ".gamma");
  return {tensor(layer + (old_names ? ".gamma" : ".weight"), {width}),
          tensor(layer + (old_names ? ".beta" : ".bias"), {width}), eps};
}

}  // namespace octet

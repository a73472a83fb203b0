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

Parameter WeightSource::parameter(const std::string& layer, const std::string& reader, const Shape& shape,
                                  const std::optional<StoredScheme>& stored, const std::optional<Scheme>& asked,
                                  Storage storage) const {
  Parameter out{.layer = layer, .shape = shape, .value = {}, .scheme = asked};
  if (stored) out.scheme = stored->scheme;
  if (out.scheme && is_static(out.scheme->activations)) {
    const ActivationMode mode = out.scheme->activations;
    out.input = stored ? decode_activation_scale(checkpoint_, reader, mode) : recipe_->activation_scale(reader, mode);
  }
  if (!stored) {
    out.transposed = storage == Storage::kInOut;
    out.value = tensor(layer + ".weight", out.transposed ? Shape{shape[1], shape[0]} : shape);
    return out;
  }
  QTensor codes = decode_weight(checkpoint_, layer, *stored);
  if (codes.codes.shape() != shape) {
    fail<ShapeError>("{}: the quantized weight of '{}' has the shape {}; config.json asks for {}",
                     checkpoint_.folder().string(), layer, to_string(codes.codes.shape()), to_string(shape));
  }
  out.value = std::move(codes);
  return out;
}

Linear::Part WeightSource::linear(const std::string& layer, int64_t outputs, int64_t inputs, Role role,
                                  Storage storage) const {
  const std::optional<StoredQuantization>& quantization = checkpoint_.quantization();
  std::optional<Scheme> asked;
  if (recipe_ != nullptr && role == Role::kBlock) asked = recipe_->scheme_for(layer, inputs);
  if (recipe_ != nullptr && role == Role::kVocabularyHead) asked = recipe_->embedding_scheme();
  Linear::Part part{.weight = parameter(layer, layer, {outputs, inputs},
                                        quantization ? quantization->scheme_for(layer) : std::nullopt, asked, storage),
                    .bias = {}};
  part.weight.over_vocabulary = role == Role::kVocabularyHead;
  if (contains(layer + ".bias")) part.bias = tensor(layer + ".bias", {outputs});
  return part;
}

std::vector<Linear::Part> WeightSource::lone_linear(const std::string& layer, int64_t outputs, int64_t inputs,
                                                    Role role, Storage storage) const {
  std::vector<Linear::Part> parts;
  parts.push_back(linear(layer, outputs, inputs, role, storage));
  return parts;
}

std::vector<Linear::Part> WeightSource::group(const std::string& path, std::initializer_list<const char*> layers,
                                              int64_t outputs, int64_t inputs) const {
  std::vector<Linear::Part> parts;
  for (const char* layer : layers) parts.push_back(linear(path + layer, outputs, inputs));
  return parts;
}

std::vector<Linear::Part> WeightSource::query_key_value(const std::string& path,
                                                        const std::array<const char*, 3>& layers, int64_t query_outputs,
                                                        int64_t key_outputs, int64_t inputs) const {
  std::vector<Linear::Part> parts;
  for (const char* layer : layers)
    parts.push_back(linear(path + layer, parts.empty() ? query_outputs : key_outputs, inputs));
  return parts;
}

void WeightSource::require_biases(const std::string& path, std::initializer_list<const char*> layers) const {
  for (const char* layer : layers) tensor(path + layer + ".bias");
}

Linear::Part WeightSource::embedding(const std::string& table, int64_t entries, int64_t width,
                                     const std::optional<VocabularyHead>& head) const {
  const bool tied = head && head->tied;
  const std::optional<StoredQuantization>& quantization = checkpoint_.quantization();
  std::optional<Scheme> asked;
  if (recipe_ != nullptr) asked = recipe_->embedding_scheme();
  // A table that nothing multiplies by meets no activations.
  if (asked && !tied) asked->activations = ActivationMode::kFloat;
  std::optional<StoredScheme> stored;
  if (quantization) stored = quantization->scheme_for(table, LayerKind::kEmbedding);
  // What the head reads is said of the head.
  if (stored && tied) {
    if (const std::optional<StoredScheme> of_head = quantization->scheme_for(head->layer))
      stored->scheme.activations = of_head->scheme.activations;
  }
  const std::string& reader = tied ? head->layer : table;
  Linear::Part part{.weight = parameter(table, reader, {entries, width}, stored, asked, Storage::kOutIn), .bias = {}};
  part.weight.over_vocabulary = true;
  if (tied) {
    part.weight.tied_head = head->layer;
    if (part.weight.scheme) add_bias(*head, entries, part);
  }
  return part;
}

std::vector<Linear::Part> WeightSource::vocabulary_head(const VocabularyHead& head, const std::string& table,
                                                        int64_t entries, int64_t width) const {
  const Shape shape{entries, width};
  std::vector<Linear::Part> parts;
  if (head.tied) {
    Tensor words = tensor(table + ".weight", shape);
    parts.push_back(
        {.weight = {.layer = head.layer, .shape = shape, .value = std::move(words), .scheme = {}}, .bias = {}});
  } else {
    parts.push_back(linear(head.layer, entries, width, Role::kVocabularyHead));
  }
  add_bias(head, entries, parts.front());
  return parts;
}

void WeightSource::add_bias(const VocabularyHead& head, int64_t entries, Linear::Part& part) const {
  if (!head.bias.empty() && !part.bias) part.bias = tensor(head.bias, {entries});
}

ActivationMode WeightSource::attention() const {
  if (recipe_ != nullptr) return recipe_->attention();
  return checkpoint_.quantization() ? checkpoint_.quantization()->attention() : ActivationMode::kFloat;
}

Normalization WeightSource::layer_norm(const std::string& layer, int64_t width, float eps) const {
  const bool old_names = !contains(layer + ".weight") && contains(layer + ".gamma");
  return {layer, tensor(layer + (old_names ? ".gamma" : ".weight"), {width}),
          tensor(layer + (old_names ? ".beta" : ".bias"), {width}), eps};
}

}  // namespace octet

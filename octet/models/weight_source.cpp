// SPDX-License-Identifier: Apache-2.0
#include "octet/models/weight_source.h"

#include "octet/base/error.h"
#include "octet/io/compressed_tensors.h"

namespace octet {
namespace {

void check_float(const Checkpoint& checkpoint, const std::string& name, DType dtype) {
  if (is_float(dtype)) return;
  fail<FormatError>("{}: tensor '{}' is {}; floating point is needed", checkpoint.folder().string(), name,
                    octet::name(dtype));
}

}  // namespace

WeightSource::WeightSource(const Checkpoint& checkpoint, const Recipe* recipe)
    : checkpoint_(checkpoint), recipe_(recipe) {}

Tensor WeightSource::tensor(const std::string& name) const {
  Tensor tensor = checkpoint_.tensor(name);
  check_float(checkpoint_, name, tensor.dtype());
  return tensor;
}

Tensor WeightSource::tensor(const std::string& name, const Shape& shape) const {
  Tensor tensor = this->tensor(name);
  check_shape(fmt::format("tensor '{}'", name), tensor.shape(), shape);
  return tensor;
}

void WeightSource::check_shape(const std::string& what, const Shape& found, const Shape& wanted) const {
  if (found == wanted) return;
  fail<ShapeError>("{}: {} has the shape {}; {} asks for {}", checkpoint_.folder().string(), what, to_string(found),
                   checkpoint_.is_gguf() ? "the model's metadata" : "config.json", to_string(wanted));
}

Parameter WeightSource::float_parameter(const std::string& layer, const Shape& shape) const {
  const std::string name = layer + ".weight";
  Parameter out{.layer = layer, .shape = shape, .value = {}, .scheme = {}};
  const StoredTensor stored = checkpoint_.describe(name);
  if (!stored.decoded) {
    out.value = tensor(name, shape);
  } else {
    check_float(checkpoint_, name, stored.dtype);
    check_shape(fmt::format("tensor '{}'", name), stored.shape, shape);
    out.value = [checkpoint = checkpoint_, name] { return checkpoint.tensor(name); };
  }
  return out;
}

std::optional<Scheme> WeightSource::stored_scheme(const std::string& layer, const std::string& reader,
                                                  LayerKind kind) const {
  std::optional<Scheme> stored = checkpoint_.stored_scheme(layer, kind);
  if (!stored) return stored;
  if (kind == LayerKind::kEmbedding && reader == layer) {
    // A table that nothing multiplies by meets no activations.
    stored->activations = ActivationMode::kFloat;
    stored->activation_bits = 8;
    return stored;
  }
  // What a tied head reads is said of the head.
  if (reader != layer) {
    if (const std::optional<Scheme> head = checkpoint_.stored_scheme(reader)) {
      stored->activations = head->activations;
      stored->activation_bits = head->activation_bits;
    }
  }
  if (recipe_ != nullptr && recipe_->activations_for(reader)) {
    stored->activations = *recipe_->activations_for(reader);
    stored->activation_bits = recipe_->activation_bits(reader);
  }
  if (stored->weight.bits != 8 && stored->activations == ActivationMode::kStaticPerTensorZeroPoint) {
    fail<UsageError>("recipe '{}': layer '{}' has {}-bit weights; activations with a zero point need 8-bit ones",
                     recipe_->name(), layer, stored->weight.bits);
  }
  return stored;
}

Parameter WeightSource::parameter(const std::string& layer, const std::string& reader, LayerKind kind,
                                  const Shape& shape, const std::optional<Scheme>& asked, Storage storage) const {
  const std::optional<Scheme> stored = stored_scheme(layer, reader, kind);
  if (stored && asked) {
    fail<UsageError>(
        "{}: is quantized already: layer '{}' is stored as codes ({}), and the recipe '{}' needs float weights. Take "
        "the "
        "float model, or a recipe that quantizes activations alone, such as a8_dynamic.",
        checkpoint_.folder().string(), layer, to_string(*stored), recipe_->name());
  }
  Parameter out{.layer = layer, .shape = shape, .value = {}, .scheme = asked};
  if (stored) {
    out.scheme = stored;
    out.stored_codes = true;
    if (stored->weight.outliers && kind == LayerKind::kEmbedding) {
      fail<FormatError>("{}: the embedding '{}' is said to have outlier columns, which only products can have",
                        checkpoint_.folder().string(), layer);
    }
    if (stored->weight.outliers) out.outlier_columns = decode_outlier_columns(checkpoint_, layer, shape[1]);
    out.value = [checkpoint = checkpoint_, layer, kind, shape] {
      QTensor codes = checkpoint.stored_weight(layer, kind);
      if (codes.codes.shape() != shape) {
        fail<ShapeError>("{}: the quantized weight of '{}' has the shape {}; config.json asks for {}",
                         checkpoint.folder().string(), layer, to_string(codes.codes.shape()), to_string(shape));
      }
      return codes;
    };
  } else {
    // GGUF files hold every weight as products read it.
    out.in_out = storage == Storage::kInOut;
    out.transposed = out.in_out && !checkpoint_.is_gguf();
    out.value = float_parameter(layer, out.transposed ? Shape{shape[1], shape[0]} : shape).value;
    if (asked && asked->weight.outliers) {
      const std::span<const int32_t> columns = recipe_->outlier_columns(layer);
      out.outlier_columns.assign(columns.begin(), columns.end());
    }
  }
  if (out.scheme && is_static(out.scheme->activations)) {
    const ActivationMode mode = out.scheme->activations;
    const bool by_recipe = recipe_ != nullptr && (asked || recipe_->activations_for(reader));
    const int bits = out.scheme->activation_bits;
    out.input = by_recipe ? recipe_->activation_scale(reader, mode, bits)
                          : decode_activation_scale(checkpoint_, reader, mode, bits);
  }
  return out;
}

Linear::Part WeightSource::linear(const std::string& layer, int64_t outputs, int64_t inputs, Role role,
                                  Storage storage) const {
  std::optional<Scheme> asked;
  if (recipe_ != nullptr && role == Role::kBlock) asked = recipe_->scheme_for(layer, inputs);
  if (recipe_ != nullptr && role == Role::kVocabularyHead) asked = recipe_->embedding_scheme(layer, inputs);
  Linear::Part part{.weight = parameter(layer, layer, LayerKind::kLinear, {outputs, inputs}, asked, storage),
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
  std::optional<Scheme> asked;
  if (recipe_ != nullptr) asked = recipe_->embedding_scheme(table, width);
  // A table that nothing multiplies by meets no activations.
  if (asked && !tied) asked = Scheme{.weight = asked->weight};
  Linear::Part part{.weight = parameter(table, tied ? head->layer : table, LayerKind::kEmbedding, {entries, width},
                                        asked, Storage::kOutIn),
                    .bias = {}};
  part.weight.over_vocabulary = true;
  if (tied) {
    part.weight.tied_head = head->layer;
    if (part.weight.scheme) add_bias(*head, entries, part);
  }
  return part;
}

std::vector<Linear::Part> WeightSource::vocabulary_head(const VocabularyHead& head, const std::string& table,
                                                        int64_t entries, int64_t width) const {
  std::vector<Linear::Part> parts;
  if (head.tied) {
    Parameter weight = float_parameter(table, {entries, width});
    weight.layer = head.layer;
    parts.push_back({.weight = std::move(weight), .bias = {}});
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
  const ActivationMode asked = recipe_ != nullptr ? recipe_->attention() : ActivationMode::kFloat;
  if (asked != ActivationMode::kFloat || !checkpoint_.quantization()) return asked;
  return checkpoint_.quantization()->attention();
}

AttentionBits WeightSource::attention_bits() const {
  if (recipe_ != nullptr && recipe_->attention() != ActivationMode::kFloat) return recipe_->attention_bits();
  return checkpoint_.quantization() ? checkpoint_.quantization()->attention_bits() : AttentionBits();
}

AttentionScales WeightSource::attention_scales(const QuantSite& site) const {
  if (!is_static(site.mode)) return {};
  const bool by_recipe = recipe_ != nullptr && recipe_->attention() != ActivationMode::kFloat;
  const auto scale = [&](std::string_view operand) {
    const std::string name = attention_operand(site, operand);
    return by_recipe ? recipe_->attention_scale(name) : decode_attention_scale(checkpoint_, name);
  };
  return {.q = scale("q"), .k = scale("k"), .v = scale("v"), .bits = attention_bits()};
}

Normalization WeightSource::layer_norm(const std::string& layer, int64_t width, float eps) const {
  const bool old_names = !contains(layer + ".weight") && contains(layer + ".gamma");
  return {layer, tensor(layer + (old_names ? ".gamma" : ".weight"), {width}),
          tensor(layer + (old_names ? ".beta" : ".bias"), {width}), eps};
}

}  // namespace octet

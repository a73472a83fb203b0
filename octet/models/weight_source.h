// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <string>

#include "octet/io/checkpoint.h"
#include "octet/nn/layers.h"
#include "octet/nn/linear.h"
#include "octet/quant/recipe.h"

namespace octet {

/// A product over the vocabulary, by the names that checkpoints have for it.
struct VocabularyHead {
  std::string layer;      ///< "lm_head"
  bool tied = false;      ///< its weight is the table of the words' vectors
  std::string bias = {};  ///< its bias where LAYER.bias is not stored, or is it; empty: none is needed
};

/// Where a model takes its weights from: a checkpoint's tensors under Hugging Face's names, checked for shape, each
/// with the scheme that the checkpoint records or the recipe asks for.
class WeightSource {
 public:
  /// What a linear layer is in its model: recipes speak of block layers; output heads over the vocabulary follow their
  /// word on embeddings; other heads stay float.
  enum class Role : uint8_t { kBlock, kVocabularyHead, kHead };
  /// How a float weight lies in files: as products read it, or turned around, as in GPT-2's.
  enum class Storage : uint8_t { kOutIn, kInOut };

  /// The weights of `checkpoint`, with what `recipe` asks for: of float weights a scheme; of weights that are stored as
  /// codes, which stay, what their products read. Asking a scheme of those is a UsageError, when it is their turn.
  WeightSource(const Checkpoint& checkpoint, const Recipe* recipe);

  const Config& config() const { return checkpoint_.config(); }
  bool contains(const std::string& name) const { return checkpoint_.contains(name); }
  /// Whether there is a weight of that layer, float or quantized.
  bool contains_weight(const std::string& layer) const {
    return contains(layer + ".weight") || contains(layer + ".weight_packed") || contains(layer + ".qweight");
  }
  /// A float tensor. Throws FormatError if it is missing or not float, ShapeError if its shape is another.
  Tensor tensor(const std::string& name) const;
  Tensor tensor(const std::string& name, const Shape& shape) const;
  /// LAYER.weight [outputs, inputs] as stored, and LAYER.bias [outputs] where there is one.
  Linear::Part linear(const std::string& layer, int64_t outputs, int64_t inputs, Role role = Role::kBlock,
                      Storage storage = Storage::kOutIn) const;
  /// The same as the only part of a group.
  std::vector<Linear::Part> lone_linear(const std::string& layer, int64_t outputs, int64_t inputs,
                                        Role role = Role::kBlock, Storage storage = Storage::kOutIn) const;
  /// LAYERS of one shape that read the same input, as one group; each is PATH + its name.
  std::vector<Linear::Part> group(const std::string& path, std::initializer_list<const char*> layers, int64_t outputs,
                                  int64_t inputs) const;
  /// The same of query, key and value, of which the last two may have fewer outputs.
  std::vector<Linear::Part> query_key_value(const std::string& path, const std::array<const char*, 3>& layers,
                                            int64_t query_outputs, int64_t key_outputs, int64_t inputs) const;
  /// Biases are read where they are stored. Throws FormatError for the first of these layers, PATH + NAME, without one.
  void require_biases(const std::string& path, std::initializer_list<const char*> layers) const;
  /// TABLE.weight [entries, width], the vectors of a vocabulary's tokens, which `head` multiplies by too if it is tied.
  Linear::Part embedding(const std::string& table, int64_t entries, int64_t width,
                         const std::optional<VocabularyHead>& head) const;
  /// The product over the vocabulary: LAYER.weight, or, tied to a float table, TABLE.weight.
  std::vector<Linear::Part> vocabulary_head(const VocabularyHead& head, const std::string& table, int64_t entries,
                                            int64_t width) const;
  /// What products of attention read, by the checkpoint's word or the recipe's.
  ActivationMode attention() const;
  AttentionBits attention_bits() const;
  /// The scales that a static mode has there, by the same word.
  AttentionScales attention_scales(const QuantSite& site) const;
  /// LAYER.weight and LAYER.bias [width], or gamma and beta, as old checkpoints call them.
  Normalization layer_norm(const std::string& layer, int64_t width, float eps) const;
  /// LAYER.weight [width].
  Normalization rms_norm(const std::string& layer, int64_t width, float eps) const {
    return {layer, tensor(layer + ".weight", {width}), std::nullopt, eps};
  }

 private:
  /// Codes of a stored scheme, or float values and the scheme, if any, that a recipe asks for. `reader` is the layer
  /// that multiplies by it.
  Parameter parameter(const std::string& layer, const std::string& reader, LayerKind kind, const Shape& shape,
                      const std::optional<Scheme>& asked, Storage storage) const;
  /// The stored scheme of `layer`, what it reads being said of `reader`, by the recipe or else by the checkpoint.
  std::optional<Scheme> stored_scheme(const std::string& layer, const std::string& reader, LayerKind kind) const;
  /// The float tensor LAYER.weight [shape], read when it is wanted where reading it makes a copy.
  Parameter float_parameter(const std::string& layer, const Shape& shape) const;
  void check_shape(const std::string& what, const Shape& found, const Shape& wanted) const;

  /// The bias of a head that has one and whose part did not bring it.
  void add_bias(const VocabularyHead& head, int64_t entries, Linear::Part& part) const;

  const Checkpoint& checkpoint_;
  const Recipe* recipe_;
};

}  // namespace octet

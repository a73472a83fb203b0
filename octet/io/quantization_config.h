// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "octet/io/config.h"
#include "octet/io/name_pattern.h"
#include "octet/tensor/scheme.h"

namespace octet {

/// How compressed-tensors lays a quantized weight X out in a file (compressed_tensors.h has the tensors).
enum class WeightFormat : uint8_t {
  kIntQuantized,   ///< "int-quantized": the codes as they are
  kPackQuantized,  ///< "pack-quantized": codes packed into int32
};

/// Throws FormatError, naming the layer and what to do instead, for a scheme that compressed-tensors has no place for:
/// minima.
void check_storable(const WeightScheme& scheme, const std::string& layer);

/// The format in which transformers and vLLM look for a layer of this scheme: packed where activations are float. (With
/// quantized activations 4-bit codes take a byte each in it.)
WeightFormat format_for(const Scheme& scheme) noexcept;

/// The same of an embedding and its output head: 8-bit codes plain, which transformers loads as they are; 4-bit ones
/// packed, half as large, which it loads with dequantize=True where all layers have that scheme.
WeightFormat embedding_format(const WeightScheme& scheme) noexcept;

/// What a name in a model stands for, as "targets" name kinds too.
enum class LayerKind : uint8_t {
  kLinear,     ///< "Linear"
  kEmbedding,  ///< "Embedding"
};

/// What config.json says of a layer's weight.
struct StoredScheme {
  Scheme scheme;
  WeightFormat format;
  bool one_scale = false;  ///< "strategy": "tensor": a file has one scale, and zero point, which all channels share

  friend bool operator==(const StoredScheme&, const StoredScheme&) = default;
};

/// The "quantization_config" of a config.json in the compressed-tensors layout (vllm-project/compressed-tensors 0.20):
/// groups of layers, each with a scheme, and layers that no group touches. Beside what the library has, Octet writes
/// "octet_attention", the scheme of attention's products: others pass over it and compute these in float. And, in
/// "weights" of a group, "octet_outlier_columns": true, which others refuse, as they could not read the layers. Weights
/// of fewer bits than their codes are stored in are said to have those of the codes, which changes nothing; activations
/// have the bits that they are clamped to.
class StoredQuantization {
 public:
  /// Throws FormatError, naming file and feature, for everything Octet does not run: other methods,
  /// other widths and groups, scales of blocks, quantized KV caches, sparsity, transforms.
  static StoredQuantization parse(const Config& quantization_config);

  /// The scheme of a layer; none where it is kept in float. An exact name counts before a pattern, patterns count in
  /// alphabetical order, and its kind, "Linear" or "Embedding", counts last; what is ignored is float whatever names
  /// it.
  std::optional<StoredScheme> scheme_for(std::string_view layer, LayerKind kind = LayerKind::kLinear) const;
  /// See Recipe::attention.
  ActivationMode attention() const noexcept { return attention_; }
  AttentionBits attention_bits() const noexcept { return attention_bits_; }

 private:
  struct Matcher {
    explicit Matcher(const std::string& target, const std::string& source);
    bool matches(std::string_view layer, LayerKind kind) const;

    std::string target;
    std::optional<NamePattern> pattern;
  };

  std::vector<std::pair<Matcher, StoredScheme>> targets_;  ///< in the order in which they count
  std::vector<Matcher> ignored_;
  ActivationMode attention_ = ActivationMode::kFloat;
  AttentionBits attention_bits_;
};

/// The "quantization_config" for linear layers quantized by `schemes` (name → scheme), other linear layers of the model
/// being `float_layers`, and for `embeddings`: the input embedding, whose activations stay float, as what it reads are
/// ids, and its output head. (Beside a plain embedding transformers loads no tied head that has no scheme; it needs a
/// weight_scale of its own, equal to the embedding's. Beside a packed one it must have none.) Linear layers of one
/// scheme are targeted as "Linear", which vLLM likes best; of several, by name; embeddings and head always by name.
nlohmann::json quantization_config(const std::map<std::string, Scheme>& schemes,
                                   std::span<const std::string> float_layers,
                                   const std::map<std::string, Scheme>& embeddings = {},
                                   ActivationMode attention = ActivationMode::kFloat,
                                   AttentionBits attention_bits = {});

/// `config` with that quantization_config, and dtype float32: a loader casts scales to the dtype it finds, so with
/// float16 ours would lose 13 bits.
nlohmann::json quantized_model_config(const Config& config, const std::map<std::string, Scheme>& schemes,
                                      std::span<const std::string> float_layers,
                                      const std::map<std::string, Scheme>& embeddings = {},
                                      ActivationMode attention = ActivationMode::kFloat,
                                      AttentionBits attention_bits = {});

}  // namespace octet

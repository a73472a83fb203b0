// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/io/config.h"
#include "octet/io/quantization_config.h"
#include "octet/io/tensor_files.h"
#include "octet/tensor/qtensor.h"

namespace octet {

class GgufModel;
class PackedLayout;

/// A model in the Hugging Face layout: a folder with config.json and either model.safetensors or
/// model.safetensors.index.json and the files it names; or a GGUF file, seen as if it were that (GgufModel). Pickles
/// (pytorch_model.bin) are refused: loading one can run code. A copy shares the files of its original.
class Checkpoint {
 public:
  /// Maps the weights; nothing is read but headers and JSON. `path` is a folder, which may hold one GGUF file in place
  /// of the above, or a GGUF file. Throws Error or FormatError that says what is missing.
  static Checkpoint open(const std::filesystem::path& path);

  /// Where it lies: the folder, or the GGUF file.
  const std::filesystem::path& folder() const noexcept { return folder_; }
  /// Whether it is a GGUF file: nothing that lies beside it belongs to it, and its float weights lie as [out, in].
  bool is_gguf() const noexcept { return gguf_ != nullptr; }
  const Config& config() const noexcept { return config_; }
  /// What config.json says of it in the compressed-tensors layout; none for a model in float, and in other layouts.
  const std::optional<StoredQuantization>& quantization() const noexcept { return quantization_; }
  /// Whether config.json says that weights are codes, in whichever layout.
  bool is_quantized() const noexcept { return quantization_ || packed_; }

  /// Of all tensors, in alphabetical order.
  const std::vector<std::string>& names() const noexcept { return names_; }
  bool contains(std::string_view name) const { return std::ranges::binary_search(names_, name); }
  /// Both throw FormatError for a name that is not there, with the nearest one.
  StoredTensor describe(std::string_view name) const;
  /// A view of the mapped file where it holds the tensor so, else a copy; what a GGUF file stores in blocks as F32.
  Tensor tensor(std::string_view name) const;
  /// Of all tensors, as stored.
  int64_t bytes() const noexcept { return bytes_; }

  /// How the weight of a layer is stored as codes, and what its product reads; none where it is stored in float.
  std::optional<Scheme> stored_scheme(std::string_view layer, LayerKind kind = LayerKind::kLinear) const;
  /// Such a weight. Throws FormatError for a damaged one.
  QTensor stored_weight(const std::string& layer, LayerKind kind = LayerKind::kLinear) const;

 private:
  Checkpoint(std::filesystem::path folder, Config config) : folder_(std::move(folder)), config_(std::move(config)) {}
  static Checkpoint open_folder(const std::filesystem::path& folder);
  static Checkpoint open_gguf(const std::filesystem::path& file);
  void read_quantization();
  void hold(std::shared_ptr<const TensorFiles> files);
  const std::string& find(std::string_view name) const;

  std::filesystem::path folder_;
  Config config_;
  std::optional<StoredQuantization> quantization_;
  std::shared_ptr<const TensorFiles> files_;
  std::shared_ptr<const GgufModel> gguf_;       ///< files_, if they are one
  std::shared_ptr<const PackedLayout> packed_;  ///< of GPTQ's and AWQ's tools
  std::vector<std::string> names_;
  int64_t bytes_ = 0;
};

}  // namespace octet

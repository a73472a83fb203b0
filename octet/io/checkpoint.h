// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octet/io/config.h"
#include "octet/io/quantization_config.h"
#include "octet/io/safetensors.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// A model in the Hugging Face layout: a folder with config.json and either model.safetensors or
/// model.safetensors.index.json and the files it names. Pickles (pytorch_model.bin) are refused: loading one can run
/// code.
class Checkpoint {
 public:
  /// Maps the weights; nothing is read but headers and JSON. Throws Error or FormatError that says what the folder
  /// lacks.
  static Checkpoint open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const noexcept { return folder_; }
  const Config& config() const noexcept { return config_; }
  /// None for a model in float.
  const std::optional<StoredQuantization>& quantization() const noexcept { return quantization_; }

  /// Of all tensors, in alphabetical order.
  const std::vector<std::string>& names() const noexcept { return names_; }
  bool contains(std::string_view name) const { return files_of_.find(name) != files_of_.end(); }
  /// A view of the mapped file where it aligns the tensor, else a copy. Throws FormatError for a name that is not
  /// there, with the nearest one.
  Tensor tensor(std::string_view name) const;
  /// Of all tensors.
  int64_t bytes() const noexcept { return bytes_; }

 private:
  Checkpoint(std::filesystem::path folder, Config config);
  void open_single(const std::filesystem::path& file);
  void open_sharded(const std::filesystem::path& index);

  std::filesystem::path folder_;
  Config config_;
  std::optional<StoredQuantization> quantization_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, size_t, std::less<>> files_of_;  ///< which of files_ holds a tensor
  std::vector<std::string> names_;
  int64_t bytes_ = 0;
};

}  // namespace octet

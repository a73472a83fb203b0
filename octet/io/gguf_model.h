// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "octet/io/config.h"
#include "octet/io/gguf_names.h"
#include "octet/io/gguf_reader.h"
#include "octet/io/tensor_files.h"
#include "octet/tensor/qtensor.h"

namespace octet {

/// A language model in a GGUF file, seen as Hugging Face would have stored it: its tensors under Hugging Face's names
/// and in their order of rows (weights always [out, in]), its metadata as a config.json. The metadata's chat template
/// is there under "chat_template".
class GgufModel : public TensorFiles {
 public:
  /// Throws FormatError, beside GgufFile's, for an architecture that Octet does not have, metadata that it needs or
  /// cannot honour, and tensors that the architecture has not.
  static GgufModel open(const std::filesystem::path& path);

  // Entries point into the file's own.
  GgufModel(const GgufModel&) = delete;
  GgufModel& operator=(const GgufModel&) = delete;
  GgufModel(GgufModel&&) = default;
  GgufModel& operator=(GgufModel&&) = default;
  ~GgufModel() override = default;

  const GgufFile& file() const noexcept { return file_; }
  const Config& config() const noexcept { return config_; }

  std::vector<std::string> names() const override;
  StoredTensor describe(const std::string& name) const override;
  Tensor tensor(const std::string& name) const override;

  /// How a matrix is stored as codes (see code_scheme); none for values, and for names that are not there.
  std::optional<WeightScheme> scheme_of(const std::string& name) const;
  /// Such a matrix. Throws FormatError where it holds what no QTensor can: a scale that is not finite.
  QTensor codes(const std::string& name) const;

 private:
  struct Entry {
    const GgufFile::TensorEntry* stored;
    int64_t head_width;  ///< rows of a head, which are interleaved; 0: rows are in order
  };

  GgufModel(GgufFile file, Config config) : file_(std::move(file)), config_(std::move(config)) {}
  std::string where(const std::string& name) const;
  const std::byte* row(const Entry& entry, int64_t index) const;

  GgufFile file_;
  Config config_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "octet/base/mapped_file.h"
#include "octet/io/tensor_files.h"
#include "octet/tensor/tensor.h"

namespace octet {

/// A safetensors file, mapped (format: huggingface/safetensors, README):
///
///   8 bytes    N, the header's length, little-endian
///   N bytes    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}, and "__metadata__",
///              an object of strings; offsets count from the end of the header
///   the rest   the tensors' elements, little-endian and row-major, without gaps or overlaps
///
/// The whole header is checked when the file is opened: what does not fit is a FormatError that names file and tensor.
class SafetensorsFile {
 public:
  /// Throws Error where the file cannot be opened.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const noexcept { return file_->path(); }
  /// In alphabetical order.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  /// Throws FormatError for a name that is not there, as tensor() does.
  StoredTensor describe(std::string_view name) const;
  /// A view of the file's pages, or, where the file does not align the tensor to its elements, a copy.
  /// Throws FormatError for a name that is not there.
  Tensor tensor(std::string_view name) const;
  /// Of all tensors.
  int64_t bytes() const noexcept { return bytes_; }
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

 private:
  struct Entry {
    DType dtype;
    Shape shape;
    int64_t offset;  ///< from the start of the file
  };

  explicit SafetensorsFile(std::shared_ptr<const MappedFile> file);
  const Entry& find(std::string_view name) const;

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
  int64_t bytes_ = 0;
};

/// A tensor to be written. `make` is called once, in the order of SafetensorsWriter::add(), and what it returns is
/// freed before the next: a model can be written without being held.
struct TensorSource {
  std::string name;
  DType dtype;
  Shape shape;
  std::function<Tensor()> make;
};

/// Writes a safetensors file tensor by tensor, in the order of add(). In the file wide elements come first, so that
/// every tensor is aligned to its elements.
class SafetensorsWriter {
 public:
  /// Throws Error for a name that was added before, or that no header can hold.
  void add(TensorSource source);
  void add(std::string name, Tensor tensor);

  /// The file appears whole or not at all. Throws Error where it cannot be written (a full disk), or where a source
  /// makes another dtype or shape than it announced. Once only: the sources are used up.
  void write(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata = {
                                                    {"format", "pt"}});  // transformers refuses files without it

 private:
  std::vector<TensorSource> sources_;
  std::set<std::string> names_;
};

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octet/io/gguf_reader.h"

namespace octet {

/// A tensor to be written. `make` is called once, when its turn comes, and gives its blocks, which are freed after it.
struct GgufTensorSource {
  std::string name;
  GgufType type;
  Shape shape;
  std::function<std::vector<std::byte>()> make;
};

/// Writes a GGUF file of version 3 (GgufFile says how one looks), tensor by tensor: a model can be written without
/// being held. Metadata and tensors keep the order of add.
class GgufWriter {
 public:
  /// All throw Error for a key, or a tensor's name, that was added before.
  void add_text(std::string_view key, std::string_view value);
  void add_integer(std::string_view key, uint32_t value);
  void add_number(std::string_view key, float value);
  void add_flag(std::string_view key, bool value);
  void add_texts(std::string_view key, std::span<const std::string> values);
  void add_integers(std::string_view key, std::span<const int32_t> values);
  void add_numbers(std::string_view key, std::span<const float> values);
  /// What GgufFile::encoded gives.
  void add_encoded(std::string_view key, std::string_view type_and_value);
  /// Throws Error for rows that do not fill whole blocks, and for names or ranks that the format does not allow.
  void add(GgufTensorSource source);

  /// The file appears whole or not at all. Throws Error where it cannot be written (a full disk), or where a source
  /// makes another number of bytes than it announced. Once only: the sources are used up. `advance` follows the
  /// tensors.
  void write(const std::filesystem::path& path, const std::function<void()>& advance = {});

 private:
  std::string& begin(std::string_view key);
  std::string& begin(std::string_view key, GgufValueType type);

  std::string metadata_;
  std::set<std::string, std::less<>> keys_, names_;
  std::vector<GgufTensorSource> sources_;
};

}  // namespace octet

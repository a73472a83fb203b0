// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "octet/io/gguf_reader.h"

namespace octet {

/// The bytes of a GGUF file, piece by piece, so that a test can spoil any of them.
class GgufBytes {
 public:
  template <class T>
  static std::string number(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }
  static std::string text(std::string_view value) { return number<uint64_t>(value.size()) + std::string(value); }
  static std::string type(GgufValueType value) { return number(static_cast<uint32_t>(value)); }

  template <class T>
  GgufBytes& add(std::string_view key, GgufValueType value_type, T value) {
    return add_raw(key, type(value_type) + number(value));
  }
  GgufBytes& add(std::string_view key, std::string_view value) {
    return add_raw(key, type(GgufValueType::kText) + text(value));
  }
  GgufBytes& add_texts(std::string_view key, const std::vector<std::string>& values) {
    std::string raw = type(GgufValueType::kArray) + type(GgufValueType::kText) + number<uint64_t>(values.size());
    for (const std::string& value : values) raw += text(value);
    return add_raw(key, raw);
  }
  template <class T>
  GgufBytes& add_numbers(std::string_view key, GgufValueType element, const std::vector<T>& values) {
    std::string raw = type(GgufValueType::kArray) + type(element) + number<uint64_t>(values.size());
    for (const T value : values) raw += number(value);
    return add_raw(key, raw);
  }
  GgufBytes& add_raw(std::string_view key, const std::string& type_and_value) {
    metadata_ += text(key) + type_and_value;
    ++pairs_;
    return *this;
  }
  /// Extents innermost first, as in the file; the offset is that of the next free place.
  GgufBytes& add_tensor(std::string_view name, const std::vector<uint64_t>& extents, GgufType element,
                        const std::string& data) {
    return add_tensor(name, extents, static_cast<uint32_t>(element), data_.size(), data);
  }
  GgufBytes& add_tensor(std::string_view name, const std::vector<uint64_t>& extents, uint32_t element, uint64_t offset,
                        const std::string& data) {
    tensors_ += text(name) + number(static_cast<uint32_t>(extents.size()));
    for (const uint64_t extent : extents) tensors_ += number(extent);
    tensors_ += number(element) + number(offset);
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32);
    ++count_;
    return *this;
  }

  std::string bytes(uint32_t version = 3) const {
    std::string all =
        "GGUF" + number(version) + number<uint64_t>(count_) + number<uint64_t>(pairs_) + metadata_ + tensors_;
    all.resize((all.size() + 31) / 32 * 32);
    return all + data_;
  }

 private:
  std::string metadata_, tensors_, data_;
  uint64_t pairs_ = 0, count_ = 0;
};

}  // namespace octet

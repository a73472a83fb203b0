// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"

namespace octet {

/// A value of a JSON file that knows its path, so that every error can name it: "tokenizer.json: model.vocab …".
class JsonNode {
 public:
  /// The root. `value` and `source` must outlive the node and those made from it.
  JsonNode(const nlohmann::json& value, std::string_view source) : value_(&value), source_(source) {}

  /// The value of a key; throws FormatError where this is no object or does not have it.
  JsonNode at(std::string_view key) const;
  /// The same; none where the key is absent or null.
  std::optional<JsonNode> find(std::string_view key) const;
  /// The elements of an array, in order.
  std::vector<JsonNode> elements() const;
  /// The members of an object.
  const nlohmann::json::object_t& members() const;

  const std::string& string() const;
  bool boolean() const;
  int64_t integer(int64_t min, int64_t max) const;
  const nlohmann::json& value() const { return *value_; }

  /// Throws FormatError: "SOURCE: PATH MESSAGE".
  template <class... Args>
  [[noreturn]] void error(fmt::format_string<Args...> format, Args&&... args) const {
    fail<FormatError>("{}: {} {}", source_, path_.empty() ? "the top level" : path_,
                      fmt::format(format, std::forward<Args>(args)...));
  }
  /// Throws FormatError: "SOURCE: PATH 'NAME' is not supported. Octet reads KNOWN."
  [[noreturn]] void unsupported(std::string_view known) const;

 private:
  JsonNode(const nlohmann::json& value, std::string_view source, std::string path)
      : value_(&value), source_(source), path_(std::move(path)) {}

  const nlohmann::json* value_;
  std::string_view source_;
  std::string path_;
};

/// `text` as part of a message: at most 60 bytes of it, since hostile files have long names.
std::string shorten(std::string_view text);

}  // namespace octet

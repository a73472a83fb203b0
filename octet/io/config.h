// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace octet {

/// Both ends included.
struct IntegerRange {
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
};

/// A model's config.json, or an object inside it. A key whose value is null counts as missing. A missing key that was
/// asked for without a fallback, a value of another type and a number out of range are FormatErrors that name file and
/// key.
class Config {
 public:
  /// Throws Error where the file cannot be read, FormatError where it is not a JSON object.
  static Config read(const std::filesystem::path& file);
  /// `source` names the text in errors.
  static Config parse(std::string_view text, const std::string& source);

  const std::string& source() const noexcept { return source_; }
  /// For writers, which keep every key they do not know.
  const nlohmann::json& json() const noexcept { return *value_; }

  bool has(std::string_view key) const;
  std::string text(std::string_view key) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  int64_t integer(std::string_view key, IntegerRange range = {}) const;
  int64_t integer(std::string_view key, int64_t fallback, IntegerRange range = {}) const;
  /// Any finite number, whole ones included.
  double number(std::string_view key) const;
  double number(std::string_view key, double fallback) const;
  bool flag(std::string_view key) const;
  bool flag(std::string_view key, bool fallback) const;
  /// A list of texts, such as "architectures"; empty where the key is missing.
  std::vector<std::string> texts(std::string_view key) const;
  /// A list of finite numbers; empty where the key is missing.
  std::vector<double> numbers(std::string_view key) const;
  Config object(std::string_view key) const;

 private:
  Config(std::shared_ptr<const nlohmann::json> value, std::string source, std::string prefix);

  const nlohmann::json* find(std::string_view key) const;
  const nlohmann::json& get(std::string_view key) const;
  [[noreturn]] void fail_type(std::string_view key, const nlohmann::json& value, std::string_view needed) const;
  std::string to_text(std::string_view key, const nlohmann::json& value) const;
  int64_t to_integer(std::string_view key, const nlohmann::json& value, IntegerRange range) const;
  double to_number(std::string_view key, const nlohmann::json& value) const;
  bool to_flag(std::string_view key, const nlohmann::json& value) const;

  std::shared_ptr<const nlohmann::json> value_;  ///< shares the ownership of the whole tree
  std::string source_;
  std::string prefix_;  ///< "rope_scaling." in an object inside another
};

}  // namespace octet

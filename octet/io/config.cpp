// SPDX-License-Identifier: Apache-2.0
#include "octet/io/config.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"

namespace octet {

namespace {

// Real ones have some thousand bytes; those that list every layer of a large model, a few hundred thousand.
constexpr int64_t kLargestConfig = 16 << 20;

}  // namespace

Config::Config(std::shared_ptr<const nlohmann::json> value, std::string source, std::string prefix)
    : value_(std::move(value)), source_(std::move(source)), prefix_(std::move(prefix)) {}

Config Config::read(const std::filesystem::path& file) {
  return parse(read_text_file(file, kLargestConfig), file.string());
}

Config Config::parse(std::string_view text, const std::string& source) {
  auto value = std::make_shared<const nlohmann::json>(parse_json(text, source));
  if (!value->is_object()) fail<FormatError>("{}: a JSON object {{…}} is needed, not {}", source, value->type_name());
  return Config(std::move(value), source, "");
}

const nlohmann::json* Config::find(std::string_view key) const {
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::json& Config::get(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) fail<FormatError>("{}: '{}{}' is missing", source_, prefix_, key);
  return *value;
}

void Config::fail_type(std::string_view key, const nlohmann::json& value, std::string_view needed) const {
  fail<FormatError>("{}: '{}{}' must be {}, not {}", source_, prefix_, key, needed, quote_json(value));
}

std::string Config::to_text(std::string_view key, const nlohmann::json& value) const {
  if (!value.is_string()) fail_type(key, value, "text");
  return value.get<std::string>();
}

int64_t Config::to_integer(std::string_view key, const nlohmann::json& value, IntegerRange range) const {
  if (!value.is_number_integer()) fail_type(key, value, "a whole number");
  // Numbers above int64's largest are unsigned, all others fit.
  const bool fits = !value.is_number_unsigned() || std::in_range<int64_t>(value.get<uint64_t>());
  if (!fits || value.get<int64_t>() < range.min || value.get<int64_t>() > range.max) {
    fail<FormatError>("{}: '{}{}' is {}; it must lie in [{}, {}]", source_, prefix_, key, quote_json(value), range.min,
                      range.max);
  }
  return value.get<int64_t>();
}

double Config::to_number(std::string_view key, const nlohmann::json& value) const {
  if (!value.is_number()) fail_type(key, value, "a number");
  return value.get<double>();
}

bool Config::to_flag(std::string_view key, const nlohmann::json& value) const {
  if (!value.is_boolean()) fail_type(key, value, "true or false");
  return value.get<bool>();
}

bool Config::has(std::string_view key) const { return find(key) != nullptr; }

std::string Config::text(std::string_view key) const { return to_text(key, get(key)); }
std::string Config::text(std::string_view key, std::string_view fallback) const {
  const nlohmann::json* value = find(key);
  return value == nullptr ? std::string(fallback) : to_text(key, *value);
}

int64_t Config::integer(std::string_view key, IntegerRange range) const { return to_integer(key, get(key), range); }
int64_t Config::integer(std::string_view key, int64_t fallback, IntegerRange range) const {
  const nlohmann::json* value = find(key);
  return value == nullptr ? fallback : to_integer(key, *value, range);
}

double Config::number(std::string_view key) const { return to_number(key, get(key)); }
double Config::number(std::string_view key, double fallback) const {
  const nlohmann::json* value = find(key);
  return value == nullptr ? fallback : to_number(key, *value);
}

bool Config::flag(std::string_view key) const { return to_flag(key, get(key)); }
bool Config::flag(std::string_view key, bool fallback) const {
  const nlohmann::json* value = find(key);
  return value == nullptr ? fallback : to_flag(key, *value);
}

std::vector<std::string> Config::texts(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) fail_type(key, *value, "a list of texts");
  std::vector<std::string> out;
  for (const nlohmann::json& item : *value) {
    if (!item.is_string()) fail_type(key, *value, "a list of texts");
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<double> Config::numbers(std::string_view key) const {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) fail_type(key, *value, "a list of numbers");
  std::vector<double> out;
  for (const nlohmann::json& item : *value) out.push_back(to_number(key, item));
  return out;
}

Config Config::object(std::string_view key) const {
  const nlohmann::json& value = get(key);
  if (!value.is_object()) fail_type(key, value, "an object {…}");
  return Config(std::shared_ptr<const nlohmann::json>(value_, &value), source_, prefix_ + std::string(key) + ".");
}

}  // namespace octet

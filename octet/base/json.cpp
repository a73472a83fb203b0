// SPDX-License-Identifier: Apache-2.0
#include "octet/base/json.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "octet/base/error.h"

namespace octet {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

template <class Json>
Json parse_checked(std::string_view text, const std::string& source, int deepest) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, auto event, Json& value) {
    if (depth > deepest) fail<FormatError>("{}: JSON nested more than {} levels deep", source, deepest);
    switch (event) {
      case Json::parse_event_t::object_start:
        keys.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case Json::parse_event_t::key:
        if (const auto& key = value.template get_ref<const std::string&>(); !keys.back().insert(key).second) {
          fail<FormatError>("{}: the key {} stands twice in one object", source, quote_name(key));
        }
        break;
      default:
        break;
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const json::exception& error) {
    // The library begins its messages with "[json.exception.parse_error.101] ".
    std::string_view message = error.what();
    if (const size_t bracket = message.find("] "); bracket != std::string_view::npos)
      message.remove_prefix(bracket + 2);
    fail<FormatError>("{}: not valid JSON: {}", source, message.substr(0, 200));
  }
}

}  // namespace

json parse_json(std::string_view text, const std::string& source, int deepest) {
  return parse_checked<json>(text, source, deepest);
}

ordered_json parse_ordered_json(std::string_view text, const std::string& source, int deepest) {
  return parse_checked<ordered_json>(text, source, deepest);
}

std::string json_text(const json& value, int indent) { return value.dump(indent); }

std::string json_text(const ordered_json& value, int indent) { return value.dump(indent); }

std::string printable_json(const ordered_json& value, int indent) {
  return value.dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

void apply_setting(json& object, const std::string& setting, std::string_view example) {
  constexpr int kDeepest = 16;
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0)
    fail<UsageError>("--set '{}': write key=value, for example --set {}", setting, example);
  json* place = &object;
  std::string_view key = std::string_view(setting).substr(0, equals);
  if (std::count(key.begin(), key.end(), '.') > kDeepest)
    fail<UsageError>("--set '{:.80}…': nothing nests so deeply", setting);
  for (size_t dot = key.find('.'); dot != std::string_view::npos; dot = key.find('.')) {
    if (!place->is_object()) break;
    place = &(*place)[std::string(key.substr(0, dot))];
    if (place->is_null()) *place = json::object();
    key.remove_prefix(dot + 1);
  }
  if (!place->is_object()) fail<UsageError>("--set '{}': the part before '{}' is not an object", setting, key);
  const std::string text = setting.substr(equals + 1);
  // Short enough to need no bound on its depth: a command line's argument nests at most as deep as it is long.
  json value =
      text.size() < 4096 ? json::parse(text, nullptr, /*allow_exceptions=*/false) : json(json::value_t::discarded);
  (*place)[std::string(key)] = value.is_discarded() ? json(text) : std::move(value);
}

std::string quote_json(const json& value) {
  constexpr size_t kLongest = 80;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "…";
  return text;
}

std::string quote_name(std::string_view name) {
  // More than quote_json shows, so that a name of megabytes is not escaped whole.
  constexpr size_t kLongest = 256;
  std::string text = quote_json(std::string(name.substr(0, kLongest)));
  text.front() = '\'';
  if (text.back() == '"') text.back() = '\'';
  return text;
}

}  // namespace octet

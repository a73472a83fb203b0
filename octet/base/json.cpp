// SPDX-License-Identifier: Apache-2.0
#include "octet/base/json.h"

#include <nlohmann/json.hpp>

#include "octet/base/error.h"

namespace octet {

using nlohmann::json;

json parse_json(std::string_view text, const std::string& source, int deepest) {
  const auto bounded = [&](int depth, json::parse_event_t, json&) {
    if (depth > deepest) fail<FormatError>("{}: JSON nested more than {} levels deep", source, deepest);
    return true;
  };
  try {
    return json::parse(text, bounded);
  } catch (const json::exception& error) {
    fail<FormatError>("{}: not valid JSON: {}", source, error.what());
  }
}

std::string quote_json(const json& value) {
  constexpr size_t kLongest = 80;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "…";
  return text;
}

}  // namespace octet

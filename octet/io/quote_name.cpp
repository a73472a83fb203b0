// SPDX-License-Identifier: Apache-2.0
#include "octet/io/quote_name.h"

#include <nlohmann/json.hpp>

#include "octet/base/json.h"

namespace octet {

std::string quote_name(std::string_view name) {
  // More than quote_json shows, so that a name of megabytes is not escaped whole.
  constexpr size_t kLongest = 256;
  std::string text = quote_json(std::string(name.substr(0, kLongest)));
  text.front() = '\'';
  if (text.back() == '"') text.back() = '\'';
  return text;
}

}  // namespace octet

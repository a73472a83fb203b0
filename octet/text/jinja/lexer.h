// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "octet/text/jinja/budget.h"

namespace octet::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,            ///< text between tags
    kPrintBegin,      ///< {{
    kPrintEnd,        ///< }}
    kStatementBegin,  ///< {%
    kStatementEnd,    ///< %}
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,  ///< of the template
  };
  Kind kind;
  int line;
  std::string text;  ///< a string's with its escapes resolved; digits without underscores

  bool is(std::string_view name) const { return kind == Kind::kName && text == name; }
  bool is_operator(std::string_view symbol) const { return kind == Kind::kOperator && text == symbol; }
};

/// The tokens of a template (valid UTF-8) as jinja2 3.1 finds them with trim_blocks and lstrip_blocks on: comments are
/// gone, raw blocks are data, white space beside tags is cut as their signs and the two options say. The last token is
/// a kEnd. Throws LocatedError.
std::vector<Token> tokenize(std::string_view source);

}  // namespace octet::jinja

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace octet {

/// JSON that comes from outside. Throws FormatError, naming `source`, where the text is not JSON, nests more than
/// `deepest` levels (what walks or copies such a tree recurses), or names a key of an object twice: which was meant?
nlohmann::json parse_json(std::string_view text, const std::string& source, int deepest = 32);
/// The same with the keys of objects in the order of the text.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& source, int deepest = 32);

/// A value as text: on one line, or a level a line, `indent` blanks deep. These are here, and parse_json, so that one
/// file alone instantiates the library's reader and writer, each of which takes longer to compile than most files.
/// Throws nlohmann::json::type_error for strings that are not UTF-8.
std::string json_text(const nlohmann::json& value, int indent = -1);
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);
/// The same to be shown: what is not UTF-8 becomes U+FFFD.
std::string printable_json(const nlohmann::ordered_json& value, int indent = -1);

/// key=value, as `--set` takes it, put into an object: "a.b=1" sets b of the object a. Values are JSON, or plain text
/// where they do not parse. Throws UsageError for anything else; `example` shows how to write it.
void apply_setting(nlohmann::json& object, const std::string& setting, std::string_view example);

/// The text of a value from outside for a message: never throws for bad UTF-8, and is cut to a line.
std::string quote_json(const nlohmann::json& value);

/// 'name' for a message, where the name comes from a file: control characters are escaped, and it is cut to a line.
std::string quote_name(std::string_view name);

}  // namespace octet

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "octet/text/jinja/value.h"

/// What templates do with values, as Python and Jinja do it. What Python refuses throws OperationError.
namespace octet::jinja {

/// a == b
bool equal(Budget& budget, const Value& a, const Value& b);
/// a `symbol` b, of == != < <= > >= in "not in"
bool compare(Budget& budget, std::string_view symbol, const Value& a, const Value& b);
/// item in container
bool contains(Budget& budget, const Value& container, const Value& item);
/// a `symbol` b, of + - * / // % **
Value arithmetic(Budget& budget, std::string_view symbol, const Value& a, const Value& b);
Value negative(const Value& value);
/// The value that it is; throws OperationError with the reason for an undefined one.
const Value& defined(const Value& value);

/// object.name: Python's attributes go before the items of a dict.
Value get_attribute(Budget& budget, const Value& object, std::string_view name);
/// object[key]: items go before attributes.
Value get_item(Budget& budget, const Value& object, const Value& key);
/// object[start:stop:step]; None where one is absent.
Value get_slice(Budget& budget, const Value& object, const Value& start, const Value& stop, const Value& step);
/// An attribute that is no item; undefined where there is none.
Value own_attribute(Budget& budget, const Value& object, std::string_view name);
/// len(value)
int64_t length(Budget& budget, const Value& value);

/// text % values, and text.format(…).
std::string format_percent(Budget& budget, std::string_view text, const Value& values);
std::string format_braces(Budget& budget, std::string_view text, const CallArguments& arguments);

Value apply_filter(Budget& budget, std::string_view name, const Value& object, const CallArguments& arguments);
bool apply_test(Budget& budget, std::string_view name, const Value& object, const CallArguments& arguments);
/// A method of a string, list or dict, called. Which there are is told by has_method.
Value call_method(Budget& budget, const Value& self, std::string_view name, const CallArguments& arguments);
enum class MethodKind : uint8_t { kNone, kMethod, kChanges };  ///< kChanges: the sandbox refuses it
MethodKind method_kind(const Value& object, std::string_view name);

// ---- arguments

/// The integer that an argument must be.
int64_t integer_argument(std::string_view function, const Value& value);
/// The string that an argument must be.
const std::string& text_argument(std::string_view function, const Value& value);

}  // namespace octet::jinja

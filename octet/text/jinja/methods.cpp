// SPDX-License-Identifier: Apache-2.0
// Methods of strings, lists and dicts.
#include <algorithm>
#include <functional>
#include <unordered_map>
#include <unordered_set>

#include "octet/base/error.h"
#include "octet/text/jinja/operations.h"
#include "octet/text/jinja/python_text.h"

namespace octet::jinja {
namespace {

using Names = std::unordered_set<std::string_view>;

void refuse_keywords(std::string_view name, const CallArguments& arguments) {
  if (!arguments.keywords.empty()) fail<OperationError>("'{}' takes its arguments without names", name);
}

struct TextCall {
  Budget& budget;
  const Text& self;
  const std::string& text;
  std::string_view name;
  const CallArguments& arguments;

  std::vector<std::optional<Value>> bound(std::initializer_list<std::string_view> names, size_t required = 0) const {
    if (name != "split" && name != "rsplit" && name != "splitlines") refuse_keywords(name, arguments);
    return bind(name, arguments, names, required);
  }
  // What a method of Markup gives is Markup.
  Value made(std::string_view result) const { return make_text(budget, std::string(result), self.markup); }
  Value list(const std::vector<std::string_view>& parts) const {
    std::vector<Value> items;
    for (const std::string_view part : parts) {
      budget.step();
      items.push_back(made(part));
    }
    return make_list(budget, std::move(items));
  }
  // Arguments that str has without names are optional strings, None being none.
  std::optional<std::string_view> optional_text(const std::optional<Value>& value) const {
    if (!value || value->is_none()) return std::nullopt;
    return text_argument(name, *value);
  }
  int64_t integer(const std::optional<Value>& value, int64_t otherwise) const {
    return value ? integer_argument(name, *value) : otherwise;
  }
  // The bytes of text[start:end], and how many lie before it.
  std::pair<std::string_view, size_t> part(const std::optional<Value>& start, const std::optional<Value>& end) const {
    if (!start && !end) return {text, 0};
    const auto count = static_cast<int64_t>(count_characters(text));
    const auto byte_of = [&](const std::optional<Value>& value, int64_t otherwise) {
      int64_t place = value && !value->is_none() ? integer_argument(name, *value) : otherwise;
      place = std::clamp<int64_t>(place < 0 ? place + count : place, 0, count);
      size_t byte = 0;
      for (; place > 0; --place) byte = next_character(text, byte);
      return byte;
    };
    const size_t first = byte_of(start, 0), last = byte_of(end, count);
    return {std::string_view(text).substr(first, last > first ? last - first : 0), first};
  }
};

Value affix(const TextCall& call, bool prefix) {
  const auto bound = call.bound({"prefix", "start", "end"}, 1);
  const std::string_view text = call.part(bound[1], bound[2]).first;
  const auto has = [&](const Value& value) {
    const std::string& part = text_argument(call.name, value);
    return prefix ? text.starts_with(part) : text.ends_with(part);
  };
  if (const Sequence* tuple = bound[0]->sequence(); tuple != nullptr && tuple->kind == Sequence::Kind::kTuple) {
    return std::any_of(tuple->items.begin(), tuple->items.end(), has);
  }
  return has(*bound[0]);
}

Value find(const TextCall& call, bool last, bool must) {
  const auto bound = call.bound({"sub", "start", "end"}, 1);
  const auto [text, before] = call.part(bound[1], bound[2]);
  const std::string& part = text_argument(call.name, *bound[0]);
  const size_t place = last ? text.rfind(part) : text.find(part);
  if (place != text.npos)
    return static_cast<int64_t>(count_characters(std::string_view(call.text).substr(0, before + place)));
  if (must) fail<OperationError>("'{}' does not find its argument", call.name);
  return int64_t{-1};
}

Value split_method(const TextCall& call, Side from) {
  const auto bound = call.bound({"sep", "maxsplit"});
  const auto separator = call.optional_text(bound[0]);
  if (separator && separator->empty()) fail<OperationError>("'{}' needs a separator that is not empty", call.name);
  return call.list(split(call.text, separator, call.integer(bound[1], -1), from));
}

Value strip_method(const TextCall& call, Side side) {
  return call.made(strip(call.text, side, call.optional_text(call.bound({"chars"})[0])));
}

Value justify(const TextCall& call, Side side) {
  const auto bound = call.bound({"width", "fillchar"}, 1);
  const std::string fill = bound[1] ? text_argument(call.name, *bound[1]) : " ";
  if (count_characters(fill) != 1) fail<OperationError>("'{}' needs one character to fill with", call.name);
  const auto count = static_cast<int64_t>(count_characters(call.text));
  const int64_t width = call.integer(bound[0], 0);
  const int64_t missing = width > count ? width - count : 0;
  call.budget.expect(static_cast<size_t>(missing) * fill.size());
  call.budget.work(static_cast<size_t>(missing) * fill.size());
  // CPython puts the odd one of a centred text to the left where the width is odd.
  const int64_t before = side == Side::kLeft ? 0 : side == Side::kRight ? missing : missing / 2 + (missing & width & 1);
  std::string result;
  for (int64_t i = 0; i < before; ++i) result += fill;
  result += call.text;
  for (int64_t i = before; i < missing; ++i) result += fill;
  return call.made(result);
}

Value zero_fill(const TextCall& call) {
  const int64_t width = call.integer(call.bound({"width"}, 1)[0], 0);
  const auto count = static_cast<int64_t>(count_characters(call.text));
  const auto missing = static_cast<size_t>(width > count ? width - count : 0);
  call.budget.expect(missing);
  call.budget.work(missing);
  const size_t sign = call.text.starts_with('-') || call.text.starts_with('+') ? 1 : 0;
  return call.made(call.text.substr(0, sign) + std::string(missing, '0') + call.text.substr(sign));
}

Value partition(const TextCall& call, bool last) {
  const std::string& separator = text_argument(call.name, *call.bound({"sep"}, 1)[0]);
  if (separator.empty()) fail<OperationError>("'{}' needs a separator that is not empty", call.name);
  const std::string_view text = call.text;
  const size_t place = last ? text.rfind(separator) : text.find(separator);
  std::string_view before = text, middle, after;
  if (place != text.npos) {
    before = text.substr(0, place), middle = separator, after = text.substr(place + separator.size());
  } else if (last) {
    std::swap(before, after);
  }
  return make_tuple(call.budget, {call.made(before), call.made(middle), call.made(after)});
}

Value join(const TextCall& call) {
  std::string result;
  bool first = true;
  for (const Value& item : iterate(call.budget, *call.bound({"iterable"}, 1)[0])) {
    const std::string& plain = text_argument(call.name, item);
    const std::string part = call.self.markup && !item.text()->markup ? escape_markup(plain) : plain;
    call.budget.expect(result.size() + call.text.size() + part.size());
    call.budget.work(call.text.size() + part.size());
    if (!first) result += call.text;
    result += part;
    first = false;
  }
  return call.made(result);
}

Value replace_method(const TextCall& call) {
  const auto bound = call.bound({"old", "new", "count"}, 2);
  const std::string &old = text_argument(call.name, *bound[0]), &plain = text_argument(call.name, *bound[1]);
  const std::string with = call.self.markup && !bound[1]->text()->markup ? escape_markup(plain) : plain;
  const int64_t most = call.integer(bound[2], -1);
  const size_t size = replaced_size(call.text, old, with, most);
  call.budget.expect(size);
  call.budget.work(size);
  return call.made(replace(call.text, old, with, most));
}

template <std::string (*Change)(std::string_view)>
Value changed(const TextCall& call) {
  call.bound({});
  return call.made(Change(call.text));
}

template <CharacterClass kOf>
Value is_class(const TextCall& call) {
  call.bound({});
  return is_all(call.text, kOf);
}

Value remove_affix(const TextCall& call, bool prefix) {
  const std::string& part = text_argument(call.name, *call.bound({prefix ? "prefix" : "suffix"}, 1)[0]);
  std::string_view text = call.text;
  if (prefix && text.starts_with(part)) text.remove_prefix(part.size());
  if (!prefix && text.ends_with(part)) text.remove_suffix(part.size());
  return call.made(text);
}

using TextMethod = Value (*)(const TextCall&);
const std::unordered_map<std::string_view, TextMethod>& text_methods() {
  static const std::unordered_map<std::string_view, TextMethod> methods = {
      {"upper", changed<upper>},
      {"lower", changed<lower>},
      {"title", changed<title>},
      {"capitalize", changed<capitalize>},
      {"swapcase", changed<swap_case>},
      {"strip", [](const TextCall& call) { return strip_method(call, Side::kBoth); }},
      {"lstrip", [](const TextCall& call) { return strip_method(call, Side::kLeft); }},
      {"rstrip", [](const TextCall& call) { return strip_method(call, Side::kRight); }},
      {"split", [](const TextCall& call) { return split_method(call, Side::kLeft); }},
      {"rsplit", [](const TextCall& call) { return split_method(call, Side::kRight); }},
      {"splitlines",
       [](const TextCall& call) {
         const auto bound = call.bound({"keepends"});
         return call.list(split_lines(call.text, bound[0] && bound[0]->truth()));
       }},
      {"startswith", [](const TextCall& call) { return affix(call, true); }},
      {"endswith", [](const TextCall& call) { return affix(call, false); }},
      {"removeprefix", [](const TextCall& call) { return remove_affix(call, true); }},
      {"removesuffix", [](const TextCall& call) { return remove_affix(call, false); }},
      {"replace", replace_method},
      {"join", join},
      {"find", [](const TextCall& call) { return find(call, false, false); }},
      {"rfind", [](const TextCall& call) { return find(call, true, false); }},
      {"index", [](const TextCall& call) { return find(call, false, true); }},
      {"rindex", [](const TextCall& call) { return find(call, true, true); }},
      {"count",
       [](const TextCall& call) -> Value {
         const auto bound = call.bound({"sub", "start", "end"}, 1);
         return count_parts(call.part(bound[1], bound[2]).first, text_argument(call.name, *bound[0]));
       }},
      {"partition", [](const TextCall& call) { return partition(call, false); }},
      {"rpartition", [](const TextCall& call) { return partition(call, true); }},
      {"ljust", [](const TextCall& call) { return justify(call, Side::kLeft); }},
      {"rjust", [](const TextCall& call) { return justify(call, Side::kRight); }},
      {"center", [](const TextCall& call) { return justify(call, Side::kBoth); }},
      {"zfill", zero_fill},
      {"format", [](const TextCall& call) { return call.made(format_braces(call.budget, call.text, call.arguments)); }},
      {"isalpha", is_class<CharacterClass::kAlpha>},
      {"isalnum", is_class<CharacterClass::kAlphanumeric>},
      {"isdecimal", is_class<CharacterClass::kDecimal>},
      {"isdigit", is_class<CharacterClass::kDigit>},
      {"isnumeric", is_class<CharacterClass::kNumeric>},
      {"isspace", is_class<CharacterClass::kSpace>},
      {"isupper", is_class<CharacterClass::kUpper>},
      {"islower", is_class<CharacterClass::kLower>},
  };
  return methods;
}

// Python has them, Octet does not.
const Names kOtherTextMethods = {"casefold",     "encode",      "expandtabs", "format_map", "isascii",
                                 "isidentifier", "isprintable", "istitle",    "maketrans",  "translate"};
const Names kListMethods = {"copy", "count", "index"}, kTupleMethods = {"count", "index"};
const Names kListChanges = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
const Names kDictMethods = {"copy", "fromkeys", "get", "items", "keys", "values"};
const Names kDictChanges = {"clear", "pop", "popitem", "setdefault", "update"};
const Names kLoopMethods = {"cycle", "changed"};

Value call_list_method(Budget& budget, const Sequence& list, std::string_view name, const CallArguments& arguments) {
  refuse_keywords(name, arguments);
  if (name == "copy") {
    bind(name, arguments, {});
    return std::make_shared<const Sequence>(budget, list.kind, list.items);
  }
  const bool counts = name == "count";
  const Value item =
      *(counts ? bind(name, arguments, {"value"}, 1) : bind(name, arguments, {"value", "start", "stop"}, 1))[0];
  if (!counts && arguments.positional.size() > 1)
    throw OperationError("'index' within a part of a list is not supported");
  int64_t count = 0;
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (!equal(budget, list.items[i], item)) continue;
    if (!counts) return static_cast<int64_t>(i);
    ++count;
  }
  if (!counts) throw OperationError("'index' does not find its argument");
  return count;
}

Value call_dict_method(Budget& budget, const Value& self, std::string_view name, const CallArguments& arguments) {
  refuse_keywords(name, arguments);
  const Dict& dict = *self.dict();
  if (name == "get") {
    const auto bound = bind(name, arguments, {"key", "default"}, 1);
    const Value* found = dict.find(*bound[0]);
    return found != nullptr ? *found : bound[1].value_or(Value());
  }
  if (name == "fromkeys") throw OperationError("the method 'fromkeys' is not supported");
  bind(name, arguments, {});
  if (name == "copy") return self;  // it cannot change
  std::vector<Value> items;
  budget.step(static_cast<int64_t>(dict.entries().size()));
  for (const auto& [key, value] : dict.entries()) {
    items.push_back(name == "keys" ? key : name == "values" ? value : make_tuple(budget, {key, value}));
  }
  const auto kind = name == "keys"     ? Sequence::Kind::kKeys
                    : name == "values" ? Sequence::Kind::kValues
                                       : Sequence::Kind::kItems;
  return std::make_shared<const Sequence>(budget, kind, std::move(items));
}

}  // namespace

MethodKind method_kind(const Value& object, std::string_view name) {
  const auto kind = [&](bool method, bool changes) {
    return changes ? MethodKind::kChanges : method ? MethodKind::kMethod : MethodKind::kNone;
  };
  if (object.text() != nullptr) return kind(text_methods().contains(name) || kOtherTextMethods.contains(name), false);
  if (object.dict() != nullptr) return kind(kDictMethods.contains(name), kDictChanges.contains(name));
  if (object.loop() != nullptr) return kind(kLoopMethods.contains(name), false);
  if (const Sequence* sequence = object.sequence()) {
    if (sequence->kind == Sequence::Kind::kList) return kind(kListMethods.contains(name), kListChanges.contains(name));
    return kind(sequence->indexed() && kTupleMethods.contains(name), false);
  }
  return MethodKind::kNone;
}

Value call_method(Budget& budget, const Value& self, std::string_view name, const CallArguments& arguments) {
  budget.step();
  if (const Text* text = self.text()) {
    const auto found = text_methods().find(name);
    if (found == text_methods().end()) fail<OperationError>("the method '{}' of strings is not supported", name);
    budget.work(text->bytes.size());
    return found->second({budget, *text, text->bytes, name, arguments});
  }
  if (self.dict() != nullptr) return call_dict_method(budget, self, name, arguments);
  if (const Loop* loop = self.loop()) {
    if (name != "cycle") fail<OperationError>("'loop.{}' is not supported", name);
    if (arguments.positional.empty()) throw OperationError("'loop.cycle' has nothing to choose from");
    return arguments.positional[loop->index0 % arguments.positional.size()];
  }
  return call_list_method(budget, *self.sequence(), name, arguments);
}

}  // namespace octet::jinja

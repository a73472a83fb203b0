// SPDX-License-Identifier: Apache-2.0
#include "octet/text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/text/jinja/python_text.h"

namespace octet::jinja {
namespace {

// Values inside one another; Python's own functions on them end near 1000.
constexpr int kDeepest = 200;

int checked_depth(int depth) {
  if (depth > kDeepest) fail<OperationError>("values more than {} levels inside one another", kDeepest);
  return depth;
}

template <class Values>
int depth_of(const Values& values) {
  int deepest = 0;
  for (const Value& value : values) deepest = std::max(deepest, value.depth());
  return checked_depth(deepest + 1);
}

// Of a node of the map in Dict and its list, beside the key's text.
constexpr size_t kEntryBytes = sizeof(Dict::Entry) + 96;

}  // namespace

Value Value::undefined(std::string why) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(why))};
  return value;
}

std::optional<int64_t> Value::integer() const {
  if (is_bool()) return boolean() ? 1 : 0;
  const int64_t* held = std::get_if<int64_t>(&data_);
  return held == nullptr ? std::nullopt : std::optional(*held);
}

std::optional<double> Value::number() const {
  if (is_float()) return floating();
  const std::optional<int64_t> whole = integer();
  return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
}

const std::string* Value::why_undefined() const {
  const Undefined* held = std::get_if<Undefined>(&data_);
  return held == nullptr ? nullptr : held->why.get();
}

bool Value::truth() const {
  if (is_none() || is_undefined()) return false;
  if (const auto value = number()) return *value != 0;
  if (const Text* string = text()) return !string->bytes.empty();
  if (const Dict* mapping = dict()) return !mapping->entries().empty();
  if (const Sequence* list = sequence()) return list->kind == Sequence::Kind::kIterator || !list->items.empty();
  return true;
}

int Value::depth() const {
  if (const Sequence* list = sequence()) return list->depth;
  if (const Dict* mapping = dict()) return mapping->depth();
  if (const Loop* of_items = loop()) return of_items->depth;
  if (const Callable* function = callable()) return 1 + function->self.depth();
  return 0;
}

std::string_view Value::type_name() const {
  if (is_none()) return "NoneType";
  if (is_undefined()) return "Undefined";
  if (is_bool()) return "bool";
  if (is_integer()) return "int";
  if (is_float()) return "float";
  if (const Text* string = text()) return string->markup ? "Markup" : "str";
  if (dict() != nullptr) return "dict";
  if (loop() != nullptr) return "LoopContext";
  if (name_space() != nullptr) return "Namespace";
  if (const Callable* function = callable()) return function->kind == Callable::Kind::kMacro ? "Macro" : "function";
  switch (sequence()->kind) {
    case Sequence::Kind::kList:
      return "list";
    case Sequence::Kind::kTuple:
      return "tuple";
    case Sequence::Kind::kRange:
      return "range";
    case Sequence::Kind::kIterator:
      return "generator";
    case Sequence::Kind::kKeys:
      return "dict_keys";
    case Sequence::Kind::kValues:
      return "dict_values";
    case Sequence::Kind::kItems:
      return "dict_items";
  }
  return "";
}

bool Value::same_as(const Value& other) const {
  if (data_.index() != other.data_.index()) return false;
  return std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        const Held& theirs = std::get<Held>(other.data_);
        if constexpr (std::is_same_v<Held, Undefined>) {
          return held.why == theirs.why;
        } else {
          return held == theirs;
        }
      },
      data_);
}

Sequence::Sequence(Budget& budget, Kind of_kind, std::vector<Value> all, Range of_range)
    : kind(of_kind),
      items(std::move(all)),
      range(of_range),
      depth(depth_of(items)),
      charge(budget, sizeof(Sequence) + items.capacity() * sizeof(Value)) {}

Loop::Loop(Budget& budget, std::vector<Value> all)
    : items(std::move(all)), depth(depth_of(items)), charge(budget, sizeof(Loop) + items.capacity() * sizeof(Value)) {}

void Dict::set(const Value& key, Value value) {
  std::string hash = hash_key(*budget_, key);
  depth_ = checked_depth(std::max({depth_, key.depth() + 1, value.depth() + 1}));
  const auto [place, is_new] = places_.try_emplace(std::move(hash), entries_.size());
  if (!is_new) {
    entries_[place->second].second = std::move(value);
    return;
  }
  const size_t bytes = kEntryBytes + place->first.size();
  budget_->hold(bytes);
  held_ += bytes;
  entries_.emplace_back(key, std::move(value));
}

const Value* Dict::find(const Value& key) const {
  const auto found = places_.find(hash_key(*budget_, key));
  return found == places_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = places_.find(fmt::format("s{}", key));
  return found == places_.end() ? nullptr : &entries_[found->second].second;
}

std::string hash_key(Budget& budget, const Value& value) {
  budget.step();
  if (const Text* text = value.text()) return fmt::format("s{}", text->bytes);
  if (value.is_none()) return "n";
  if (value.is_undefined()) return "u";
  if (const auto whole = value.integer()) return fmt::format("i{}", *whole);
  if (value.is_float()) {
    const double number = value.floating();
    // A float that is a whole number is the same key as that number.
    if (number == std::floor(number) && std::fabs(number) < 0x1p62)
      return fmt::format("i{}", static_cast<int64_t>(number));
    return fmt::format("f{}", float_repr(number));
  }
  if (const Sequence* tuple = value.sequence(); tuple != nullptr && tuple->kind == Sequence::Kind::kTuple) {
    std::string key = "t";
    for (const Value& item : tuple->items) {
      const std::string part = hash_key(budget, item);
      budget.expect(key.size() + part.size());
      key += fmt::format("{}:", part.size());
      key += part;
    }
    return key;
  }
  fail<OperationError>("a value of type '{}' cannot be the key of a dict", value.type_name());
}

std::vector<std::optional<Value>> bind(std::string_view function, const CallArguments& arguments,
                                       std::initializer_list<std::string_view> names, size_t required) {
  std::vector<std::optional<Value>> bound(names.size());
  if (arguments.positional.size() > names.size()) {
    fail<OperationError>("'{}' takes {} arguments at most, and {} are given", function, names.size(),
                         arguments.positional.size());
  }
  std::copy(arguments.positional.begin(), arguments.positional.end(), bound.begin());
  for (const auto& [name, value] : arguments.keywords) {
    const auto place = std::find(names.begin(), names.end(), name);
    if (place == names.end()) fail<OperationError>("'{}' has no argument '{}'", function, name);
    std::optional<Value>& slot = bound[static_cast<size_t>(place - names.begin())];
    if (slot) fail<OperationError>("'{}' is given its argument '{}' twice", function, name);
    slot = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!bound[i]) fail<OperationError>("'{}' needs its argument '{}'", function, names.begin()[i]);
  }
  return bound;
}

Value make_text(Budget& budget, std::string text, bool markup) {
  return std::make_shared<const Text>(budget, std::move(text), markup);
}

Value make_list(Budget& budget, std::vector<Value> items) {
  return std::make_shared<const Sequence>(budget, Sequence::Kind::kList, std::move(items));
}

Value make_tuple(Budget& budget, std::vector<Value> items) {
  return std::make_shared<const Sequence>(budget, Sequence::Kind::kTuple, std::move(items));
}

Value make_iterator(Budget& budget, std::vector<Value> items) {
  return std::make_shared<const Sequence>(budget, Sequence::Kind::kIterator, std::move(items));
}

Value make_integer(std::optional<int64_t> value) {
  if (!value) throw OperationError("an integer grows beyond 64 bits, which Octet does not compute with");
  return *value;
}

namespace {

Value convert(Budget& budget, const nlohmann::ordered_json& json, int depth) {
  checked_depth(depth);
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      return make_integer(std::in_range<int64_t>(number) ? std::optional(static_cast<int64_t>(number)) : std::nullopt);
    }
    case nlohmann::ordered_json::value_t::number_float:
      return json.get<double>();
    case nlohmann::ordered_json::value_t::string:
      return make_text(budget, valid_utf8(json.get_ref<const std::string&>()));
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const nlohmann::ordered_json& item : json) items.push_back(convert(budget, item, depth + 1));
      return make_list(budget, std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      auto dict = std::make_shared<Dict>(budget);
      for (const auto& [key, value] : json.items())
        dict->set(make_text(budget, valid_utf8(key)), convert(budget, value, depth + 1));
      return std::shared_ptr<const Dict>(std::move(dict));
    }
    default:
      return {};
  }
}

}  // namespace

Value from_json(Budget& budget, const nlohmann::ordered_json& json) { return convert(budget, json, 0); }

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.text() != nullptr || value.sequence() != nullptr || value.dict() != nullptr ||
         value.loop() != nullptr;
}

std::vector<Value> iterate(Budget& budget, const Value& value) {
  if (value.is_undefined()) return {};
  if (const Sequence* sequence = value.sequence()) {
    if (sequence->kind == Sequence::Kind::kIterator && std::exchange(sequence->taken, true)) return {};
    budget.step(static_cast<int64_t>(sequence->items.size()));
    return sequence->items;
  }
  std::vector<Value> items;
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, held] : dict->entries()) items.push_back(key);
    budget.step(static_cast<int64_t>(items.size()));
    return items;
  }
  if (const Text* text = value.text()) {
    const std::string_view bytes = text->bytes;
    for (size_t begin = 0; begin < bytes.size();) {
      const size_t end = next_character(bytes, begin);
      budget.step();
      items.push_back(make_text(budget, std::string(bytes.substr(begin, end - begin))));
      begin = end;
    }
    return items;
  }
  fail<OperationError>("a value of type '{}' cannot be iterated over", value.type_name());
}

}  // namespace octet::jinja

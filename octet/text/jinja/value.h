// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "octet/text/jinja/budget.h"

/// The values of Jinja templates: Python's, as far as templates can make them. Lists and dicts never change once made
/// (transformers' sandbox forbids it), so they are shared and form no cycles; what changes, namespaces, belongs to the
/// interpreter.
namespace octet::jinja {

class Dict;
struct Text;
struct Sequence;
struct Namespace;
struct Loop;
struct Callable;

struct None {
  bool operator==(const None&) const = default;
};
/// Prints as nothing; most other uses are errors that say `why`.
struct Undefined {
  std::shared_ptr<const std::string> why;
};

class Value {
 public:
  Value() : data_(None{}) {}
  Value(bool value) : data_(value) {}  // NOLINT: a value is what it holds
  Value(const char*) = delete;         ///< would be a bool
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::shared_ptr<const Text> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Sequence> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Dict> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Loop> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Callable> value) : data_(std::move(value)) {}
  Value(Namespace* value) : data_(value) {}
  static Value undefined(std::string why);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(data_); }  ///< and no bool
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_integer() || is_float(); }

  bool boolean() const { return std::get<bool>(data_); }
  double floating() const { return std::get<double>(data_); }
  /// Of a bool too, as in Python; none for other values.
  std::optional<int64_t> integer() const;
  /// Of any number; none for other values.
  std::optional<double> number() const;
  const std::string* why_undefined() const;

  // Null where the value is of another kind.
  const Text* text() const { return get<std::shared_ptr<const Text>>(); }
  const Sequence* sequence() const { return get<std::shared_ptr<const Sequence>>(); }
  const Dict* dict() const { return get<std::shared_ptr<const Dict>>(); }
  const Loop* loop() const { return get<std::shared_ptr<const Loop>>(); }
  const Callable* callable() const { return get<std::shared_ptr<const Callable>>(); }
  Namespace* name_space() const {
    Namespace* const* held = std::get_if<Namespace*>(&data_);
    return held == nullptr ? nullptr : *held;
  }

  /// Python's truth of a value.
  bool truth() const;
  /// Levels of values inside this one. What walks a value recurses, so it is bounded.
  int depth() const;
  /// Python's name of its type: "str", "list".
  std::string_view type_name() const;
  /// Python's `is`.
  bool same_as(const Value& other) const;

 private:
  template <class Pointer>
  auto get() const -> decltype(std::declval<Pointer>().get()) {
    const Pointer* held = std::get_if<Pointer>(&data_);
    return held == nullptr ? nullptr : held->get();
  }

  std::variant<None, Undefined, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Dict>, std::shared_ptr<const Loop>, std::shared_ptr<const Callable>, Namespace*>
      data_;
};

/// A string, UTF-8.
struct Text {
  Text(Budget& budget, std::string text, bool safe)
      : bytes(std::move(text)), markup(safe), charge(budget, sizeof(Text) + bytes.capacity()) {}
  /// A literal of the template, which is not counted.
  explicit Text(std::string text) : bytes(std::move(text)) {}

  std::string bytes;
  bool markup = false;  ///< markupsafe's Markup: what `+` adds to it is escaped
  Charge charge;
};

struct Range {
  int64_t start = 0, stop = 0, step = 1;
};

/// What is iterated by place.
struct Sequence {
  enum class Kind : uint8_t {
    kList,
    kTuple,
    kRange,
    kIterator,  ///< a generator's, of filters as map: gives its items once
    kKeys,      ///< of a dict, as the next two
    kValues,
    kItems,
  };
  Sequence(Budget& budget, Kind kind, std::vector<Value> items, Range range = {});

  /// Whether items are had by their place.
  bool indexed() const { return kind == Kind::kList || kind == Kind::kTuple || kind == Kind::kRange; }

  Kind kind;
  std::vector<Value> items;
  Range range;  ///< of a kRange, whose items are there too
  int depth;
  mutable bool taken = false;  ///< an iterator's items have been given
  Charge charge;
};

/// A mapping in the order in which keys were added.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;
  explicit Dict(Budget& budget) : budget_(&budget) {}
  Dict(const Dict&) = delete;
  Dict& operator=(const Dict&) = delete;
  ~Dict() { budget_->release(held_); }

  /// Only while the dict is being made. Throws OperationError for a key that Python cannot hash.
  void set(const Value& key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<Entry>& entries() const { return entries_; }
  int depth() const { return depth_; }

 private:
  Budget* budget_;
  size_t held_ = 0;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> places_;  ///< of hash_key(key) in entries_
  int depth_ = 1;
};

struct Namespace {
  std::map<std::string, Value, std::less<>> attributes;
};

/// The variable `loop`.
struct Loop {
  Loop(Budget& budget, std::vector<Value> all);

  std::vector<Value> items;
  int depth;
  size_t index0 = 0;
  Charge charge;
};

struct Macro;
struct Scope;

/// What can be called: a global function, a method bound to its object, or a macro.
struct Callable {
  enum class Kind : uint8_t { kFunction, kMethod, kMacro };
  Kind kind;
  std::string name;
  Value self = {};               ///< of a method
  const Macro* macro = nullptr;  ///< of the template's tree
  Scope* scope = nullptr;        ///< the interpreter's, where a macro was defined
};

/// Positional and keyword arguments of a call.
struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

/// The arguments in the order of `names`, none where one was not given. Throws OperationError, naming `function`, for
/// arguments that are not on the list or given twice, and where one of the first `required` is missing.
std::vector<std::optional<Value>> bind(std::string_view function, const CallArguments& arguments,
                                       std::initializer_list<std::string_view> names, size_t required = 0);

/// What two keys that Python holds for equal have in common. Throws OperationError for values that have no hash.
std::string hash_key(Budget& budget, const Value& value);

Value make_text(Budget& budget, std::string text, bool markup = false);
Value make_list(Budget& budget, std::vector<Value> items);
Value make_tuple(Budget& budget, std::vector<Value> items);
Value make_iterator(Budget& budget, std::vector<Value> items);
Value make_integer(std::optional<int64_t> value);  ///< throws OperationError for none: beyond 64 bits

/// Throws OperationError where a number does not fit in 64 bits or the value nests too deep. Bytes that are not UTF-8
/// become U+FFFD.
Value from_json(Budget& budget, const nlohmann::ordered_json& json);

/// The items that a `for` would see. Throws OperationError where there are none to see. An iterator's are taken.
std::vector<Value> iterate(Budget& budget, const Value& value);
/// Python's iter(value) would do.
bool is_iterable(const Value& value);

/// Python's str and repr. Throw OperationError where they would show an address.
std::string to_str(Budget& budget, const Value& value);
std::string to_repr(Budget& budget, const Value& value);
/// Python's json.dumps with the arguments of transformers' tojson.
std::string to_json(Budget& budget, const Value& value, const CallArguments& arguments);

}  // namespace octet::jinja

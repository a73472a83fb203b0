// SPDX-License-Identifier: Apache-2.0
#include "octet/text/jinja/operations.h"

#include <algorithm>
#include <cmath>

#include "octet/base/error.h"
#include "octet/text/jinja/python_text.h"

namespace octet::jinja {

const Value& defined(const Value& value) {
  if (const std::string* why = value.why_undefined()) throw OperationError(*why);
  return value;
}

int64_t integer_argument(std::string_view function, const Value& value) {
  const auto number = defined(value).integer();
  if (!number)
    fail<OperationError>("'{}' needs an integer where a value of type '{}' is given", function, value.type_name());
  return *number;
}

const std::string& text_argument(std::string_view function, const Value& value) {
  const Text* text = defined(value).text();
  if (text == nullptr) {
    fail<OperationError>("'{}' needs a string where a value of type '{}' is given", function, value.type_name());
  }
  return text->bytes;
}

// ---- comparisons

bool equal(Budget& budget, const Value& a, const Value& b) {
  budget.step();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    // A long double holds every int64 and every double.
    if (x && y) return *x == *y;
    return (x ? static_cast<long double>(*x) : *a.number()) == (y ? static_cast<long double>(*y) : *b.number());
  }
  if (a.text() != nullptr && b.text() != nullptr) {
    budget.work(std::min(a.text()->bytes.size(), b.text()->bytes.size()));
    return a.text()->bytes == b.text()->bytes;
  }
  if (const Sequence* x = a.sequence(), *y = b.sequence(); x != nullptr && y != nullptr) {
    if (x == y) return true;
    if (x->kind != y->kind || x->kind == Sequence::Kind::kIterator || x->kind == Sequence::Kind::kValues) return false;
    return x->items.size() == y->items.size() &&
           std::equal(x->items.begin(), x->items.end(), y->items.begin(),
                      [&](const Value& one, const Value& other) { return equal(budget, one, other); });
  }
  if (const Dict* x = a.dict(), *y = b.dict(); x != nullptr && y != nullptr) {
    if (x->entries().size() != y->entries().size()) return false;
    return std::all_of(x->entries().begin(), x->entries().end(), [&](const Dict::Entry& entry) {
      const Value* theirs = y->find(entry.first);
      return theirs != nullptr && equal(budget, entry.second, *theirs);
    });
  }
  return a.same_as(b);
}

namespace {

template <class T>
bool ordered(std::string_view symbol, const T& a, const T& b) {
  if (symbol == "<") return a < b;
  if (symbol == "<=") return a <= b;
  if (symbol == ">") return a > b;
  return a >= b;
}

bool compare_order(Budget& budget, std::string_view symbol, const Value& a, const Value& b) {
  budget.step();
  defined(a), defined(b);
  if (a.is_number() && b.is_number()) {
    const auto x = a.integer(), y = b.integer();
    return ordered<long double>(symbol, x ? static_cast<long double>(*x) : *a.number(),
                                y ? static_cast<long double>(*y) : *b.number());
  }
  if (a.text() != nullptr && b.text() != nullptr) {
    budget.work(std::min(a.text()->bytes.size(), b.text()->bytes.size()));
    // The order of UTF-8's bytes is that of code points.
    return ordered(symbol, a.text()->bytes.compare(b.text()->bytes), 0);
  }
  const Sequence *x = a.sequence(), *y = b.sequence();
  if (x != nullptr && y != nullptr && x->kind == y->kind &&
      (x->kind == Sequence::Kind::kList || x->kind == Sequence::Kind::kTuple)) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
      if (!equal(budget, x->items[i], y->items[i])) return compare_order(budget, symbol, x->items[i], y->items[i]);
    }
    return ordered(symbol, x->items.size(), y->items.size());
  }
  fail<OperationError>("'{}' is not possible between '{}' and '{}'", symbol, a.type_name(), b.type_name());
}

}  // namespace

bool compare(Budget& budget, std::string_view symbol, const Value& a, const Value& b) {
  if (symbol == "==") return equal(budget, a, b);
  if (symbol == "!=") return !equal(budget, a, b);
  if (symbol == "in") return contains(budget, b, a);
  if (symbol == "not in") return !contains(budget, b, a);
  return compare_order(budget, symbol, a, b);
}

bool contains(Budget& budget, const Value& container, const Value& item) {
  if (const Text* text = container.text()) {
    const std::string& part = text_argument("in", item);
    budget.work(text->bytes.size() + part.size());
    return text->bytes.find(part) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return dict->find(item) != nullptr;
  if (const Sequence* sequence = container.sequence();
      sequence != nullptr && sequence->kind != Sequence::Kind::kIterator) {
    return std::any_of(sequence->items.begin(), sequence->items.end(),
                       [&](const Value& one) { return equal(budget, one, item); });
  }
  for (const Value& one : iterate(budget, container)) {
    if (equal(budget, one, item)) return true;
  }
  return false;
}

// ---- arithmetic

namespace {

[[noreturn]] void no_operands(std::string_view symbol, const Value& a, const Value& b) {
  fail<OperationError>("'{}' is not possible between '{}' and '{}'", symbol, a.type_name(), b.type_name());
}

std::optional<int64_t> power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (;;) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return std::nullopt;
    exponent >>= 1;
    if (exponent == 0) return result;
    if (__builtin_mul_overflow(base, base, &base)) return std::nullopt;
  }
}

Value integer_arithmetic(std::string_view symbol, int64_t a, int64_t b) {
  int64_t result = 0;
  if (symbol == "+") return make_integer(__builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional(result));
  if (symbol == "-") return make_integer(__builtin_sub_overflow(a, b, &result) ? std::nullopt : std::optional(result));
  if (symbol == "*") return make_integer(__builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional(result));
  if (symbol == "**") {
    if (b >= 0) return make_integer(power(a, b));
    if (a == 0) throw OperationError("zero cannot be raised to a negative power");
    return std::pow(static_cast<double>(a), static_cast<double>(b));
  }
  if (b == 0) throw OperationError("division by zero");
  if (symbol == "/") return static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b));
  if (b == -1)
    return symbol == "%" ? Value(int64_t{0}) : integer_arithmetic("-", 0, a);  // the smallest has no negative
  const int64_t quotient = a / b, remainder = a % b;
  const bool below = remainder != 0 && (remainder < 0) != (b < 0);  // rounded to zero, where Python rounds down
  return symbol == "//" ? quotient - (below ? 1 : 0) : remainder + (below ? b : 0);
}

Value float_arithmetic(std::string_view symbol, double a, double b) {
  if (symbol == "+") return a + b;
  if (symbol == "-") return a - b;
  if (symbol == "*") return a * b;
  if (symbol == "**") {
    if (a == 0 && b < 0) throw OperationError("zero cannot be raised to a negative power");
    const double result = std::pow(a, b);
    if (std::isfinite(a) && std::isfinite(b)) {
      if (std::isnan(result)) throw OperationError("a fractional power of a negative number is complex");
      if (std::isinf(result)) throw OperationError("a power is too large for a float");
    }
    return result;
  }
  if (b == 0) throw OperationError("division by zero");
  if (symbol == "/") return a / b;
  // As CPython's float_divmod: the remainder has b's sign, and the quotient is rounded to the nearest whole number.
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder == 0) {
    remainder = std::copysign(0.0, b);
  } else if ((b < 0) != (remainder < 0)) {
    remainder += b;
    quotient -= 1;
  }
  if (symbol == "%") return remainder;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

Value repeat(Budget& budget, const Value& value, int64_t times) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  const auto checked = [&](size_t size, size_t bytes) {
    size_t total = 0;
    if (__builtin_mul_overflow(size, count, &total) || total > SIZE_MAX / 64) total = SIZE_MAX / 64;
    budget.expect(total * bytes);
    budget.work(total * bytes);
  };
  if (const Text* text = value.text()) {
    checked(text->bytes.size(), 1);
    std::string result;
    result.reserve(text->bytes.size() * count);
    for (size_t i = 0; i < count && !text->bytes.empty(); ++i) result += text->bytes;
    return make_text(budget, std::move(result), text->markup);
  }
  const Sequence& sequence = *value.sequence();
  checked(sequence.items.size(), sizeof(Value));
  std::vector<Value> items;
  for (size_t i = 0; i < count && !sequence.items.empty(); ++i)
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  return std::make_shared<const Sequence>(budget, sequence.kind, std::move(items));
}

// A list or a tuple, or null.
const Sequence* list_or_tuple(const Value& value) {
  const Sequence* sequence = value.sequence();
  const bool is =
      sequence != nullptr && (sequence->kind == Sequence::Kind::kList || sequence->kind == Sequence::Kind::kTuple);
  return is ? sequence : nullptr;
}

Value add(Budget& budget, const Value& a, const Value& b) {
  if (const Text* x = a.text(), *y = b.text(); x != nullptr && y != nullptr) {
    // Beside markup, plain text is escaped.
    const bool markup = x->markup || y->markup;
    budget.expect(x->bytes.size() + y->bytes.size());
    budget.work(x->bytes.size() + y->bytes.size());
    const auto part = [&](const Text& text) { return markup && !text.markup ? escape_markup(text.bytes) : text.bytes; };
    return make_text(budget, part(*x) + part(*y), markup);
  }
  const Sequence *x = list_or_tuple(a), *y = list_or_tuple(b);
  if (x == nullptr || y == nullptr || x->kind != y->kind) no_operands("+", a, b);
  budget.step(static_cast<int64_t>(x->items.size() + y->items.size()));
  std::vector<Value> items;
  items.reserve(x->items.size() + y->items.size());
  items.insert(items.end(), x->items.begin(), x->items.end());
  items.insert(items.end(), y->items.begin(), y->items.end());
  return std::make_shared<const Sequence>(budget, x->kind, std::move(items));
}

}  // namespace

Value arithmetic(Budget& budget, std::string_view symbol, const Value& a, const Value& b) {
  budget.step();
  if (symbol == "%" && a.text() != nullptr) {
    return make_text(budget, format_percent(budget, a.text()->bytes, b), a.text()->markup);
  }
  defined(a), defined(b);
  if (a.is_number() && b.is_number()) {
    if (a.integer() && b.integer()) return integer_arithmetic(symbol, *a.integer(), *b.integer());
    return float_arithmetic(symbol, *a.number(), *b.number());
  }
  if (symbol == "+") return add(budget, a, b);
  if (symbol == "*") {
    const auto repeats = [](const Value& one) { return one.text() != nullptr || list_or_tuple(one) != nullptr; };
    if (repeats(a) && b.integer()) return repeat(budget, a, *b.integer());
    if (repeats(b) && a.integer()) return repeat(budget, b, *a.integer());
  }
  no_operands(symbol, a, b);
}

Value negative(const Value& value) {
  if (const auto whole = defined(value).integer()) return integer_arithmetic("-", 0, *whole);
  if (value.is_float()) return -value.floating();
  fail<OperationError>("a value of type '{}' has no negative", value.type_name());
}

// ---- attributes and items

namespace {

std::string object_name(const Value& object) {
  return object.is_none() ? "None" : fmt::format("{} object", object.type_name());
}

Value no_attribute(const Value& object, std::string_view name) {
  return Value::undefined(fmt::format("'{}' has no attribute '{}'", object_name(object), name));
}

// Python's numbers have some, which no chat template needs.
void refuse_number_attribute(const Value& number, std::string_view name) {
  for (const std::string_view known :
       {"real", "imag", "conjugate", "numerator", "denominator", "as_integer_ratio", "bit_length", "bit_count",
        "to_bytes", "from_bytes", "is_integer", "hex", "fromhex"}) {
    if (name == known) fail<OperationError>("the attribute '{}' of a {} is not supported", name, number.type_name());
  }
}

Value loop_attribute(const Loop& loop, std::string_view name, bool& found) {
  const auto count = static_cast<int64_t>(loop.items.size());
  const auto index0 = static_cast<int64_t>(loop.index0);
  found = true;
  if (name == "index") return index0 + 1;
  if (name == "index0") return index0;
  if (name == "revindex") return count - index0;
  if (name == "revindex0") return count - index0 - 1;
  if (name == "first") return index0 == 0;
  if (name == "last") return index0 + 1 >= count;
  if (name == "length") return count;
  if (name == "depth") return int64_t{1};
  if (name == "depth0") return int64_t{0};
  if (name == "previtem")
    return index0 == 0 ? Value::undefined("there is no previous item") : loop.items[loop.index0 - 1];
  if (name == "nextitem") {
    return index0 + 1 >= count ? Value::undefined("there is no next item") : loop.items[loop.index0 + 1];
  }
  found = false;
  return {};
}

}  // namespace

Value own_attribute(Budget& budget, const Value& object, std::string_view name) {
  budget.step();
  if (const Namespace* space = defined(object).name_space()) {
    const auto found = space->attributes.find(name);
    return found == space->attributes.end() ? no_attribute(object, name) : found->second;
  }
  if (const Loop* loop = object.loop()) {
    bool found = false;
    Value value = loop_attribute(*loop, name, found);
    if (found) return value;
  }
  switch (method_kind(object, name)) {
    case MethodKind::kNone:
      if (object.is_number()) refuse_number_attribute(object, name);
      return no_attribute(object, name);
    case MethodKind::kChanges:
      return Value::undefined(
          fmt::format("the method '{}' would change a {}, which a chat template may not", name, object.type_name()));
    case MethodKind::kMethod:
      break;
  }
  return std::make_shared<const Callable>(
      Callable{.kind = Callable::Kind::kMethod, .name = std::string(name), .self = object});
}

Value get_attribute(Budget& budget, const Value& object, std::string_view name) {
  if (const Dict* dict = object.dict(); dict != nullptr && method_kind(object, name) == MethodKind::kNone) {
    budget.step();
    if (const Value* item = dict->find(name)) return *item;
  }
  return own_attribute(budget, object, name);
}

Value get_item(Budget& budget, const Value& object, const Value& key) {
  budget.step();
  defined(object);
  const auto index = key.integer();
  if (const Dict* dict = object.dict()) {
    const bool hashable =
        key.dict() == nullptr && (key.sequence() == nullptr || key.sequence()->kind == Sequence::Kind::kTuple);
    if (const Value* item = hashable ? dict->find(key) : nullptr) return *item;
  } else if (const Sequence* sequence = object.sequence(); sequence != nullptr && sequence->indexed() && index) {
    const auto count = static_cast<int64_t>(sequence->items.size());
    if (*index < count && *index >= -count)
      return sequence->items[static_cast<size_t>(*index < 0 ? *index + count : *index)];
  } else if (const Text* text = object.text(); text != nullptr && index) {
    budget.work(text->bytes.size());
    const auto count = static_cast<int64_t>(count_characters(text->bytes));
    if (*index < count && *index >= -count) {
      size_t begin = 0;
      for (int64_t i = *index < 0 ? *index + count : *index; i > 0; --i) begin = next_character(text->bytes, begin);
      return make_text(budget, text->bytes.substr(begin, next_character(text->bytes, begin) - begin), text->markup);
    }
  }
  if (key.text() != nullptr) return own_attribute(budget, object, key.text()->bytes);
  return Value::undefined(fmt::format("{} has no element {}", object_name(object), to_repr(budget, key)));
}

Value get_slice(Budget& budget, const Value& object, const Value& start, const Value& stop, const Value& step) {
  defined(object);
  const Sequence* sequence = object.sequence();
  const Text* text = object.text();
  if (text == nullptr && (sequence == nullptr || !sequence->indexed())) {
    fail<OperationError>("a value of type '{}' has no slices", object.type_name());
  }
  const auto bound = [&](const Value& value) -> std::optional<int64_t> {
    if (value.is_none()) return std::nullopt;
    return integer_argument("[:]", value);
  };
  const std::u32string characters = text == nullptr ? std::u32string() : to_code_points(text->bytes);
  if (text != nullptr) budget.work(text->bytes.size());
  const auto count = static_cast<int64_t>(text != nullptr ? characters.size() : sequence->items.size());
  const int64_t stride = bound(step).value_or(1);
  if (stride == 0) throw OperationError("the step of a slice is zero");
  // Places before the first and behind the last, as the direction has them.
  const int64_t lowest = stride > 0 ? 0 : -1, highest = stride > 0 ? count : count - 1;
  const auto place = [&](std::optional<int64_t> value, int64_t otherwise) {
    if (!value) return otherwise;
    return std::clamp(*value < 0 ? (*value < -count ? -1 : *value + count) : *value, lowest, highest);
  };
  const int64_t first = place(bound(start), stride > 0 ? lowest : highest);
  const int64_t end = place(bound(stop), stride > 0 ? highest : lowest);
  const int64_t distance = stride > 0 ? end - first : first - end;
  // |step| as unsigned: the smallest integer has no negative.
  const uint64_t pace = stride > 0 ? static_cast<uint64_t>(stride) : 0 - static_cast<uint64_t>(stride);
  const uint64_t taken = distance <= 0 ? 0 : (static_cast<uint64_t>(distance) - 1) / pace + 1;
  budget.step(static_cast<int64_t>(taken));
  std::u32string slice;
  std::vector<Value> items;
  for (uint64_t i = 0; i < taken; ++i) {
    // Fits: all places lie inside.
    const auto at = static_cast<size_t>(first + static_cast<int64_t>(i) * stride);
    if (text != nullptr) {
      slice += characters[at];
    } else {
      items.push_back(sequence->items[at]);
    }
  }
  if (text != nullptr) return make_text(budget, to_utf8(slice), text->markup);
  Range range;
  if (sequence->kind == Sequence::Kind::kRange) {
    const Range& of = sequence->range;
    const auto value = [&](int64_t at) {
      return *integer_arithmetic("+", of.start, *integer_arithmetic("*", at, of.step).integer()).integer();
    };
    range = {value(first), value(end), *integer_arithmetic("*", of.step, stride).integer()};
  }
  return std::make_shared<const Sequence>(budget, sequence->kind, std::move(items), range);
}

int64_t length(Budget& budget, const Value& value) {
  if (value.is_undefined()) return 0;
  if (const Text* text = value.text()) {
    budget.work(text->bytes.size());
    return static_cast<int64_t>(count_characters(text->bytes));
  }
  if (const Dict* dict = value.dict()) return static_cast<int64_t>(dict->entries().size());
  if (const Loop* loop = value.loop()) return static_cast<int64_t>(loop->items.size());
  if (const Sequence* sequence = value.sequence(); sequence != nullptr && sequence->kind != Sequence::Kind::kIterator) {
    return static_cast<int64_t>(sequence->items.size());
  }
  fail<OperationError>("a value of type '{}' has no length{}", value.type_name(),
                       value.sequence() != nullptr ? "; make it a list first: |list" : "");
}

}  // namespace octet::jinja
